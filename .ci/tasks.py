"""Scores of runs of hnet_finetune as one table, and learning curves of a classifier.

    python .ci/tasks.py RUN ...                       writes nbs/results/tasks.csv
    python .ci/tasks.py --curve topics.tsv --test dev.tsv --label-column category   writes nbs/results/curve.csv"""
import argparse
import contextlib
import io
import time
from pathlib import Path
import numpy as np
import pandas as pd
import torch
from hnet_amharic.classify import Classifier, classifier_learner, label_scores, textbook_probs
from hnet_amharic.files import read_json, write_text
from hnet_amharic.model import build_model, load_default
from hnet_amharic.runs import read_run_options
from hnet_amharic.tasks import read_labelled

def rows_of(run:Path):
    "A row for each part of a run."
    options = read_run_options(run)
    data = '/'.join(Path(options['data']).parts[-2:])
    for part, scores in read_json(run/'scores.json').items():
        yield dict(task=options['task'], data=data, how=options['how'] or 'gradual', epochs=options['epochs'], part=part, **scores)

def measured(train, valid, test, body, seed):
    "Scores of the network, of n-grams, of both, and of the baseline."
    learn = classifier_learner(train, valid, body, seed=seed, how='full', progress=False, device='cpu')
    with contextlib.redirect_stdout(io.StringIO()):
        learn.fine_tune(8 if len(train)<200 else 5 if len(train)<500 else 3)
    judge = Classifier(learn.model, learn.about).fit_ngrams(train, valid)
    network, ngrams = judge.parts([e.x for e in test])
    parts = {'network': network.softmax(-1).numpy(), 'n-grams': ngrams.softmax(-1).numpy(), 'both': judge.probs([e.x for e in test])}
    parts['baseline'] = textbook_probs(train, [e.x for e in test], judge.labels, False)
    return {part: label_scores(p, test, judge.labels, False) for part, p in parts.items()}

def curve(a):
    "Rows of the learning curve; the file grows with each, so that what is done stays."
    train, test = (read_labelled(file, label_column=a.label_column) for file in (a.curve, a.test))
    found = []
    for seed in range(a.seeds):
        order = np.random.default_rng(seed).permutation(len(train))
        for size in a.sizes:
            some = [train[i] for i in order[:size]]
            valid = [train[i] for i in order[size:size+max(60, size//10)]] or some[:60]
            names = {label for e in some for label in e.y}
            valid = [e for e in valid if set(e.y)<=names]
            for weights in ('shipped', 'random'):
                torch.manual_seed(seed)
                body = load_default() if weights=='shipped' else build_model(load_default().cfg)
                start = time.perf_counter()
                for part, scores in measured(some, valid, [e for e in test if set(e.y)<=names], body, seed).items():
                    if part in ('network', 'both') or weights=='shipped':
                        found.append(dict(examples=size, seed=seed, part=part, weights='' if part in ('n-grams', 'baseline') else weights, **scores,
                                          minutes=(time.perf_counter()-start)/60))
                        print(found[-1], flush=True)
                write_text(Path(a.out or 'nbs/results/curve.csv').resolve(), pd.DataFrame(found).round(4).to_csv(index=False))

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('runs', nargs='*', type=Path, help='folders of hnet_finetune')
    p.add_argument('--curve', help='labelled file to learn from')
    p.add_argument('--test', help='labelled file to test on')
    p.add_argument('--label-column', default='')
    p.add_argument('--sizes', nargs='+', type=int, default=[100, 300, 1000])
    p.add_argument('--seeds', type=int, default=3)
    p.add_argument('--out', default='')
    a = p.parse_args()
    if a.curve:
        return curve(a)
    rows = [row for run in a.runs for row in rows_of(run)]
    write_text(Path(a.out or 'nbs/results/tasks.csv').resolve(), pd.DataFrame(rows).round(4).to_csv(index=False))

if __name__=='__main__':
    main()

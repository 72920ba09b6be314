"""Scores of runs of hnet_finetune as one table, learning curves of a classifier, and translation by phrases alone.

    python .ci/tasks.py RUN ...                       writes nbs/results/tasks.csv
    python .ci/tasks.py --curve topics.tsv --test dev.tsv --label-column category --task topic
                                                      adds the task to nbs/results/curve.csv
    python .ci/tasks.py --phrases FOLDER              translates the dev files of FOLDER/parallel, both ways, with phrase
                                                      books of its training files: nbs/results/phrases.csv"""
import argparse
import csv
import time
from pathlib import Path
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from hnet_amharic.classify import (Calibration, LabelLoss, NGramClassifier, PooledHead, label_names, label_scores,
                                   logistic_regression, pooled_states, targets_of, text_bytes, textbook_probs)
from hnet_amharic.files import read_json, write_text
from hnet_amharic.finetune import HeadedModel
from hnet_amharic.model import build_model, load_default
from hnet_amharic.runs import read_run_options
from hnet_amharic.pairs import text_scores
from hnet_amharic.phrases import PhraseBook
from hnet_amharic.task_cli import EPOCHS
from hnet_amharic.tasks import Example, read_labelled

def rows_of(run:Path):
    "A row for each part of a run."
    options = read_run_options(run)
    data = '/'.join(Path(options['data']).parts[-2:])
    trained = f"{options['minutes']:g} minutes" if options['minutes'] else f"{options['epochs'] or EPOCHS[options['task']]} epochs"
    for part, scores in read_json(run/'scores.json').items():
        how = options['how'] or 'gradual'
        how += ', with drafts' if (run/'model/phrases.json').exists() else ''
        how += ', the language adapted first' if options.get('adapt_epochs') else ''
        yield dict(task=options['task'], data=data, how=how, trained=trained, part=part, **scores)

def held(size:int) -> int:
    "How many examples weigh network against n-grams, beside `size` to learn from."
    return max(60, size//10)

def scored(train, valid, test, names, many, states) -> dict: # examples with their numbers; {name of weights: states of all}
    "Scores of a head on frozen states, of n-grams, of both, and of the baseline."
    (at, learn), (at_valid, check), (at_test, judge) = (zip(*part) for part in (train, valid, test))
    y, y_valid = (targets_of(part, names, many) for part in (learn, check))
    loss = LabelLoss(y)
    ngrams = NGramClassifier(names).fit(learn)
    counted = [ngrams.logits([e.x for e in part]) for part in (check, judge)]
    parts = {('n-grams', ''): [counted]}
    for name, x in states.items():
        weight, bias = logistic_regression(x[list(at)], y, loss, len(names))
        read = [F.linear(x[list(part)], weight, bias) for part in (at_valid, at_test)]
        parts |= {('network', name): [read], ('both', name): [read, counted]}
    found = {}
    for key, logits in parts.items():
        checked, judged = zip(*logits)
        calibration = Calibration(many).fit(checked, y_valid)
        found[key] = label_scores(calibration.probs(judged), calibration, judge, names)
    textbook = textbook_probs(learn, [e.x for e in judge], names, many)
    found['baseline', ''] = label_scores(textbook, Calibration(many), judge, names)
    return found

def curve(a):
    "The learning curve of a classifier on frozen states, as a file."
    columns = dict(text_column=a.text_column, label_column=a.label_column)
    train, test = (read_labelled(file, **columns) for file in (a.curve, a.test))
    names, many = label_names(train)
    states = {}
    for name in ('shipped', 'random'):
        torch.manual_seed(0)
        body = load_default() if name=='shipped' else build_model(load_default().cfg)
        model = HeadedModel(body, PooledHead(body.cfg.d_byte, len(names))).eval()
        states[name] = pooled_states(model, [text_bytes(e.x, 512) for e in train+test], progress=True)
    found = []
    for seed in range(a.seeds):
        order = np.random.default_rng(seed).permutation(len(train))
        for size in (*a.sizes, len(train)):
            size = min(size, len(train)-held(size))
            some = [(i, train[i]) for i in order[:size]]
            known = sorted({label for _, e in some for label in e.y})
            valid = [(i, train[i]) for i in order[size:size+held(size)] if set(train[i].y)<=set(known)]
            rest = [(len(train)+i, e) for i, e in enumerate(test) if set(e.y)<=set(known)]
            for (part, weights), scores in scored(some, valid, rest, known, many, states).items():
                found.append(dict(task=a.task, examples=size, seed=seed, part=part, weights=weights, **scores))
                print(found[-1], flush=True)
    out = Path(a.out or 'nbs/results/curve.csv').resolve()
    others = [pd.read_csv(out)] if out.exists() else []
    others = [table[table.task!=a.task] for table in others]
    write_text(out, pd.concat([*others, pd.DataFrame(found).round(4)]).to_csv(index=False))

def phrases(folder:Path, out:str):
    "Scores of phrase books, both ways, as a file."
    def rows(name:str) -> pd.DataFrame:
        return pd.read_csv(folder/f'{name}.tsv', sep='\t', quoting=csv.QUOTE_NONE, keep_default_na=False)
    known = dict(software=rows('software_train'), prose=rows('prose_train'))
    known['prose and software'] = pd.concat(known.values())
    found = []
    for learned, judged in (('software', 'software_dev'), ('prose', 'prose_dev'), ('prose and software', 'prose_dev')):
        table, dev = known[learned], rows(judged)
        for source, target in (('english', 'amharic'), ('amharic', 'english')):
            asked, wanted = list(dev[source]), list(dev[target])
            examples = [Example(x, y, '') for x, y in zip(table[source], table[target])]
            for seed in range(3):
                order = np.random.default_rng(seed).permutation(len(examples))
                for size in (100, 300, 1000, 3000, len(examples)):
                    if seed and size==len(examples):                             # all of them in any order
                        continue
                    start = time.time()
                    book = PhraseBook.fit([examples[i] for i in order[:size]])
                    took = time.time()-start
                    found.append(dict(learned=learned, judged=judged, into=target, pairs=size, seed=seed,
                                      phrases=len(book.phrases), seconds=round(took, 1),
                                      copied=text_scores(asked, wanted)['chrf'],
                                      **text_scores(book.predict(asked), wanted)))
                    print(found[-1], flush=True)
    write_text(Path(out or 'nbs/results/phrases.csv').resolve(), pd.DataFrame(found).round(4).to_csv(index=False))

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('runs', nargs='*', type=Path, help='folders of hnet_finetune')
    p.add_argument('--curve', help='labelled file to learn from')
    p.add_argument('--phrases', type=Path, help='folder of data for tasks')
    p.add_argument('--test', help='labelled file to test on')
    p.add_argument('--text-column', default='')
    p.add_argument('--label-column', default='')
    p.add_argument('--task', default='', help='what the rows of the curve are called')
    p.add_argument('--sizes', nargs='+', type=int, default=[100, 300, 1000])
    p.add_argument('--seeds', type=int, default=3)
    p.add_argument('--out', default='')
    a = p.parse_args()
    if a.curve:
        return curve(a)
    if a.phrases:
        return phrases(a.phrases/'parallel', a.out)
    rows = [row for run in a.runs for row in rows_of(run)]
    write_text(Path(a.out or 'nbs/results/tasks.csv').resolve(), pd.DataFrame(rows).round(4).to_csv(index=False))

if __name__=='__main__':
    main()

"""Spelling and Latin typing, measured on text that was not trained on.

    python .ci/tools.py --data FOLDER     writes nbs/results/tools.csv; FOLDER as for make weights"""
import argparse
import csv
import itertools
import random
import time
from collections import Counter
from pathlib import Path
import pandas as pd
from rapidfuzz import process
from rapidfuzz.distance import OSA
from hnet_amharic.files import write_text
from hnet_amharic.mix import mix_path, read_mix, source_texts
from hnet_amharic.model import load_default
from hnet_amharic.pairs import text_scores
from hnet_amharic.spell import Speller, blunt_slips, is_fidel, spelling_scores, words_of
from hnet_amharic.tasks import read_examples, read_pairs
from hnet_amharic.text import normalize
from hnet_amharic.typing import latinized, sera, type_amharic
from suggest import lines_of
from weights import registers

class WordList:
    "The usual checker: words that were never seen become the most frequent word within a change or two."
    def __init__(self, texts, least=3):
        counts = Counter(line[a:b] for text in texts for line in text.split('\n') for a, b in words_of(line))
        self.counts = {word: n for word, n in counts.items() if n>=least}
        self.by_size = {}
        for word in self.counts:
            self.by_size.setdefault(len(word), []).append(word)

    def best(self, word):
        "The word itself, or what it is most likely to be."
        if word in self.counts or len(word)<3 or not all(map(is_fidel, word)):
            return word
        for changes in (1, 2):
            near = [m[0] for n in range(len(word)-changes, len(word)+changes+1) for m in process.extract(
                word, self.by_size.get(n, []), scorer=OSA.distance, score_cutoff=changes, limit=20)]
            if near:
                return max(near, key=self.counts.get)
        return word

    def mend(self, text):
        "A text with every unknown word replaced."
        for a, b in reversed(words_of(text)):
            text = text[:a]+self.best(text[a:b])+text[b:]
        return text

def spelling(data:Path, lines:dict, n:int):
    "Rows of the table on spelling."
    speller, plain = Speller(), WordList(text for s in read_mix(mix_path('broad')) for text in source_texts(s, data))
    pairs = read_pairs(data/'tasks/spelling/dev.tsv', 'noisy', 'clean')
    random.Random(0).shuffle(pairs)
    sets = {'newspapers, noise of another maker': ([e.x for e in pairs[:2*n]], [e.y for e in pairs[:2*n]])}
    for name in ('newspapers', 'encyclopedia', 'own text'):
        clean = [normalize(line) for line in lines[name][:n]]
        sets[f'{name}, blunt slips'] = [blunt_slips(t, random.Random(i)) for i, t in enumerate(clean)], clean
    for name, (noisy, clean) in sets.items():
        start = time.perf_counter()
        ours = {text: speller(text) for text in noisy}
        seconds = (time.perf_counter()-start)/sum(len(text.split()) for text in noisy)
        for threshold in (.5, .9, .98):
            speller.threshold = threshold
            found = spelling_scores(lambda t: speller.applied(t, ours[t]), noisy, clean)
            base = spelling_scores(plain.mend, noisy, clean) if threshold==.9 else {}
            yield dict(tool='spelling', text=name, threshold=threshold, **found, seconds_per_word=seconds,
                       baseline_precision=base.get('precision'), baseline_f1=base.get('f1'))
    clean = [e.x for e in read_examples('classify')][:4*n]
    words = sum(len(text.split()) for text in clean)
    found = [c for text in clean for c in speller(text)]
    for c in found:
        print('false alarm?', c.typed, c.meant, round(c.prob, 3), flush=True)
    for threshold in (.5, .9, .98):
        alarms = sum(c.prob>=threshold for c in found)
        yield dict(tool='spelling', text='text of this project, clean', threshold=threshold, false_per_1000=1000*alarms/words, slips=0)

def typing(lines:dict, n:int):
    "Rows of the table on Latin typing."
    model = load_default()
    with open('tests/latin.tsv', encoding='utf8', newline='') as f:
        typed = list(csv.DictReader(f, delimiter='\t', quoting=csv.QUOTE_NONE))
    sets = {'typed by hand': ([row['latin'] for row in typed], [row['amharic'] for row in typed])}
    for name, texts in lines.items():
        wanted = [normalize(text) for text in texts[:n]]
        sets[name] = [latinized(text, random.Random(i)) for i, text in enumerate(wanted)], wanted
    for name, (latin, wanted) in sets.items():
        start = time.perf_counter()
        ours = [type_amharic(text, model) for text in latin]
        seconds = (time.perf_counter()-start)/len(latin)
        def errors(guesses, fold=False):
            return text_scores(*([normalize(t, fold_homophones=fold) for t in part] for part in (guesses, wanted)))['character_error']
        yield dict(tool='typing', text=name, lines=len(latin), errors=errors(ours), folded=errors(ours, True),
                   baseline=errors(list(map(sera, latin))), seconds_per_line=seconds)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data', required=True, help='folder that the paths of the mix begin in')
    p.add_argument('--lines', type=int, default=25, help='of each register')
    p.add_argument('--tools', nargs='+', default=['typing', 'spelling'], help='the rows of others stay')
    p.add_argument('--out', default='nbs/results/tools.csv')
    a = p.parse_args()
    _, measured = registers(Path(a.data), 100_000)
    lines = {name: lines_of(docs, a.lines) for name, docs in measured.items()}
    makers = dict(typing=lambda: typing(lines, a.lines//2), spelling=lambda: spelling(Path(a.data), lines, a.lines))
    out = Path(a.out).resolve()
    rows = [row for row in pd.read_csv(out).to_dict('records') if row['tool'] not in a.tools] if out.exists() else []
    for row in itertools.chain(*(makers[tool]() for tool in a.tools)):
        print(row, flush=True)
        rows.append(row)
    write_text(out, pd.DataFrame(rows).round(4).to_csv(index=False))

if __name__=='__main__':
    main()

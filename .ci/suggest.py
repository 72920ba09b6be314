"""Keystrokes that suggestions save on text that was not trained on, against the most frequent words of the training text.

    python .ci/suggest.py --data FOLDER     writes nbs/results/suggest.csv; FOLDER as for make weights"""
import argparse
import time
from pathlib import Path
import pandas as pd
from hnet_amharic.files import write_text
from hnet_amharic.mix import mix_path, read_mix, source_texts
from hnet_amharic.model import load_default
from hnet_amharic.suggest import FrequencyList, Suggester, keystrokes
from weights import registers

def lines_of(docs, n:int) -> list: # of str
    "Evenly spread lines of 30 to 200 characters, cut at 80."
    lines = [line.strip()[:80] for text in docs.texts() for line in text.split('\n') if 30<=len(line.strip())<=200]
    return lines[::max(1, len(lines)//n)][:n]

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data', required=True, help='folder that the paths of the mix begin in')
    p.add_argument('--lines', type=int, default=12, help='of each register')
    p.add_argument('--out', default='nbs/results/suggest.csv')
    a = p.parse_args()
    _, measured = registers(Path(a.data), 100_000)
    plain = FrequencyList([text for source in read_mix(mix_path('broad')) for text in source_texts(source, a.data)])
    suggesting = Suggester(load_default())
    waits = []
    def timed(text):
        "Suggestions; the wait is kept."
        start = time.perf_counter()
        found = suggesting(text)
        waits.append(time.perf_counter()-start)
        return found
    rows = []
    for name, docs in measured.items():
        lines = lines_of(docs, a.lines)
        waits.clear()
        (strokes, chars), (by_list, _) = keystrokes(timed, lines), keystrokes(plain, lines)
        median = sorted(waits)[len(waits)//2]
        rows.append(dict(register=name, lines=len(lines), chars=chars, saved=1-strokes/chars,
                         saved_by_list=1-by_list/chars, median_seconds=median))
        print(rows[-1], flush=True)
    write_text(Path(a.out).resolve(), pd.DataFrame(rows).round(4).to_csv(index=False))

if __name__=='__main__':
    main()

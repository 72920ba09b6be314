"""Ways to fine-tune and their rates, compared on the package's own examples: writes nbs/results/how.csv.

    python .ci/how.py [--tasks pairs instruct tag] [--epochs 2] [--seeds 1]

Every run starts from the shipped model and has the same examples, held out the same way. A row holds the best validation
of the run, as `fine_tune` would take its weights.
"""
import argparse
import contextlib
import io
import time
from pathlib import Path
import pandas as pd
from hnet_amharic.files import write_text
from hnet_amharic.model import load_default
from hnet_amharic.task_cli import LEARNERS, held_out
from hnet_amharic.tasks import read_examples

RATES = dict(full=(1e-3, 3e-4), gradual=(1e-3, 3e-4), adapters=(2e-3, 6e-4))
LENGTH = dict(tag=1024)

def best_of(task:str, how:str, lr:float, seed:int, epochs:int) -> dict:
    "A run, as a row."
    train, valid = held_out(read_examples(task), .2, 0)
    learn = LEARNERS[task](train, valid, load_default(), how=how, lr=lr, seed=seed, progress=False, device='cpu',
                           length=LENGTH.get(task, 512))
    begun = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        learn.fine_tune(epochs)
    bits = [row[1] for row in learn.recorder.values]             # by epoch
    return dict(task=task, how=how, lr=lr, seed=seed, epochs=epochs, best_epoch=1+bits.index(min(bits)),
                bits=min(bits), last_bits=bits[-1], cpu_seconds=time.process_time()-begun)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--tasks', nargs='+', default=['pairs', 'instruct', 'tag'])
    p.add_argument('--epochs', type=int, default=2)
    p.add_argument('--seeds', type=int, default=1)
    p.add_argument('--out', type=Path, default=Path(__file__).resolve().parent.parent/'nbs'/'results'/'how.csv')
    a = p.parse_args()
    rows = []
    plan = [(task, how, lr, seed) for task in a.tasks for how, rates in RATES.items() for lr in rates for seed in range(a.seeds)]
    for task, how, lr, seed in plan:
        rows.append(best_of(task, how, lr, seed, a.epochs))
        print(rows[-1], flush=True)
        write_text(a.out, pd.DataFrame(rows).round(5).to_csv(index=False))

if __name__=='__main__':
    main()

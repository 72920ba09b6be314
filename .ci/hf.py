"""Speed of `generate` of transformers on the shipped model beside ours: the same greedy text, in turns, on one thread; by processor time, which other work on the machine does not change much.

    python .ci/hf.py                       writes nbs/results/hf.csv"""
import argparse
import time
from pathlib import Path
from statistics import median
import pandas as pd
import torch
from hnet_amharic.files import write_text
from hnet_amharic.generation import STANDARD_PROMPTS, generate
from hnet_amharic.hf import HNetForCausalLM, HNetTokenizer, HNetTransformersConfig
from hnet_amharic.model import load_default

def both(cfg_of):
    "Our model and its wrapper, with one set of weights."
    theirs = HNetForCausalLM(HNetTransformersConfig(cfg_of.cfg.to_dict())).eval()
    theirs.load_state_dict(cfg_of.state_dict())
    return cfg_of, theirs

def written(prompts, texts):
    "Bytes behind the prompts."
    return sum(len(text.encode())-len(prompt.encode()) for prompt, text in zip(prompts, texts))

def timed(f):
    "Seconds of one processor, and what f gave."
    start = time.process_time()
    out = f()
    return time.process_time()-start, out

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--chars', type=int, default=60)
    p.add_argument('--turns', type=int, default=5)
    p.add_argument('--out', default='nbs/results/hf.csv')
    a = p.parse_args()
    torch.set_num_threads(1)
    ours, theirs = both(load_default())
    tokenizer = HNetTokenizer()
    rows = []
    for n in (1, 8):
        prompts = [f'{prompt} ' for prompt in STANDARD_PROMPTS[-n:]]
        batch = tokenizer(prompts, padding=True, return_tensors='pt')
        speeds = dict(ours=[], transformers=[])
        for _ in range(a.turns+1):
            seconds, texts = timed(lambda: generate(ours, prompts, a.chars, temperature=0))
            speeds['ours'].append(written(prompts, texts)/seconds)
            longest = max(written([p], [t]) for p, t in zip(prompts, texts))
            seconds, ids = timed(lambda: theirs.generate(**batch, max_new_tokens=longest, do_sample=False))
            speeds['transformers'].append((ids[:,batch.input_ids.shape[1]:]<245).sum().item()/seconds)
        for program, found in speeds.items():
            rows.append(dict(program=program, rows=n, bytes_per_second=round(median(found[1:]), 1)))
        rows[-1]['share_of_ours'] = round(median(t/o for o, t in zip(speeds['ours'][1:], speeds['transformers'][1:])), 2)
        print(rows[-2:], flush=True)
    write_text(Path(a.out).resolve(), pd.DataFrame(rows).to_csv(index=False))

if __name__=='__main__':
    main()

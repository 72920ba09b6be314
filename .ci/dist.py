"""What several processes bring on this machine, and what packing text takes.

    python .ci/dist.py train            writes nbs/results/distributed.csv
    python .ci/dist.py pack [MB ...]    writes nbs/results/packing.csv"""
import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path
import numpy as np
import pandas as pd
import torch
from hnet_amharic.config import PACKAGE, HNetConfig
from hnet_amharic.data import ByteCorpus, Filters
from hnet_amharic.distributed import distribute, gather, gather_rows, mean_of_all, process_group
from hnet_amharic.files import write_text
from hnet_amharic.memory import peak_rss
from hnet_amharic.model import build_model
from hnet_amharic.profile import StepClock
from hnet_amharic.training import hnet_learner
from hnet_amharic.windows import get_dls, processes

RESULTS = Path(__file__).resolve().parent.parent/'nbs'/'results'

def one_run(model:str, batch:int, steps:int, shard:int) -> dict:
    "Train in this process, with the others of the group unless `shard` is 0."
    torch.manual_seed(0)
    text = ByteCorpus.build(PACKAGE/'sample')
    dls = get_dls(text, text, batch, 512, steps_per_epoch=steps, valid_windows=1, device='cpu')
    clock = StepClock()
    learn = hnet_learner(dls, build_model(HNetConfig.preset(model)), 1e-4, recipe='fp32', progress=False, cbs=clock)
    if shard:
        distribute(learn, shard)
    with open(os.devnull, 'w') as nowhere, redirect_stdout(nowhere):
        learn.fit_wsd(1) if shard else fit_apart(learn)
    seconds = np.add(clock.passes, clock.updates)[steps//3:]
    return dict(seconds=float(np.median(seconds)), tables=tables(learn.model) if shard else None)

def fit_apart(learn):
    "Train apart from the other processes: what they take without waiting for each other."
    world = os.environ.pop('WORLD_SIZE', None)
    learn.fit_wsd(1)
    if world:
        os.environ['WORLD_SIZE'] = world

def tables(model) -> dict:
    "Seconds to share the gradient of the hashed tables: touched rows, and all rows."
    table = model.embedding.ngram.tables.weight
    rows = torch.randint(len(table), (4*512*4,)).unique()
    grad = torch.sparse_coo_tensor(rows[None], torch.randn(len(rows), table.shape[1]), table.shape)
    out = {}
    for name, share in dict(touched=lambda: gather_rows(grad), all=lambda: mean_of_all(grad.to_dense())).items():
        times = []
        for _ in range(5):
            begun = time.perf_counter()
            share()
            times.append(time.perf_counter()-begun)
        out[name] = float(np.median(times))
    return out

def worker(plan:str):
    "What torchrun starts: one measurement, written by the first process."
    given = json.loads(plan)
    torch.set_num_threads(given.pop('threads'))
    file = given.pop('file')
    with process_group('cpu'):
        found = one_run(**given)
        if processes()[0]==0:
            Path(file).write_text(json.dumps(found))
        gather(None)

def measure(n:int, threads:int, shard:int, model:str, batch:int, steps:int) -> dict:
    "Seconds of a step in `n` processes."
    with tempfile.TemporaryDirectory() as folder:
        plan = dict(threads=threads, shard=shard, model=model, batch=batch, steps=steps, file=f'{folder}/found')
        env = {**os.environ, 'OMP_NUM_THREADS': str(threads), 'HNET_TIMEOUT': '300'}
        command = [sys.executable, '-W', 'ignore', '-m', 'torch.distributed.run', '--nproc-per-node', str(n), '--rdzv-backend', 'c10d',
                   '--rdzv-endpoint', 'localhost:0', __file__, 'worker', json.dumps(plan)]
        subprocess.run(command, env=env, check=True)
        return json.loads(Path(f'{folder}/found').read_text())

def train(model:str, batch:int, steps:int):
    "Bytes a second in one process and in two with the same threads together, and what communication takes."
    cores = 2
    rows = []
    apart = measure(2, 1, 0, model, batch, steps)['seconds']
    for n, threads, shard in ((1, cores, 1), (2, 1, 1), (2, 1, 2)):
        found = measure(n, threads, shard, model, batch, steps)
        row = dict(model=model, processes=n, threads=threads, shard=shard, batch=batch, length=512,
                   bytes_per_s=round(batch*512/found['seconds']), seconds=round(found['seconds'], 4))
        if n>1:
            row['communication'] = round(max(0., 1-apart/found['seconds']), 3)
            row.update({f'tables_{k}_ms': round(1e3*v, 2) for k, v in found['tables'].items()})
        rows.append(row)
        print(row, flush=True)
    write_text(RESULTS/'distributed.csv', pd.DataFrame(rows).to_csv(index=False))

def pack_one(folder:str, workers:int) -> dict:
    "Pack in this process and its children: seconds, and the largest memory of one of them beyond what it began with."
    before = peak_rss()
    cpu = time.process_time()
    begun = time.perf_counter()
    corpus = ByteCorpus.build(folder, cache_dir=f'{folder}-cache', filters=Filters(), workers=workers)
    seconds = time.perf_counter()-begun
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    child = used[1].ru_maxrss*1024
    return dict(seconds=seconds, cpu=sum(u.ru_utime+u.ru_stime for u in used)-cpu, documents=len(corpus), memory=max(peak_rss(), child)-before)

def pack(sizes:list):
    "MB a second and memory for texts of growing size."
    rng = random.Random(0)
    words = ' '.join(p.read_text() for p in sorted((PACKAGE/'sample').glob('*.txt'))).split()
    rows = []
    for size in sizes:
        for workers in (1, 2)[:1+(size==sizes[-1])]:
            with tempfile.TemporaryDirectory() as base:
                folder = Path(base)/'text'
                folder.mkdir()
                for i in range(8):
                    with open(folder/f'{i}.txt', 'w') as f:
                        while f.tell()<size*1e6/8:
                            start = rng.randrange(len(words)-300)
                            f.write(f'{rng.random()} '+' '.join(words[start:start+300])+'\n\n')
                code = f'import sys, json; sys.path.insert(0, {str(Path(__file__).parent)!r}); from dist import pack_one; ' \
                       f'print(json.dumps(pack_one({str(folder)!r}, {workers})))'
                done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True, check=True)
                found = json.loads(done.stdout.strip().split('\n')[-1])
            rows.append(dict(MB=size, files=8, processes=workers, documents=found['documents'],
                             MB_per_s=round(size/found['seconds'], 1), MB_per_cpu_s=round(size/found['cpu'], 1), memory_MB=round(found['memory']/1e6, 1)))
            print(rows[-1], flush=True)
    write_text(RESULTS/'packing.csv', pd.DataFrame(rows).to_csv(index=False))

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('what', choices=('train', 'pack', 'worker'))
    p.add_argument('rest', nargs='*')
    p.add_argument('--model', default='nano')
    p.add_argument('--batch', type=int, default=4)
    p.add_argument('--steps', type=int, default=9)
    given = p.parse_args()
    if given.what=='worker':
        worker(given.rest[0])
    elif given.what=='train':
        train(given.model, given.batch, given.steps)
    else:
        pack([float(size) for size in given.rest] or [50, 200, 1000])

"""A server with the shipped model under load: one client, then many for a minute, while others leave early and send garbage.

    python .ci/serve.py     writes nbs/results/serve.csv; each text that is compared must be what `generate` writes alone"""
import argparse
import asyncio
import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path
import httpx
import numpy as np
import pandas as pd
from hnet_amharic.files import write_text
from hnet_amharic.generation import STANDARD_PROMPTS, generate
from hnet_amharic.model import load_default

START = 'from hnet_amharic.api import hnet_serve; hnet_serve()'

def started(threads:int):
    "A server in a process of its own, and its address."
    env = {**os.environ, 'OMP_NUM_THREADS': str(threads), 'MKL_NUM_THREADS': str(threads)}
    p = subprocess.Popen([sys.executable, '-c', START, '--port', '0', '--device', 'cpu'], env=env, stdout=subprocess.PIPE,
                         text=True, encoding='utf8')
    said = p.stdout.readline()
    found = re.search(r'http://[\d.]+:\d+', said)
    if not found:
        sys.exit(f'serve: the server did not start: {said}')
    return p, found[0]

def wish(i:int) -> dict:
    "The i-th request."
    draw = random.Random(i)
    return dict(prompt=draw.choice(STANDARD_PROMPTS), max_tokens=draw.randint(40, 120), temperature=.8, seed=i)

async def ask(client, address:str, i:int, rows:list):
    "One streamed request; a row with its text and its waits, or with what went wrong."
    row = dict(i=i, begun=time.perf_counter(), text='', error='')
    try:
        async with client.stream('POST', address+'/v1/completions', json=dict(wish(i), stream=True)) as r:
            if r.status_code!=200:
                row['error'] = f'status {r.status_code}'
            ended = False
            async for line in r.aiter_lines():
                if line=='data: [DONE]':
                    ended = True
                elif line.startswith('data: '):
                    row['text'] += json.loads(line[6:])['choices'][0]['text']
                    row.setdefault('first', time.perf_counter()-row['begun'])
            row['error'] = row['error'] or '' if ended else row['error'] or 'cut off'
    except httpx.HTTPError as e:
        row['error'] = type(e).__name__
    row['full'] = time.perf_counter()-row['begun']
    rows.append(row)

async def trouble(client, address:str, until:float, heard:dict):
    "Clients that leave in the middle, send garbage, and send 10 MB."
    while time.perf_counter()<until:
        async with client.stream('POST', address+'/v1/completions', json=dict(prompt='ሰላም', stream=True)) as r:
            async for _ in r.aiter_lines():
                break
        heard['left'] = heard.get('left', 0)+1
        for body in (b'{"prompt": ', b'\xff\xfe', b'{"prompt": "'+b'a'*10_000_000+b'"}'):
            r = await client.post(address+'/v1/completions', content=body, headers={'Content-Type': 'application/json'})
            heard[r.status_code] = heard.get(r.status_code, 0)+1
        await asyncio.sleep(2)

async def load(address:str, n:int, seconds:float, first:int, disturb:bool) -> tuple: # rows, what was heard
    "n clients, each with one request after the other for so many seconds; what has begun is finished."
    rows, heard, count = [], {}, iter(range(first, 10**9))
    until = time.perf_counter()+seconds
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(timeout=300, limits=limits) as client:
        async def run():
            while time.perf_counter()<until:
                await ask(client, address, next(count), rows)
        others = [trouble(client, address, until, heard)] if disturb else []
        await asyncio.gather(*(run() for _ in range(n)), *others)
    return rows, heard

def summary(rows:list, n:int, threads:int) -> dict:
    "A row of the table. Rates are those of the whole time, its end with fewer and fewer clients included."
    good = [r for r in rows if not r['error']]
    took = max(r['begun']+r['full'] for r in rows)-min(r['begun'] for r in rows)
    written = sum(len(r['text'].encode()) for r in rows)
    first, full = ([r[k] for r in good] for k in ('first', 'full'))
    return dict(clients=n, threads=threads, seconds=took, requests=len(rows), errors=len(rows)-len(good),
                requests_per_s=len(good)/took, bytes_per_s=written/took, first_p50=np.median(first),
                first_p95=np.quantile(first, .95), full_p50=np.median(full), full_p95=np.quantile(full, .95))

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--clients', type=int, default=64)
    p.add_argument('--seconds', type=float, default=60)
    p.add_argument('--alone', type=float, default=20, help='seconds of the one client before')
    p.add_argument('--compare', type=int, default=24, help='texts that are written again, alone')
    p.add_argument('--threads', type=int, default=os.cpu_count(), help='of the server; fewer where others use the machine')
    p.add_argument('--out', default='nbs/results/serve.csv')
    a = p.parse_args()
    server, address = started(a.threads)
    try:
        asyncio.run(load(address, 1, 2, 10**8, False))                       # warm
        one, _ = asyncio.run(load(address, 1, a.alone, 10**6, False))
        many, heard = asyncio.run(load(address, a.clients, a.seconds, 0, True))
        health = httpx.get(address+'/health').json()['status']
    finally:
        server.terminate()
        server.wait()
    table = [summary(one, 1, a.threads), summary(many, a.clients, a.threads)]
    for row in table:
        row['ratio'] = row['bytes_per_s']/table[0]['bytes_per_s']
    model = load_default('cpu')
    chosen = random.Random(0).sample([r for r in many if not r['error']], min(a.compare, len(many)))
    same = 0
    for row in chosen:
        asked = wish(row['i'])
        alone = generate(model, asked['prompt'], asked['max_tokens'], temperature=.8, seed=row['i'])
        same += alone==asked['prompt']+row['text']
    table[1] |= dict(compared=len(chosen), same=same, disturbed=sum(heard.values()))
    print(pd.DataFrame(table).round(3).T.to_string())
    print(f'disturbances: {heard}; health afterwards: {health}')
    write_text(Path(a.out).resolve(), pd.DataFrame(table).round(3).to_csv(index=False))

if __name__=='__main__':
    main()

"""What an installation without extras takes on disk, and how long its imports take.

    python .ci/install.py     writes nbs/results/install.csv

Builds the wheel, installs it into a new environment, and measures there. Imports are seconds of the
processor, the best of five processes, so that other work on the machine does not count."""
import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
SIZES = '''
import json, re
from importlib.metadata import distributions
sizes = {}
for d in distributions():
    files = [f.locate() for f in d.files or ()]
    name = re.sub('[-_.]+', '-', d.metadata['Name']).lower()
    sizes[name] = sum(f.stat().st_size for f in files if f.is_file())
print(json.dumps(sizes))
'''
IMPORTS = {'torch': 'import torch', 'torch and fastai.learner': 'import torch, fastai.learner',
           'hnet_amharic': 'import hnet_amharic', 'hnet_amharic.model': 'import hnet_amharic.model',
           'hnet_amharic.generation': 'import hnet_amharic.generation', 'hnet_amharic.cli': 'import hnet_amharic.cli',
           'every module that needs no extra': 'import contextlib, importlib, pkgutil, hnet_amharic\n'
           'for m in pkgutil.iter_modules(hnet_amharic.__path__):\n'
           '    with contextlib.suppress(ImportError):\n'
           '        importlib.import_module(f"hnet_amharic.{m.name}")'}

def said(command, **kwargs) -> str:
    "What a command prints, run where nothing of this folder is seen; raises what it says where it fails."
    env = {k: v for k, v in os.environ.items() if k!='PYTHONPATH'}
    p = subprocess.run([str(c) for c in command], capture_output=True, text=True, env=env, **kwargs)
    if p.returncode:
        raise RuntimeError(p.stderr[-2000:])
    return p.stdout

def seconds(python, code:str, folder) -> float:
    "Of the fastest of five imports, Python's own start not counted."
    timed = f'import time; start = time.process_time()\n{code}\nprint(time.process_time()-start)'
    return min(float(said([python, '-c', timed], cwd=folder).split()[-1]) for _ in range(5))

def measured(folder:Path) -> list: # of rows
    "Install without extras, weigh and time it."
    said([sys.executable, '-m', 'venv', folder/'env'])
    python = folder/'env'/('Scripts' if os.name=='nt' else 'bin')/'python'
    said([sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '-w', folder, ROOT])
    wheel, = folder.glob('hnet_amharic*.whl')
    said([python, '-m', 'pip', 'install', '-q', wheel])
    sizes = json.loads(said([python, '-c', SIZES], cwd=folder))
    sizes = {name: size for name, size in sizes.items() if name not in ('pip', 'setuptools')}
    ours = {name: sizes[name] for name in ('hnet-amharic', 'torch')}
    weights = sum(p.stat().st_size for p in (ROOT/'hnet_amharic'/'weights').rglob('*') if p.is_file())
    rows = [('the wheel', wheel.stat().st_size/1e6, 'MB'), ('hnet_amharic, installed', ours['hnet-amharic']/1e6, 'MB'),
            ('of these the weights of nano', weights/1e6, 'MB'), ('torch', ours['torch']/1e6, 'MB'),
            ('all other packages', (sum(sizes.values())-sum(ours.values()))/1e6, 'MB'),
            ('everything', sum(sizes.values())/1e6, 'MB'), ('packages', len(sizes), '')]
    return rows+[(f'import of {name}', seconds(python, code, folder), 's') for name, code in IMPORTS.items()]

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--out', default='nbs/results/install.csv')
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = pd.DataFrame(measured(Path(folder)), columns=['what', 'value', 'unit'])
    table['python'] = platform.python_version()
    Path(a.out).resolve().write_text(table.round(3).to_csv(index=False), encoding='utf8', newline='\n')
    print(table.to_string(index=False))

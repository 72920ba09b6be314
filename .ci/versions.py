"""The versions of Python and torch that the library was tried with, each pair in a new environment.

    python .ci/versions.py python3.11:2.12.1 python3.12:2.13.0 ...     writes nbs/results/versions.csv

For every PYTHON:TORCH it installs torch and the requirements of settings.ini, imports every module and runs the tests
below. Rows of other pairs stay as they are. A pair takes some gigabytes of disk while it is tried, then nothing."""
import argparse
import configparser
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
TESTS = ['tests/test_golden.py', 'tests/test_generation.py', 'tests/test_end_to_end.py']
IMPORTS = '''
import importlib, json, pkgutil, platform, torch, hnet_amharic
names = [m.name for m in pkgutil.iter_modules(hnet_amharic.__path__) if m.name!='_modidx']
failed = []
for name in names:
    try:
        importlib.import_module(f'hnet_amharic.{name}')
    except Exception as e:
        failed.append(f'{name}: {type(e).__name__}: {e}')
print(json.dumps(dict(python=platform.python_version(), torch=torch.__version__, system=platform.system(),
                      modules=len(names), failed=failed)))
'''

def requirements() -> list:
    "What the library needs besides torch, and what its tests need."
    cfg = configparser.ConfigParser(delimiters=['='])
    cfg.read(ROOT/'settings.ini', encoding='utf8')
    needed = [word for word in cfg['DEFAULT']['requirements'].split() if not word.startswith('torch')]
    return [*needed, 'pytest', 'hypothesis', 'setuptools>=77']

def said(command, **kwargs) -> tuple: # exit code, output
    "Run a command and keep what it prints."
    p = subprocess.run([str(c) for c in command], capture_output=True, text=True, cwd=ROOT, **kwargs)
    return p.returncode, p.stdout+p.stderr

def tried(python:str, torch:str) -> dict: # a row of the table
    "Install, import and test in an environment of its own."
    row = dict(python=said([python, '-c', 'import platform; print(platform.python_version())'])[1].strip(), torch=torch)
    with tempfile.TemporaryDirectory(prefix='versions-', ignore_cleanup_errors=True) as folder:
        code, words = said([python, '-m', 'venv', folder])
        inside = Path(folder)/('Scripts' if os.name=='nt' else 'bin')/'python'
        if not code:
            code, words = said([inside, '-m', 'pip', 'install', '-q', f'torch=={torch}', *requirements()])
        if code:
            return {**row, 'note': 'not installed: '+words.strip().split('\n')[-1][:200]}
        env = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'MPLBACKEND': 'agg'}
        code, words = said([inside, '-c', IMPORTS], env=env)
        if code:
            return {**row, 'note': 'import failed: '+words.strip().split('\n')[-1][:200]}
        row |= json.loads(next(line for line in words.split('\n') if line.startswith('{')))
        code, words = said([inside, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', *TESTS], env=env)
        for name in ('passed', 'failed', 'skipped', 'error'):
            count = re.search(rf'(\d+) {name}', words.strip().split('\n')[-1])
            row[f'tests_{name}'] = int(count[1]) if count else 0
        row['note'] = '; '.join([*row.pop('failed'), *re.findall(r'^(?:FAILED|ERROR) (.*)', words, re.M)])[:400]
    return row

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('pairs', nargs='+', help='PYTHON:TORCH, such as python3.12:2.13.0')
    p.add_argument('--out', default='nbs/results/versions.csv')
    a = p.parse_args()
    out = Path(a.out).resolve()
    for pair in a.pairs:
        row = tried(*pair.rsplit(':', 1))
        print(row, flush=True)
        rows = pd.read_csv(out, dtype=str).to_dict('records') if out.exists() else []
        kept = [r for r in rows if (r['python'], r['torch'].split('+')[0])!=(row['python'], row['torch'].split('+')[0])]
        table = pd.DataFrame([*kept, row]).sort_values(['python', 'torch'])
        out.write_text(table.to_csv(index=False), encoding='utf8', newline='\n')

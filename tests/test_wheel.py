"The wheel: what is in it, and that it writes Amharic where there is nothing else of the project."
import os, subprocess, sys, sysconfig, venv, zipfile
from pathlib import Path
import pytest
from test_house import copy_house, house_files

@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    "Built from what a clone holds."
    tmp = tmp_path_factory.mktemp('wheel')
    src = copy_house(tmp/'src')
    pip = [sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '--no-build-isolation', '--no-index']
    subprocess.run([*pip, '-w', str(tmp), str(src)], check=True, capture_output=True, cwd=tmp)
    whl, = tmp.glob('*.whl')
    return whl

def test_wheel_holds_modules_and_data(wheel):
    "Every module and data file of the package and nothing else."
    names = [n for n in zipfile.ZipFile(wheel).namelist() if not n.endswith('/')]
    ours = {n.as_posix() for n in house_files() if n.parts[0] == 'hnet_amharic'}
    assert {n for n in names if n.startswith('hnet_amharic/')} == ours
    assert all(n.startswith(('hnet_amharic/', 'hnet_amharic-')) for n in names)
    assert any(n.startswith('hnet_amharic/sample/') for n in names)
    meta = next(n for n in names if n.endswith('/METADATA'))
    text = zipfile.ZipFile(wheel).read(meta).decode()
    extras = [f'Provides-Extra: {name}' for name in ('dev', 'hf', 'parquet', 'evaluate', 'tasks', 'serve')]
    for words in ('Requires-Dist: torch==2.13.0', 'Apache-2.0', *extras): assert words in text, words

def test_wheel_writes_without_the_source_tree(wheel, tmp_path):
    "A new environment with the wheel (and, by path only, the libraries of this one) continues a text from another folder."
    env = tmp_path/'env'
    venv.create(env, with_pip=False, symlinks=os.name != 'nt')
    py = env/('Scripts/python.exe' if os.name == 'nt' else 'bin/python')
    subprocess.run([sys.executable, '-m', 'pip', f'--python={py}', 'install', '-q', '--no-deps', '--no-index', str(wheel)], check=True, capture_output=True)
    site = Path(subprocess.run([py, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))'], capture_output=True, text=True, check=True).stdout.strip())
    libs = dict.fromkeys(sysconfig.get_path(n) for n in ('purelib', 'platlib'))
    (site/'libraries.pth').write_text('\n'.join(libs) + '\n', encoding='utf8')       # a path adds no .pth files: no editable install comes with it
    clean = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'} | dict(PYTHONNOUSERSITE='1', PYTHONUTF8='1', OMP_NUM_THREADS='1')
    def run(*cmd): return subprocess.run([str(c) for c in cmd], cwd=tmp_path, env=clean, capture_output=True, text=True, encoding='utf8')
    where = run(py, '-c', 'import hnet_amharic; print(hnet_amharic.__file__)')
    assert Path(where.stdout.strip()).is_relative_to(site), where
    p = run(py.parent/'hnet_generate', 'ሰላም', '--max-new-chars', '12', '--seed', '1', '--device', 'cpu')
    assert p.returncode == 0 and p.stdout.startswith('ሰላም') and len(p.stdout.strip()) > 8, p.stdout + p.stderr

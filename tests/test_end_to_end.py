"""The commands as a user runs them: train, be killed, resume, write."""
import csv, os, signal, subprocess, sys, time
from pathlib import Path
import pytest, torch
from safetensors.torch import load_file

TRAIN = ['--config', 'test', '--epochs', '3', '--steps-per-epoch', '40', '--batch-size', '2', '--length', '64', '--valid-windows', '4',
         '--checkpoint-every', '7', '--log-every', '1', '--device', 'cpu', '--no-progress']

def start(name, *args, cache):
    "A command of the package in a process of its own."
    module = 'console' if name=='hnet_generate' else 'cli'
    code = f'import sys; sys.argv[0]={name!r}; from hnet_amharic.{module} import {name}; {name}()'
    env = {**os.environ, 'HNET_AMHARIC_CACHE': str(cache), 'OMP_NUM_THREADS': '1'}
    return subprocess.Popen([sys.executable, '-c', code, *args], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

def finish(p, timeout=300):
    out,_ = p.communicate(timeout=timeout)
    return p.returncode,out

def rows(folder):
    "The log without what depends on the clock."
    with open(Path(folder)/'log.csv', newline='') as f: return [{k: v for k,v in r.items() if k!='bytes_per_s'} for r in csv.DictReader(f)]

def steps(folder):
    "Steps logged so far."
    try: return len(rows(folder))
    except (OSError, csv.Error): return 0

@pytest.fixture(scope='module')
def through(tmp_path_factory):
    "An uninterrupted run."
    d = tmp_path_factory.mktemp('through')
    code,out = finish(start('hnet_train', '--out', str(d/'run'), *TRAIN, cache=d/'cache'))
    assert code==0, out
    return d/'run'

def test_killed_three_times(through, tmp_path):
    "kill -9 at three moments, resume each time: log and weights equal those of the uninterrupted run."
    run = tmp_path/'run'
    for at in (11, 52, 95):
        p = start('hnet_train', '--out', str(run), '--resume', 'auto', *TRAIN, cache=tmp_path/'cache')
        end = time.time()+200
        while steps(run)<at and p.poll() is None and time.time()<end: time.sleep(.01)
        assert p.poll() is None, p.communicate()[0]
        p.send_signal(signal.SIGKILL); p.communicate()
        assert not (run/'model').exists()
    code,out = finish(start('hnet_train', '--out', str(run), '--resume', 'auto', *TRAIN, cache=tmp_path/'cache'))
    assert code==0, out
    assert rows(run)==rows(through)
    a,b = (load_file(d/'model'/'model.safetensors') for d in (run, through))
    assert a.keys()==b.keys() and all(torch.equal(a[k], b[k]) for k in a)

def test_ctrl_c_leaves_a_checkpoint(tmp_path):
    "SIGINT finishes the step, writes a checkpoint and says how to go on."
    run = tmp_path/'run'
    p = start('hnet_train', '--out', str(run), *[a if a!='7' else '100000' for a in TRAIN], cache=tmp_path/'cache')
    end = time.time()+200
    while steps(run)<5 and p.poll() is None and time.time()<end: time.sleep(.01)
    p.send_signal(signal.SIGINT)
    code,out = finish(p)
    assert code==0 and '--resume' in out, out
    assert list((run/'checkpoints').glob('step-*/state.json')) and not list((run/'checkpoints').glob('.tmp*'))

def test_generate_from_trained(through, tmp_path):
    "The saved model writes valid text from a shell."
    code,out = finish(start('hnet_generate', 'ሰላም', '--model', str(through/'model'), '--max-new-chars', '20', '--seed', '1', '--device', 'cpu', cache=tmp_path))
    assert code==0 and any(line.startswith('ሰላም') for line in out.split('\n')), out
    assert '\ufffd' not in out

def test_refuses_to_overwrite_a_run(through, tmp_path):
    code,out = finish(start('hnet_train', '--out', str(through), *TRAIN, cache=tmp_path))
    assert code==2 and '--resume' in out and 'Traceback' not in out, out

def test_compiles_script_features():
    "The feature function is one graph for torch.compile."
    from hnet_amharic.text import encode, script_features
    ids = torch.tensor(encode('ሰላም 12')).long()[None]
    f = torch.compile(script_features, backend='eager', fullgraph=True)
    for a,b in zip(f(ids)[:2], script_features(ids)[:2]): assert torch.equal(a, b)

def test_processes_may_pack_the_same_text_at_once(tmp_path):
    "Who comes second takes what the first made; nobody trips over the temporary folder of another."
    text = tmp_path/'text.txt'
    text.write_text('\n\n'.join(f'ሰላም ለሁሉም ይሁን፤ ይህ ጽሑፍ ቁጥር {i} ነው።' for i in range(20_000)), encoding='utf8')
    code = 'import sys; from hnet_amharic.data import ByteCorpus; print(len(ByteCorpus.build(sys.argv[1])))'
    env = {**os.environ, 'HNET_AMHARIC_CACHE': str(tmp_path/'cache'), 'OMP_NUM_THREADS': '1'}
    ps = [subprocess.Popen([sys.executable, '-c', code, str(text)], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
          for _ in range(4)]
    assert [finish(p)[1].split()[-1] for p in ps]==['20000']*4

"""Runs in processes of their own: killed, interrupted, started twice over."""
import csv, os, random, signal, subprocess, sys, time
from pathlib import Path
import pytest, torch
from safetensors.torch import load_file
from hnet_amharic.runs import checkpoints, newest, read_state

TRAIN = """
import sys, torch
from hnet_amharic.config import HNetConfig, PACKAGE
from hnet_amharic.data import ByteCorpus
from hnet_amharic.windows import get_dls
from hnet_amharic.model import AmharicHNet
from hnet_amharic.training import hnet_learner
from hnet_amharic.unfreezing import ProgressiveUnfreezing
torch.set_num_threads(1)
folder, seed, every = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
train, valid = ByteCorpus.build(PACKAGE/'sample').split(.1)
torch.manual_seed(seed)
dls = get_dls(train, valid, 2, 64, steps_per_epoch=11, valid_windows=4, device='cpu')
model = AmharicHNet(HNetConfig.preset('test', max_chunks=64, layer_dropout=.2))
learn = hnet_learner(dls, model, folder=folder, recipe='lean', accumulate=2, checkpoint_every=every, resume='auto',
                     log_every=3, progress=False, cbs=ProgressiveUnfreezing())
print('go', flush=True)
learn.fit_wsd(11, 3e-3)
"""

def start(folder, seed=0, every=4, **env):
    "A training process."
    env = {**os.environ, 'OMP_NUM_THREADS': '1', **env}
    return subprocess.Popen([sys.executable, '-W', 'ignore', '-c', TRAIN, str(folder), str(seed), str(every)], env=env,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

def rows(folder):
    "The log without what depends on the clock."
    with open(Path(folder)/'log.csv', newline='') as f:
        return [{k: v for k,v in r.items() if k!='bytes_per_s'} for r in csv.DictReader(f)]

def newest_weights(folder):
    "Tensors of the newest intact checkpoint."
    return load_file(newest(folder)/'model.safetensors')

def wait_for(condition, process, seconds=120):
    "Wait until something is true of a running process."
    end = time.time()+seconds
    while not condition() and process.poll() is None and time.time()<end:
        time.sleep(.005)

@pytest.fixture(scope='module')
def calm(tmp_path_factory):
    "A run nobody disturbs."
    folder = tmp_path_factory.mktemp('calm')/'run'
    begun = time.time()
    process = start(folder)
    out, _ = process.communicate(timeout=300)
    assert process.returncode==0, out
    return folder, time.time()-begun

def test_killed_at_random_moments(calm, tmp_path):
    "kill -9 at random moments, in a step or while a checkpoint is written: log and weights are those of the calm run."
    folder, seconds = calm
    dice, run = random.Random(0), tmp_path/'run'
    for i in range(4):
        process = start(run, seed=i if checkpoints(run) else 0)      # all must come from the checkpoint
        process.stdout.readline()                                    # it says go
        time.sleep(dice.uniform(.05, .25)*seconds*.5)
        process.kill()
        process.communicate()
        for path in checkpoints(run):                                # each is whole
            assert read_state(path)['step']==int(path.name[5:14])
            assert load_file(path/'training.safetensors') and load_file(path/'model.safetensors')
    process = start(run, seed=9 if checkpoints(run) else 0)
    out, _ = process.communicate(timeout=300)
    assert process.returncode==0, out
    assert rows(run)==rows(folder)
    a, b = newest_weights(run), newest_weights(folder)
    assert a.keys()==b.keys() and all(torch.equal(a[k], b[k]) for k in a)

def test_interrupted(calm, tmp_path):
    "Ctrl-C leaves a checkpoint, and the run ends with the weights of the calm one."
    run = tmp_path/'run'
    process = start(run, every=0)
    wait_for(lambda: (run/'log.csv').exists() and len(rows(run))>2, process)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode==0 and '--resume' in out, out
    assert not list((run/'checkpoints').glob('.tmp*'))
    process = start(run, seed=5, every=0)
    out, _ = process.communicate(timeout=300)
    assert process.returncode==0, out
    a, b = newest_weights(run), newest_weights(calm[0])
    assert all(torch.equal(a[k], b[k]) for k in a)

def test_several_processes_are_refused(tmp_path):
    "Under torchrun nothing is written, and the reason is a sentence."
    run = tmp_path/'run'
    process = start(run, WORLD_SIZE='2', RANK='1')
    out, _ = process.communicate(timeout=120)
    assert process.returncode and 'start it without torchrun' in out
    assert not run.exists()

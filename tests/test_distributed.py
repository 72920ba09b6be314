"Two processes train as one would: equality, resuming, failures. Every start of processes costs seconds, so cases share them."
import csv, json, os, shutil, signal, socket, subprocess, sys, time
from pathlib import Path
import pytest, torch
from safetensors.torch import load_file
from hnet_amharic.distributed import is_sharded, start_processes
from hnet_amharic.runs import checkpoints, newest, read_state

# What is trained, once in one process and once in two; `cases.json` names the case and the folder.
TRAIN = """
import contextlib, json, os, signal, sys, torch
from safetensors.torch import save_file
from hnet_amharic.config import HNetConfig, PACKAGE
from hnet_amharic.data import ByteCorpus
from hnet_amharic.windows import get_dls, processes
from hnet_amharic.model import AmharicHNet
from hnet_amharic.training import hnet_learner
from hnet_amharic.unfreezing import ProgressiveUnfreezing
from hnet_amharic.distributed import distribute, gather, is_sharded, process_group, unshard, whole_model
from hnet_amharic.runs import newest
from fastai.callback.core import Callback
torch.set_num_threads(1)
train, valid = ByteCorpus.build(PACKAGE/'sample').split(.1)

class Quiet(Callback):
    "The second half of every batch has no boundary behind its first byte."
    def before_fit(self):
        rank, n = processes()
        chunker = self.model.chunker
        def hook(module, args, b):
            if not module.training:
                return b
            rows = range(len(b.mask)//2, len(b.mask)) if n==1 else range(len(b.mask)) if rank==1 else []
            mask = b.mask.clone()
            mask[list(rows),1:] = False
            return b._replace(mask=mask)
        self.handle = chunker.register_forward_hook(hook)

class Poison(Callback):
    "A loss that is no number, in the last process, at one step."
    order = 9
    def __init__(self, at): self.at = at
    def after_loss(self):
        rank, n = processes()
        if self.training and self.train_iter==self.at and rank==n-1:
            self.learn.loss_grad = self.loss_grad*float('nan')
            self.learn.loss = self.loss*float('nan')

class Term(Callback):
    "The machine of the last process is going to be taken away."
    def __init__(self, at): self.at = at
    def before_batch(self):
        rank, n = processes()
        if self.training and self.train_iter==self.at and rank==n-1:
            os.kill(os.getpid(), signal.SIGTERM)

class Clock:
    "Seconds that pass by themselves, faster in other processes than the first."
    now = 0.
    def __call__(self):
        self.now += 1+50*processes()[0]
        return self.now

class Leave(Callback):
    "Gone after a step."
    order = 81
    def __init__(self, at): self.at = at
    def after_batch(self):
        if self.training and self.train_iter==self.at:
            raise InterruptedError('left')

def case(name, folder, run=None, shard=1, opt='adamw', recipe='fp32', accumulate=1, unfreeze=None, quiet=False, poison=None,
         checkpointing=False, epochs=2, leave=None, every=0, term=None, minutes=None):
    if run and 'RANK' not in os.environ and is_sharded(newest(run)):
        unshard(newest(run))
    torch.manual_seed(0)
    dls = get_dls(train, valid, 4, 64, steps_per_epoch=5, valid_windows=4, device='cpu')
    model = AmharicHNet(HNetConfig.preset('test', max_chunks=64, checkpointing=checkpointing))
    read = []
    stream = dls.train.stream
    window = stream.window
    stream.window = lambda i: (read.append(i), window(i))[1]
    cbs = [Quiet()]*quiet+[Poison(poison)]*(poison is not None)+[Leave(leave)]*(leave is not None)+[Term(term)]*(term is not None)
    if unfreeze:
        cbs.append(ProgressiveUnfreezing(unfreeze))
    start = {'start '+k: v.clone() for k, v in model.state_dict().items()}
    learn = hnet_learner(dls, model, 2e-3, opt, recipe=recipe, precision='fp32' if recipe=='fp32' else 'bf16', accumulate=accumulate,
                         folder=run, checkpoint_every=every, resume=run and 'auto', log_every=1, progress=False, cbs=cbs)
    read.clear()
    if 'RANK' in os.environ:
        distribute(learn, shard)
    with open(os.devnull, 'w') as f, contextlib.redirect_stdout(f):
        try:
            learn.fit_wsd(epochs, minutes=minutes, clock=Clock())
        except InterruptedError:
            pass
    losses = torch.tensor([float(v) for v in learn.recorder.losses], dtype=torch.float64)
    whole = whole_model(learn)
    reads = [i for part in (gather(read) if 'RANK' in os.environ else [read]) for i in part]
    skipped = gather(learn.safe_step.skipped) if 'RANK' in os.environ else [learn.safe_step.skipped]
    if whole is not None:
        tensors = {k: v.clone().contiguous() for k, v in whole.state_dict().items()}
        save_file({**tensors, **start, 'losses': losses}, folder+'.safetensors')
        about = dict(read=sorted(reads), skipped=skipped, bpb=[float(v) for row in learn.recorder.values for v in row])
        open(folder+'.json', 'w').write(json.dumps(about, default=float))

with process_group('cpu'):
    for options in json.load(open(sys.argv[1])):
        case(**options)
"""

ENV = {**os.environ, 'OMP_NUM_THREADS': '1', 'HNET_TIMEOUT': '20', 'TORCH_CPP_LOG_LEVEL': 'FATAL'}
RUN = [sys.executable, '-W', 'ignore', '-m', 'torch.distributed.run', '--rdzv-backend', 'c10d',
       '--rdzv-endpoint', 'localhost:0', '--monitor-interval', '.1', '--nproc-per-node']

def children(text:str) -> list:
    "Processes that have this text on their command line."
    found = []
    for p in Path('/proc').glob('[0-9]*'):
        try:
            if text in (p/'cmdline').read_text():
                found.append(p.name)
        except OSError:
            pass
    return found

def train(folder, cases, n, timeout=240):
    "Train the cases in `n` processes, one after the other."
    script, plan = folder/'train.py', folder/f'cases{n}.json'
    script.write_text(TRAIN)
    plan.write_text(json.dumps([dict(options, folder=str(folder/name/str(n)), name=name,
                                    run=str(folder/options['run']) if 'run' in options else None) for name, options in cases.items()]))
    for name in cases:
        (folder/name).mkdir(exist_ok=True)
    if n==1:                                                                 # here: that saves the imports
        threads = torch.get_num_threads()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, 'argv', [str(script), str(plan)])
            exec(compile(TRAIN, str(script), 'exec'), {'__name__': 'train'})
        torch.set_num_threads(threads)
        return
    done = subprocess.run([*RUN, str(n), str(script), str(plan)], env=ENV, capture_output=True, text=True, timeout=timeout)
    assert done.returncode==0, done.stdout[-3000:]+done.stderr[-6000:]

def result(folder, name, n):
    "Tensors and figures of a case."
    return load_file(folder/name/f'{n}.safetensors'), json.loads((folder/name/f'{n}.json').read_text())

UNFREEZE = [dict(epoch=0, parts=['embedding', 'head']), dict(epoch=1, parts=['all'])]
CASES = {
    'adamw': {},
    'adamw sharded': dict(shard=2, checkpointing=True),
    'accumulate sharded': dict(accumulate=3, shard=2),                       # the last update of an epoch is a short one
    'unfreezing sharded': dict(unfreeze=UNFREEZE, shard=2),
    'no boundary and no number in one': dict(quiet=True, poison=4, shard=2),
    'muon sharded': dict(opt='muon', shard=2),
    'amp sharded': dict(recipe='amp', shard=2),
}
# losses, and weights as a share of how far they moved. Muon orthogonalises in bf16, where another order of sums is
# worth some 0.5 % of a step; on parts of matrices, which is wrong, the first step alone would differ by 3.7 %
BOUNDS = {'muon sharded': (1e-5, .015), 'amp sharded': (3e-5, .03)}

@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    "Every case in one process and in two; a run that two begin, one continues and two end; a signal, and a clock."
    folder = tmp_path_factory.mktemp('equal')
    run = dict(every=2, shard=2)
    train(folder, {**CASES, 'leg 1': dict(leave=4, run='run', **run)}, 2)
    train(folder, {**CASES, 'leg 2': dict(leave=6, run='run', **run)}, 1)
    train(folder, {'leg 3': dict(run='run', **run), 'term': dict(term=3, run='term', shard=2), 'minutes': dict(minutes=.5)}, 2)
    return folder

def check_equal(folder, name, n):
    "Losses of ten steps, bits per byte of the held-out text, and weights, of one process and of n."
    (one, about), (two, of_two) = result(folder, name, 1), result(folder, name, n)
    steps, share = BOUNDS.get(name, (1e-6, 1e-4))
    names = [k for k in one if 'start '+k in one]
    gap = sum((one[k]-two[k]).double().square().sum() for k in names)**.5
    way = sum((one[k]-one['start '+k]).double().square().sum() for k in names)**.5
    loss = ((one['losses']-two['losses'])/one['losses']).abs().max()
    print(f'{name}: losses {loss:.1e}, weights {gap/way:.1e}')
    assert len(one['losses'])==10 and loss<steps
    assert gap<share*way
    assert about['bpb']==pytest.approx(of_two['bpb'], rel=10*steps)
    assert of_two['read']==about['read']==list(range(40))                    # every window once, by one or the other

@pytest.mark.parametrize('name', CASES)
def test_two_are_one(trained, name):
    check_equal(trained, name, 2)

def test_four_with_two_copies_of_the_model(trained):
    "Hybrid: two copies, each in two parts."
    train(trained, {'adamw': dict(shard=2)}, 4)
    check_equal(trained, 'adamw', 4)

def test_a_step_that_one_must_skip_is_skipped_by_both(trained):
    assert result(trained, 'no boundary and no number in one', 2)[1]['skipped']==[1, 1]
    assert result(trained, 'adamw', 2)[1]['skipped']==[0, 0]

def test_resumed_with_another_number(trained):
    "Two processes, then one, then two: every window once, and what one process alone ends with."
    read = [i for leg, n in (('leg 1', 2), ('leg 2', 1), ('leg 3', 2)) for i in result(trained, leg, n)[1]['read']]
    assert read==list(range(40))
    (one, _), (last, _) = result(trained, 'adamw', 1), result(trained, 'leg 3', 2)
    assert ((one['losses']-last['losses'])/one['losses']).abs().max()<1e-6
    with open(trained/'run'/'log.csv') as f:
        assert [int(row['step']) for row in csv.DictReader(f) if row['train_bpb']]==list(range(1, 11))

def test_asked_to_stop_in_one(trained):
    "A signal to one process stops both after the same step, with a checkpoint."
    assert [read_state(path)['step'] for path in checkpoints(trained/'term')]==[4]
    assert is_sharded(newest(trained/'term'))

def test_one_clock(trained):
    "Both stop after the same step by the clock of the first, which runs fifty times slower than the other."
    _, about = result(trained, 'minutes', 2)
    assert 20<=len(about['read'])<=40

# --- the commands

OPTIONS = dict(config='test', epochs=2, steps_per_epoch=6, batch_size=2, length=64, valid_windows=2, device='cpu',
               no_progress=True, log_every=1, checkpoint_every=2)

def typed(**options):
    "A command line of hnet_train."
    flags = [['--'+name.replace('_', '-'), *([] if value is True else [str(value)])] for name, value in {**OPTIONS, **options}.items()]
    return [part for flag in flags for part in flag]

def steps(run):
    "Steps in the log of a run."
    with open(run/'log.csv') as f:
        return [int(row['step']) for row in csv.DictReader(f) if row['train_bpb']]

def started(run) -> dict: # {rank: process number}
    "The training processes of a run."
    found = {}
    for number in children(str(run)):
        try:
            env = dict(part.partition('=')[::2] for part in (Path('/proc')/number/'environ').read_text().split('\0'))
            found[int(env['RANK'])] = int(number)
        except (OSError, KeyError):
            pass
    return found

def test_killed_and_started_again(tmp_path):
    "One of two is killed: the other says so and stops, and both go on from the checkpoint by themselves."
    run = tmp_path/'run'
    command = [sys.executable, '-W', 'ignore', '-m', 'hnet_amharic.train', *typed(out=run, gpus=2, shard=2, restarts=1, epochs=1)]
    process = subprocess.Popen(command, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.time()+120
    while not checkpoints(run) and process.poll() is None and time.time()<end:
        time.sleep(.02)
    os.kill(started(run)[1], signal.SIGKILL)
    out, err = process.communicate(timeout=180)
    assert process.returncode==0, out+err
    assert 'process 0 of 2: another process is gone' in err and 'continue with --resume' in err, err
    assert steps(run)==list(range(1, 7))
    assert (run/'model'/'model.safetensors').exists() and not children(str(run))

def test_refused_by_the_command(tmp_path, capfd, monkeypatch):
    "More processes than windows: one sentence, status 2, nobody left."
    for name, value in ENV.items():
        monkeypatch.setenv(name, value)
    assert start_processes(2, ['-m', 'hnet_amharic.train', *typed(out=tmp_path/'run', batch_size=1)])==2
    said = [line for line in capfd.readouterr().err.split('\n') if line.startswith('hnet_train')]
    assert said==['hnet_train: A batch of 1 window(s) cannot be divided among 2 processes: choose --batch-size 2, '
                  'or start fewer processes']
    assert not children(str(tmp_path/'run'))

REFUSE = """
import contextlib, io, json, os, sys, torch
torch.set_num_threads(1)
from hnet_amharic.console import exit_code
from hnet_amharic.cli import hnet_train
from hnet_amharic.training import HNetLearner
rank = os.environ['RANK']
said = []
def no_room(learn):
    raise MemoryError('no room')
for port, (name, options) in json.load(open(sys.argv[1])):
    os.environ['MASTER_PORT'] = str(port)
    if options.get('only', rank)!=rank:
        continue
    if 'no room' in options and rank=='1':
        HNetLearner._do_one_batch = no_room
    with contextlib.redirect_stderr(io.StringIO()) as err, contextlib.redirect_stdout(io.StringIO()):
        code = exit_code(hnet_train.__wrapped__, {**options['both'], **options.get(rank, {})})
    said.append((name, code, err.getvalue().strip()))
open(sys.argv[2]+rank, 'w').write(json.dumps(said))
"""

def free_ports(n):
    "Ports that nobody uses now."
    sockets = [socket.socket() for _ in range(n)]
    for s in sockets:
        s.bind(('', 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports

def test_refused_together(tmp_path, trained):
    "What one of two processes finds wrong: both end with status 2, and the first says one sentence."
    for name in ('0', '1'):                                                  # the same path, other text on each machine
        (tmp_path/name).mkdir()
        (tmp_path/name/'text.txt').write_text('\n\n'.join(f'ጽሑፍ ቁጥር {i} ነው፤ እንደዚህም ይቀጥላል {name}።' for i in range(400)))
    torn, model = tmp_path/'torn', tmp_path/'another'
    for copy in (torn, model):
        shutil.copytree(trained/'run', copy)
    next((newest(torn)/'shards').glob('__1_*')).unlink()
    options = dict(OPTIONS, out=str(tmp_path/'run'))
    resumed = dict(OPTIONS, recipe='fp32', batch_size=4, steps_per_epoch=5, valid_share=.1)
    cases = {
        'process 1 was started with other options': dict(both=options, **{'1': dict(lr=1e-4)}),
        'process 1 was started with other text': dict(both=dict(options, data_dir='text.txt')),
        'choose --recipe amp or fp32, and --shard': dict(both=dict(options, recipe='lean')),
        '--shard 3: expected a number that divides the 2': dict(both=dict(options, shard=3)),
        '1 of 2 parts are missing': dict(both=dict(resumed, resume=str(torn))),
        'does the config belong to these weights': dict(both=dict(resumed, resume=str(model), config='pico')),
    }
    plan = tmp_path/'plan.json'
    taken = socket.create_server(('', 0))
    listed = [*zip(free_ports(len(cases)), cases.items())]
    listed.append((taken.getsockname()[1], ('is in use', dict(both=options, only='0'))))
    listed.append((free_ports(1)[0], ('memory', {'both': options, 'no room': True})))
    plan.write_text(json.dumps(listed))
    (tmp_path/'refuse.py').write_text(REFUSE)
    command = [sys.executable, '-W', 'ignore', str(tmp_path/'refuse.py'), str(plan), str(tmp_path/'said')]
    both = [subprocess.Popen(command, env=dict(ENV, RANK=str(i), LOCAL_RANK=str(i), WORLD_SIZE='2', MASTER_ADDR='localhost', MASTER_PORT='1'),
                             cwd=tmp_path/str(i), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for i in range(2)]
    for process in both:
        out, _ = process.communicate(timeout=180)
        assert process.returncode==0, out
    first, second = (json.loads((tmp_path/f'said{i}').read_text()) for i in range(2))
    taken.close()
    for (words, code, said), (_, other, silent) in zip(first[:-1], [*second[:-1], (0, 2, '')]):
        print(said)
        assert code==other==2 and words in said and '\n' not in said and not silent, (words, code, said, other, silent)
    assert not (tmp_path/'run'/'checkpoints').exists()
    (_, code, said), (_, other, reason) = first[-1], second[-1]              # one of them has no room for a batch
    assert code==other==2 and 'another process is gone' in said and 'process 1 ran out of memory' in reason

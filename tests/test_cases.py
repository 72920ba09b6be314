"""Small inputs that once went wrong, one test each: what a public report, a real corpus or a habit of users suggested.

Commands run in this process, through the same entry that a shell uses."""
import contextlib
import gzip
import io
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
import pytest
import torch
from hnet_amharic import cli, console
from hnet_amharic.tasks import read_labelled
from hnet_amharic.config import PACKAGE, HNetConfig
from hnet_amharic.data import ByteCorpus
from hnet_amharic.model import AmharicHNet, build_model
from hnet_amharic.runs import checkpoints
from hnet_amharic.training import hnet_learner
from hnet_amharic.windows import get_dls

QUICK = ['--config', 'test', '--epochs', '1', '--steps-per-epoch', '2', '--batch-size', '2', '--length', '64', '--valid-windows', '2',
         '--device', 'cpu', '--no-progress']
PARAGRAPHS = [' '.join(part.split()) for file in sorted((PACKAGE/'sample').glob('*.txt'))
              for part in file.read_text(encoding='utf8').split('\n\n') if part.strip()]

@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    "Every case has a folder and a cache of its own."
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('HNET_AMHARIC_CACHE', str(tmp_path/'cache'))
    return tmp_path

def shell(name, *args):
    "(exit code, what it printed) of a command."
    out, old = io.StringIO(), sys.argv
    sys.argv, code = [name, *args], 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            getattr(cli, name)()
    except SystemExit as e:
        code = e.code or 0
    finally:
        sys.argv = old
    return code, out.getvalue()

def tiny(seed=0):
    torch.manual_seed(seed)
    return build_model(HNetConfig.preset('test'))

def learner(seed=0, steps=2, **kw):
    "A learner on the sample."
    train, valid = ByteCorpus.build(PACKAGE/'sample').split(.05)
    dls = get_dls(train, valid, 2, 64, steps_per_epoch=steps, valid_windows=4, device='cpu')
    return hnet_learner(dls, tiny(seed), progress=False, **kw)

def quietly(f, *args, **kwargs):
    with contextlib.redirect_stdout(io.StringIO()):
        return f(*args, **kwargs)

# --- training

def test_a_failed_batch_leaves_no_autocast():
    learn = learner(precision='bf16')
    def fail(module, args):
        raise ValueError('this batch fails')
    hook = learn.model.encoder.register_forward_pre_hook(fail)
    with pytest.raises(ValueError, match='this batch fails'):
        quietly(learn.fit_wsd, 1)
    assert not torch.is_autocast_enabled('cpu')
    hook.remove()
    quietly(learn.fit_wsd, 1)

def test_fitting_twice_keeps_both(here):
    learn = learner(folder=here/'run', checkpoint_every=1, log_every=1)
    quietly(learn.fit_wsd, 1)
    quietly(learn.fit_wsd, 1)
    newest = AmharicHNet.from_pretrained(checkpoints(here/'run')[-1])
    assert torch.equal(newest.head.weight, learn.model.head.weight.detach().float())
    steps = [line.split(',')[0] for line in (here/'run'/'log.csv').read_text().split('\n')[1:] if line]
    assert {'1', '2', '3', '4'} <= set(steps)

def test_learners_share_no_folder():
    a, b = learner(0), learner(1)
    assert a.path != b.path
    a.save('best')
    mine = a.model.head.weight.detach().clone()
    b.save('best')
    a.load('best', with_opt=False)
    assert torch.equal(a.model.head.weight, mine)

def test_methods_of_a_learner_work_or_say_what_to_use():
    uses = dict(get_preds=lambda l: l.get_preds(), with_loss=lambda l: l.get_preds(with_loss=True),
                predict=lambda l: l.predict('ሰላም'), export=lambda l: l.export('x.pkl'), batch=lambda l: l.dls.show_batch(),
                results=lambda l: l.show_results(), summary=lambda l: l.summary(), validate=lambda l: l.validate(),
                half=lambda l: l.to_fp16())
    words = ('bits_per_byte', 'save_pretrained', 'precision', 'generate', 'score', 'parameter_table', 'hnet_', 'show_', 'text')
    for name, use in uses.items():
        try:
            quietly(use, learner())
        except (ValueError, NotImplementedError, AttributeError) as e:
            assert any(word in str(e) for word in words), f'{name}: {e}'
        assert not torch.is_autocast_enabled('cpu'), name

def test_a_model_is_an_ordinary_module():
    "Other dtypes, torch.compile, torch.export."
    ids = torch.randint(0, 200, (1, 64))
    assert torch.isfinite(tiny().eval().bfloat16()(ids).logits.float()).all()
    model = tiny().eval()
    with torch.no_grad():
        plain = model(ids).logits
        compiled = torch.compile(model, backend='eager')(ids).logits
    assert torch.allclose(plain, compiled, atol=1e-4)
    torch._dynamo.reset()

# --- text

def test_the_share_held_out_is_of_bytes(here):
    (here/'books').mkdir()
    (here/'books'/'a.txt').write_text('\n'.join(PARAGRAPHS[:60]), encoding='utf8')
    (here/'books'/'b.txt').write_text('\n'.join(PARAGRAPHS[60:]), encoding='utf8')
    train, valid = ByteCorpus.build(here/'books').split(.02)
    assert .005 < valid.n_bytes/(train.n_bytes+valid.n_bytes) < .1
    code, out = shell('hnet_train', '--data-dir', 'books', '--out', 'run', *QUICK)
    assert code == 0 and 'held out' in out, out
    sources = json.loads((here/'run'/'model'/'card.json').read_text(encoding='utf8'))['sources']
    assert sum(sources.values()) == train.n_bytes

def test_lines_end_at_newlines_only(here):
    lines = ['ሰላም\u2028ነው', 'ቡና\u0085ጥሩ\x0cነው']
    (here/'p.txt').write_text('\n'.join(lines)+'\n', encoding='utf8')
    (here/'p.jsonl').write_text(''.join(json.dumps(dict(prompt=p), ensure_ascii=False)+'\n' for p in lines), encoding='utf8')
    for file in ('p.txt', 'p.jsonl'):
        assert console.given_prompts([], file) == lines
    code, out = shell('hnet_safety', '--file', 'p.txt', '--jsonl')
    assert code == 0 and len(out.rstrip('\n').split('\n')) == 2

def test_nothing_is_skipped_or_dropped_without_a_word(here):
    folder = here/'mixed'
    folder.mkdir()
    (folder/'a.txt').write_text('\n\n'.join(['ሰላም ነው?', *PARAGRAPHS[:5], PARAGRAPHS[0], 'only latin letters in this one']), encoding='utf8')
    (folder/'b.jsonl.gz').write_bytes(gzip.compress(json.dumps(dict(text=PARAGRAPHS[6])).encode()))
    (folder/'c.zst').write_bytes(b'?')
    code, out = shell('hnet_train', '--data-dir', 'mixed', '--out', 'run', *QUICK)
    assert code == 0, out
    for word in ('read:', 'skipped:', '.zst', 'dropped:', 'too short', 'little Ethiopic', 'seen before', 'held out:'):
        assert word in out, (word, out)

def test_a_stray_quote_merges_no_rows(here):
    rows = ['"ይህ የተሳሳተ ነው,hate', 'ሰላም,normal', 'ቡና,normal', 'ሻይ" ጥሩ ነው,hate', 'ውሃ,normal']
    (here/'quote.csv').write_text('text,label\n'+'\n'.join(rows)+'\n', encoding='utf8')
    with pytest.raises(ValueError, match='line|row'):
        read_labelled('quote.csv')
    (here/'long.csv').write_text('text,label\n'+'ሰላም '*50000+',normal\nውሃ ነው,hate\n', encoding='utf8')
    assert [e.y for e in read_labelled('long.csv')] == [('normal',), ('hate',)]

def test_one_text_from_every_kind_of_file(here):
    a, b = 'ሰላም ለሁሉም ይሁን ወንድሞች።', 'ቡና ጠጣን ከዚያም ተነሳን።'
    (here/'in').mkdir()
    (here/'in'/'a.jsonl').write_bytes((json.dumps(dict(text='\ufeff'+a+'\r\n'+b), ensure_ascii=False)+'\r\n').encode())
    (here/'in'/'b.csv').write_bytes(f'id,text\r\n1,"{b}\r\n{a}"\r\n'.encode())
    (here/'in'/'c.txt').write_bytes(f'{b}\r\n{b}\r\n{a}\r\n'.encode())
    corpus = ByteCorpus.build(here/'in')
    assert len(corpus) == 3
    for i in range(3):
        assert not set('\r\ufeff\x00') & set(corpus.text(i))

def test_a_run_inside_the_data_is_not_text(here):
    (here/'a.txt').write_text('\n\n'.join(PARAGRAPHS[:30]), encoding='utf8')
    for _ in range(2):
        code, out = shell('hnet_train', '--data-dir', '.', '--resume', 'auto', *QUICK)
        assert code == 0, out

# --- the command line

@pytest.mark.parametrize('args', [['--accumulate', '0'], ['--minutes', '0'], ['--weight-decay', '-1'], ['--warmup', '2'], ['--sample-every', '-1'],
                                  ['--lr', 'nan'], ['--epochs', '0'], ['--valid-share', '1.5'], ['--memory-limit', '-2'], ['--batch-size', '0']])
def test_nonsense_is_refused_by_name(here, args):
    code, out = shell('hnet_train', '--out', 'run', *QUICK, *args)
    assert code == 2 and args[0] in out and 'Traceback' not in out, out
    assert not (here/'run').exists()

@pytest.mark.parametrize('option', ['--checkpoint-every', '--log-every', '--sample-every', '--valid-windows'])
def test_zero_means_off(here, option):
    code, out = shell('hnet_train', '--out', 'run', *QUICK, option, '0')
    assert code == 0, out

def test_any_console_can_show_it(here):
    "A pipe of another encoding, as on Windows: help and a training that prints samples end well, checkpoints first."
    code = 'import sys; sys.argv[0]="hnet_train"; from hnet_amharic.cli import hnet_train; hnet_train()'
    env = {**os.environ, 'PYTHONIOENCODING': 'cp1252', 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(PACKAGE.parent)}
    def run(*args):
        return subprocess.run([sys.executable, '-c', code, *args], env=env, capture_output=True, timeout=300)
    assert run('--help').returncode == 0
    done = run('--out', 'run', '--sample-every', '1', *QUICK)
    assert done.returncode == 0, done.stderr.decode()
    assert 'ሰላም' in done.stdout.decode('utf8') and checkpoints(here/'run')

def test_torchrun_is_refused_before_the_first_step(here, monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '2')
    code, out = shell('hnet_train', '--out', 'run', *QUICK)
    assert code == 2 and 'WORLD_SIZE' in out and not (here/'run').exists(), out

def test_the_memory_check_looks_at_what_is_trained(here):
    tiny().save_pretrained(here/'model')
    few = ['--steps-per-epoch', '1', '--epochs', '1', '--valid-windows', '1', '--batch-size', '2', '--length', '64', '--device', 'cpu', '--no-progress']
    import psutil
    room = psutil.Process().memory_info().rss/1e9+.35
    code, out = shell('hnet_train', '--init', 'model', '--memory-limit', f'{room:.2f}', '--out', 'r1', *few)
    assert code == 0, out
    code, out = shell('hnet_train', '--init', 'shipped', '--config', 'test', '--memory-limit', f'{room:.2f}', '--out', 'r2', *few,
                      '--batch-size', '8', '--length', '512')
    assert code == 2 and 'needs about' in out and 'recipe only' in out, out

def test_continuing_starts_gently_and_says_what_it_gains(here):
    tiny().save_pretrained(here/'model')
    code, out = shell('hnet_train', '--init', 'model', '--out', 'run', *QUICK[2:])
    assert code == 0 and 'rate 0.0003;' in out, out                  # nano's 0.003, a tenth
    assert 'before training' in out and 'after training' in out

def test_tilde_is_home(here, monkeypatch):
    monkeypatch.setenv('HOME', str(here/'home'))
    monkeypatch.setenv('USERPROFILE', str(here/'home'))
    code, out = shell('hnet_train', '--out=~/runs/x', *QUICK)
    assert code == 0 and (here/'home'/'runs'/'x'/'model').exists() and not (here/'~').exists(), out
    tiny().save_pretrained('~/m')
    assert (here/'home'/'m'/'config.yaml').exists() and not (here/'~').exists()

def test_resuming_into_another_folder_leaves_the_first_alone(here):
    code, out = shell('hnet_train', '--out', 'a', *QUICK, '--checkpoint-every', '1')
    assert code == 0, out
    first = {p: p.read_bytes() for p in (here/'a').rglob('*') if p.is_file()}
    code, out = shell('hnet_train', '--resume', str(checkpoints('a')[0]), '--out', 'b')
    assert code == 0, out
    assert {p: p.read_bytes() for p in (here/'a').rglob('*') if p.is_file()} == first
    a, b = (AmharicHNet.from_pretrained(here/run/'model').state_dict() for run in 'ab')
    assert all(torch.equal(a[k], b[k]) for k in a)
    code, out = shell('hnet_train', '--resume', 'a', '--out', 'b')
    assert code == 2 and 'holds an earlier run' in out

def test_a_resumed_run_needs_no_options_and_allows_no_contradiction(here):
    code, out = shell('hnet_train', '--out', 'a', *QUICK, '--seed', '3')
    assert code == 0, out
    code, out = shell('hnet_train', '--resume', 'a/checkpoint.pt')
    assert code == 0 and not (here/'runs').exists(), out
    code, out = shell('hnet_train', '--resume', 'a', '--seed', '0')    # its default, but the run had another
    assert code == 2 and '--seed 0' in out, out

@pytest.mark.parametrize('error', [MemoryError(), RuntimeError('CUDA out of memory'), ValueError()])
def test_errors_become_one_line(error, monkeypatch):
    def fail(*args, **kw):
        raise error
    monkeypatch.setattr(cli, 'train', fail)
    code, out = shell('hnet_train', *QUICK)
    assert code == 2 and out.startswith('hnet_train: ') and 'Traceback' not in out
    if not isinstance(error, ValueError):
        assert '--recipe lean' in out

def test_faults_of_the_program_show_themselves(monkeypatch):
    def fail(*args, **kw):
        raise TypeError('a fault')
    monkeypatch.setattr(cli, 'train', fail)
    with pytest.raises(TypeError, match='a fault'):
        shell('hnet_train', *QUICK)

def test_launcher_of_the_specification(here):
    "It says what it will do, refuses what cannot fit, reads the shipped file from anywhere."
    code, out = shell('hnet_launch', '--dry-run', '--device', 'cpu')
    assert code == 0 and not (here/'outputs').exists(), out
    for word in ('300m', 'trial', 'one pass', 'nano', 'lean', 'recomputed', 'every 8'):
        assert word in out, (word, out)
    (here/'data'/'raw').mkdir(parents=True)
    (here/'data'/'raw'/'a.txt').write_text('\n\n'.join(PARAGRAPHS[:30]), encoding='utf8')
    code, out = shell('hnet_launch', '--config', 'configs/hnet_300m_config.yaml', '--dry-run', '--device', 'cpu')
    assert code == 0 and 'data/raw' in out and 'trial' not in out, out
    code, out = shell('hnet_launch', '--memory-limit', '1', '--device', 'cpu')
    assert code == 2 and 'needs about' in out, out

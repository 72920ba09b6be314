"lm-evaluation-harness: the adapter agrees with our own numbers, the tasks run offline; tiny models."
import json, math, os, subprocess, sys
from collections import Counter
import pytest, torch
from hnet_amharic.config import HNetConfig
from hnet_amharic.generation import generate
from hnet_amharic.model import build_model
from hnet_amharic.text import encode
from hnet_amharic.views import score

pytest.importorskip('lm_eval', reason="needs pip install 'hnet_amharic[eval]'")
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager
from hnet_amharic import harness

def ask(*args): return [Instance('x', {}, a, i) for i, a in enumerate(args)]

@pytest.fixture(scope='module', params=['hnet', 'isotropic'])
def lm(request):
    torch.manual_seed(0)
    model = build_model(HNetConfig.preset('test', isotropic=request.param=='isotropic')).eval()
    torch.nn.init.normal_(model.head.weight, std=.3)
    return harness.HarnessModel(model, batch_size=3)

def test_endings_cost_what_score_says(lm):
    "Any order, any batch, shared beginnings, long endings."
    pairs = [('ሰላም', ' ለዓለም'), ('', 'ቡና'), ('ሰላም', ' a'), ('x'*700, 'ሀ'), ('', 'ሰላም '*450), ('ሰላም', ' ለዓለም ሁሉ።')]
    for (nats, _), (begin, end) in zip(lm.loglikelihood(ask(*pairs)), pairs):
        told = sum(bits for _, bits in score(lm.model, begin+end).chars[len(begin):])
        assert math.isclose(-nats/math.log(2), told, rel_tol=1e-4, abs_tol=1e-3)
    text = 'ቡና ጠጡ፣ ውሃ ጠጡ።'
    assert math.isclose(-lm.loglikelihood_rolling(ask((text,)))[0]/math.log(2), score(lm.model, text).bits, rel_tol=1e-5)

def test_greedy_flag_and_text(lm):
    text = generate(lm.model, 'ሰላም', 6, temperature=0, guard=None)[3:]
    found = lm.generate_until(ask(('ሰላም', dict(until=[], max_gen_toks=6)), ('ab', dict(until=['ሰ', 'e'], max_gen_toks=6))))
    assert found[0] == generate(lm.model, 'ሰላም', 6, temperature=0)[3:]
    assert 'ሰ' not in found[1] and 'e' not in found[1]
    flags = [greedy for _, greedy in lm.loglikelihood(ask(('ሰላም', text), ('ሰላም', 'Zጰ')))]
    assert flags[1] is False and isinstance(flags[0], bool)

def test_tasks_run_offline(lm):
    manager = TaskManager(include_path=str(harness.TASKS), include_defaults=False, metadata=dict(max_docs=2))
    assert set(manager.all_subtasks) == {'hnet_amharic_choice', 'hnet_amharic_bits'}
    out = simple_evaluate(lm, tasks=['hnet_amharic'], task_manager=manager, limit=6, bootstrap_iters=0)['results']
    assert 0 <= out['hnet_amharic_choice']['acc,none'] <= 1
    texts = harness.documents(max_docs=2)['test']['text']
    bits = sum(score(lm.model, t).bits for t in texts)/sum(len(t.encode()) for t in texts)
    assert math.isclose(out['hnet_amharic_bits']['bits_per_byte,none'], bits, rel_tol=1e-4)

def test_questions_are_sound():
    "60 different ones, endings that differ, every place right as often, Ethiopic letters, nothing of them in the samples we train on."
    rows = list(harness.questions()['test'])
    assert len({r['question'] for r in rows}) == 60 and set(Counter(r['answer'] for r in rows).values()) == {15}
    for r in rows:
        assert len(set(r['choices'])) == 4 and all(c == c.strip() and c for c in r['choices']), r
        assert r['question'] == r['question'].strip() and r['kind'] in ('sentence', 'meaning', 'knowledge', 'grammar')
    samples = ''.join(p.read_text(encoding='utf8') for p in (harness.PACKAGE/'sample').glob('*.txt'))
    copied = [r['question'] for r in rows if f"{r['question']} {r['choices'][r['answer']]}" in samples]
    assert not copied, copied

def test_own_texts(tmp_path):
    (tmp_path/'a.txt').write_text('ሰላም ለሁላችሁ። እንዴት ናችሁ?\n\nደህና ነን፤ እግዚአብሔር ይመስገን።\n', encoding='utf8')
    assert len(harness.documents(texts=str(tmp_path/'a.txt'))['test']) == 2

def test_command(tmp_path):
    code = 'from hnet_amharic.harness import hnet_harness; hnet_harness()'
    torch.manual_seed(0)
    build_model(HNetConfig.preset('test')).save_pretrained(tmp_path/'m')
    args = ['--model_args', f"pretrained={tmp_path/'m'}", '--tasks', 'hnet_amharic_choice', '--limit', '3', '--output_path', str(tmp_path/'r.json')]
    p = subprocess.run([sys.executable, '-c', code, *args], capture_output=True, text=True, cwd=tmp_path, env=os.environ | dict(HF_HUB_OFFLINE='1'))
    assert p.returncode == 0 and 'hnet_amharic_choice' in p.stdout, p.stderr[-2000:]
    saved = next(tmp_path.glob('r*.json'))
    assert 'acc,none' in json.loads(saved.read_text())['results']['hnet_amharic_choice']

def test_without_the_extra_it_says_so():
    code = "import sys; sys.modules['lm_eval'] = None; import hnet_amharic.harness"
    p = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert p.returncode == 1 and "pip install 'hnet_amharic[eval]'" in p.stderr

def test_bits_of_bytes_agree_with_measure(lm):
    "The cost of the bytes of a document, its end left out."
    from hnet_amharic.data import ByteCorpus
    from hnet_amharic.measure import byte_costs
    text = 'ቡና ጠጡ፣ ውሃ ጠጡ። '*9
    bits, _ = byte_costs(lm.model, ByteCorpus.from_texts([text]))
    rolled = -lm.loglikelihood_rolling(ask((ByteCorpus.from_texts([text]).text(0),)))[0]/math.log(2)
    assert math.isclose(rolled, bits[1:-1].sum(dtype=float), rel_tol=1e-4)
    assert len(encode(text)) >= len(bits)-2

"transformers: the same logits and text as ours, marks that cannot be forged, folders that load elsewhere; tiny models."
import json, os, subprocess, sys
import pytest, torch
from hnet_amharic.config import HNetConfig
from hnet_amharic.generation import generate
from hnet_amharic.model import AmharicHNet
from hnet_amharic.text import ASSISTANT, BOS, EOS, PAD, USER, encode

pytest.importorskip('transformers', reason="needs pip install 'hnet_amharic[hf]'")
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from hnet_amharic import hf

TEXTS = ['ሰላም ለዓለም። ቡና ጠጡ፣ ውሃ ጠጡ።', 'ab 12', 'የኢትዮጵያ ዋና ከተማ']

@pytest.fixture(scope='module')
def tokenizer(): return hf.HNetTokenizer()

@pytest.fixture(scope='module', params=['hnet', 'isotropic'])
def pair(request):
    "A tiny model of ours, and its wrapper."
    torch.manual_seed(0)
    ours = hf.build_model(HNetConfig.preset('test', isotropic=request.param=='isotropic')).eval()
    torch.nn.init.normal_(ours.head.weight, std=.3)
    ours.calibrate(torch.tensor(encode(TEXTS[0], bos=True)).long()[None])
    theirs = hf.HNetForCausalLM(hf.HNetTransformersConfig(ours.cfg.to_dict())).eval()
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs

@pytest.fixture(scope='module')
def folder(pair, tmp_path_factory):
    return hf.export_transformers(pair[0], tmp_path_factory.mktemp('out')/'model')

def text_of(ids): return bytes(b for b in ids.tolist() if b not in hf.MARKS).decode()

# --- the tokenizer

def test_any_text_comes_back(tokenizer):
    "Every character there is, in one text and alone."
    everything = ''.join(map(chr, [*range(0xD800), *range(0xE000, 0x3000), *range(0x10000, 0x10FFFF, 997)]))
    for text in (everything, *'ሰ\x00\n \u0301', '', ' ሰላም  '):
        assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True) == text

@pytest.mark.parametrize('mark', hf.MARKS.values())
def test_text_never_becomes_a_mark(tokenizer, mark):
    "Alone, inside, in a conversation, in a pair, split into words, and with any spaces around it."
    for text in (mark, f'ሰ{mark}ላም', f' {mark} ', mark*3):
        assert not set(tokenizer.encode(text, add_special_tokens=False)) & set(hf.MARKS)
    assert tokenizer(mark, mark).input_ids.count(BOS) == 1
    assert tokenizer([mark], is_split_into_words=True).input_ids == [BOS, *mark.encode()]
    talk = [dict(role='system', content=mark), dict(role='user', content=mark), dict(role='assistant', content=mark)]
    ids = tokenizer.apply_chat_template(talk)['input_ids']
    assert [i for i in ids if i in hf.MARKS] == [BOS, USER, ASSISTANT, EOS]

def test_marks_have_names(tokenizer):
    assert tokenizer.decode([BOS]) == '<bos>'
    assert [tokenizer.decode([b]) for b in hf.MARKS] == list(hf.MARKS.values())
    assert tokenizer.decode([*hf.MARKS], skip_special_tokens=True) == ''
    assert tokenizer.decode([0xE1, 0x88, BOS]) == '\ufffd<bos>'
    assert tokenizer.decode([0xE1, 0x88]) == '\ufffd'
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (PAD, BOS, EOS)

def test_tokenizer_survives_saving(tokenizer, tmp_path):
    "As it is; what is put around a text is the choice of a session, and transformers does not keep it."
    other = hf.HNetTokenizer(add_bos_token=False, add_eos_token=True)
    assert other('ሰ').input_ids == [*'ሰ'.encode(), EOS]
    other.save_pretrained(tmp_path)
    hf.HNetTransformersConfig().save_pretrained(tmp_path)
    back = AutoTokenizer.from_pretrained(tmp_path)
    assert back('ሰ<bos>').input_ids == tokenizer('ሰ<bos>').input_ids and len(back) == 256

@pytest.mark.parametrize('talk', [[dict(role='x', content='a')], [dict(role='user', content=' ')], [dict(role='user', content=3)],
                                  [dict(role='user', content='a'), dict(role='system', content='b')]])
def test_broken_conversations(tokenizer, talk):
    with pytest.raises(ValueError, match='message'):
        tokenizer.apply_chat_template(talk)

# --- the model

def test_logits_are_ours(pair, tokenizer):
    ours, theirs = pair
    rows = [torch.tensor(tokenizer(text).input_ids)[None] for text in TEXTS]
    with torch.no_grad():
        want = [ours(row).logits[0] for row in rows]
        for side in ('left', 'right'):
            batch = tokenizer(TEXTS, padding=True, return_tensors='pt', padding_side=side)
            for extra in (dict(), dict(use_cache=True)):
                out = theirs(**batch, **extra).logits
                for x, y, valid in zip(out, want, batch.attention_mask.bool()):
                    torch.testing.assert_close(x[valid], y, atol=2e-5, rtol=1e-4)

def test_greedy_text_is_ours(pair, tokenizer):
    ours, theirs = pair
    batch = tokenizer(TEXTS, padding=True, return_tensors='pt')
    for row, text in zip(theirs.generate(**batch, max_new_tokens=40, do_sample=False), TEXTS):
        assert text_of(row).startswith(generate(ours, text, 9, temperature=0))

def test_sampled_text_is_whole(pair, tokenizer):
    torch.manual_seed(0)
    batch = tokenizer(TEXTS, padding=True, return_tensors='pt')
    for length in (1, 2, 3, 4, 5, 17):
        for row in pair[1].generate(**batch, max_new_tokens=length, do_sample=True, temperature=5., num_return_sequences=4):
            text_of(row)

def test_beams_and_continued_cache(pair, tokenizer):
    _, theirs = pair
    prompt = tokenizer(TEXTS[1], return_tensors='pt')
    fixed = dict(do_sample=False, guard=False, length_penalty=0.)
    alone = theirs.generate(**prompt, num_beams=4, max_new_tokens=12, **fixed)[0]
    batch = tokenizer(TEXTS, padding=True, return_tensors='pt')
    assert text_of(theirs.generate(**batch, num_beams=4, max_new_tokens=12, **fixed)[1]) == text_of(alone)
    first = theirs.generate(**prompt, max_new_tokens=6, return_dict_in_generate=True, **fixed)
    longer = theirs.generate(first.sequences, cache=first.cache, max_new_tokens=6, **fixed)
    assert longer.tolist() == theirs.generate(first.sequences, max_new_tokens=6, **fixed).tolist()

def test_guard_is_on_and_can_be_off(tokenizer):
    "A word of the shipped policy, made the likeliest by force."
    guard = hf.default_guard()
    word = next(e for entry in hf_policy() for e in entry.get('forms', []) if not e.isascii())
    ids = tokenizer(f'ሀ {word}').input_ids
    def finished(judge):
        "May the word be written to its end behind `ሀ `, and the text end there?"
        for n in range(len('ሀ '.encode())+1, len(ids)+1):
            scores = judge(torch.tensor([ids[:n]]), torch.zeros(1, 256))[0]
            if n < len(ids) and not scores[ids[n]].isfinite(): return False
        return bool(scores[EOS].isfinite())
    assert finished(hf.ValidText()) and not finished(hf.ValidText(guard=guard))

def hf_policy():
    from hnet_amharic.guard import read_policy
    return read_policy()['entries']

@pytest.mark.parametrize('name', list(hf.UNUSED))
def test_refused_by_name(pair, name):
    ids = torch.tensor([[BOS, 65]])
    with pytest.raises(ValueError, match=name):
        pair[1](ids, **{name: torch.ones(1, 2)})
    assert pair[1](ids, **{name: None}).logits.shape == (1, 2, 256)

def test_loss_has_a_gradient_everywhere(pair, tokenizer):
    _, theirs = pair
    batch = tokenizer(TEXTS, padding=True, return_tensors='pt')
    theirs.train()
    theirs(**batch, labels=batch.input_ids).loss.backward()
    missing = [n for n, p in theirs.named_parameters() if p.requires_grad and p.grad is None]
    theirs.zero_grad()
    theirs.eval()
    assert not missing and not theirs.tables.sparse

# --- folders

def test_folder_loads(folder, pair):
    "In fp32 exactly; in half precision it writes; as a folder of ours."
    ids = torch.tensor([[BOS, *TEXTS[0].encode()]])
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        assert torch.equal(model(ids).logits, pair[0](ids).logits)
        assert torch.equal(AmharicHNet.from_pretrained(folder)(ids).logits, pair[0](ids).logits)
    for dtype in (torch.bfloat16, torch.float16):
        half = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        assert {p.dtype for p in half.parameters()} == {dtype}
        text_of(half.generate(ids, max_new_tokens=6, do_sample=False)[0])
        assert generate(half.hnet, 'ሰላም', 3, seed=1).startswith('ሰላም')          # ours in half precision too
    assert AutoConfig.from_pretrained(folder).sizes() == pair[0].cfg

def test_int8_and_wrong_weights_are_refused(pair, tmp_path):
    ours = pair[0]
    for dtype, words in (('int8', 'int8'), ('fp32', 'missing|unexpected|mismatched|shape|size')):
        ours.save_pretrained(tmp_path/dtype, dtype)
        cfg = ours.cfg if dtype=='int8' else hf.HNetConfig.from_dict({**ours.cfg.to_dict(), 'd_state': 32})
        hf.HNetTransformersConfig(cfg.to_dict()).save_pretrained(tmp_path/dtype)
        with pytest.raises((ValueError, RuntimeError), match=words):
            AutoModelForCausalLM.from_pretrained(tmp_path/dtype)

ELSEWHERE = '''
import sys
class Absent:
    def find_spec(self, name, *args):
        if name.split('.')[0] == 'hnet_amharic': raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
sys.modules['torchvision'] = None
from transformers import AutoModelForCausalLM, AutoTokenizer
folder = sys.argv[1]
model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
ids = tokenizer('ab 12', return_tensors='pt')
print(model.generate(**ids, max_new_tokens=20, do_sample=False)[0].tolist())
model.save_pretrained(sys.argv[2])
'''

@pytest.mark.parametrize('pair', ['hnet'], indirect=True)
def test_folder_holds_its_own_code(folder, pair, tokenizer, tmp_path):
    "Where the library cannot be imported; and what is saved there still holds the code."
    env = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'} | dict(HF_HUB_OFFLINE='1', HF_MODULES_CACHE=str(tmp_path/'modules'))
    p = subprocess.run([sys.executable, '-c', ELSEWHERE, str(folder), str(tmp_path/'again')], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert p.returncode == 0, p.stderr
    ids = tokenizer('ab 12', return_tensors='pt')
    assert json.loads(p.stdout) == pair[1].generate(**ids, max_new_tokens=20, do_sample=False)[0].tolist()
    assert (tmp_path/'again'/'hf.py').exists() and (tmp_path/'again'/'text.py').exists()

def test_nothing_else_imports_it():
    "The library without the extra costs nothing of it."
    code = ("import sys, pkgutil, hnet_amharic, importlib\n"
            "for m in pkgutil.iter_modules(hnet_amharic.__path__):\n"
            "    if m.name not in ('hf', 'harness'): importlib.import_module('hnet_amharic.'+m.name)\n"
            "print([n for n in ('transformers', 'lm_eval', 'hnet_amharic.hf') if n in sys.modules])")
    p = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert p.stdout.strip() == '[]', p.stdout+p.stderr

def test_without_the_extra_it_says_so():
    code = "import sys; sys.modules['transformers'] = None; import hnet_amharic.hf"
    p = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert p.returncode == 1 and "pip install 'hnet_amharic[hf]'" in p.stderr

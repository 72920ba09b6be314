"""The model in the package: small, quick to load, and it writes Amharic."""
import re, unicodedata
import torch
from hnet_amharic.config import PACKAGE
from hnet_amharic.model import default_weights, load_default
from hnet_amharic.generation import STANDARD_PROMPTS, generate
from hnet_amharic.text import encode, ethiopic_share

def test_size_and_card():
    "At most 32 MB on disk, with a card that names text, licences and measured loss."
    folder = default_weights()
    assert sum(p.stat().st_size for p in folder.iterdir())<=32e6
    card = (folder/'README.md').read_text(encoding='utf8')
    for word in ('CC0', 'CC BY-SA', 'bits per byte', 'Limits'): assert word in card, word

def test_knows_amharic():
    "The embedded text is of another kind than its newspapers; still it needs far fewer than 8 bits per byte."
    m = load_default('cpu')
    text = (PACKAGE/'sample'/'daily_life.txt').read_text(encoding='utf8')[:1200]
    ids = torch.tensor(encode(text, bos=True)).long()[None]
    with torch.no_grad(): lg = m(ids[:,:-1]).logits
    assert torch.nn.functional.cross_entropy(lg[0], ids[0,1:]).item()/0.6931<1.8

def test_writes_amharic():
    "Continuations of the standard prompts are valid, mostly Ethiopic, and do not loop."
    m = load_default('cpu')
    for t in generate(m, STANDARD_PROMPTS, max_new_chars=80, temperature=.7, seed=1):
        assert '\ufffd' not in t and ethiopic_share(t)>.7, t
        words = re.findall('[ሀ-ፚ]+', t)                 # the word separator of a dictionary is no word
        assert len(set(words))>.6*len(words), t

def test_sample_text():
    "At least 60 KB of original text: NFC, no repeated lines."
    text = '\n'.join(p.read_text(encoding='utf8') for p in sorted((PACKAGE/'sample').glob('*.txt')))
    assert len(text.encode())>=60_000 and unicodedata.is_normalized('NFC', text)
    lines = [l for l in text.split('\n') if l]
    assert len(lines)==len(set(lines))

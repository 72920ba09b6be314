"""Contracts of writing text with the model in the package.

Logits are compared within a bound, never texts across batch sizes: the last bit of an fp32 product depends on the batch
size and the processor, and where two bytes are that near to each other a text may change with it."""
import warnings
import pytest, torch
from hnet_amharic.text import encode
from hnet_amharic.config import PACKAGE
from hnet_amharic.model import load_default
from hnet_amharic.generation import (PIECE, STANDARD_PROMPTS, Batch, Continuation, GenerationOptions, generate,
                                     read_prompt, read_rows, stream)
from hnet_amharic.views import score
from hnet_amharic.quantize import quantize_int8

PROMPTS = STANDARD_PROMPTS[:5]+['', 'the year 1997', STANDARD_PROMPTS[0]*20]
TEXT = (PACKAGE/'sample'/'daily_life.txt').read_text(encoding='utf8')

@pytest.fixture(scope='module')
def nano():
    return load_default('cpu')

@pytest.fixture(scope='module')
def nano8():
    return quantize_int8(load_default('cpu'))

def nats(model, texts):
    "Log-probability of every byte of texts that are read together, a list (n,) for each."
    rows = [bytes(encode(t, bos=True)) for t in texts]
    longest = max(map(len, rows))
    ids = torch.tensor([list(row)+[253]*(longest-len(row)) for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    with torch.inference_mode():
        logits = model(ids, model.new_cache(len(rows)), lengths).logits.log_softmax(-1)
    return [logits[i,:n-1].gather(1, ids[i,1:n,None])[:,0] for i,n in enumerate(lengths.tolist())]

def test_batch_equals_alone(nano):
    "fp32: what a mixed batch wrote has the log-probabilities, within 1e-3 a byte, that each text has alone."
    for batch_size in (3, 8):
        samples = generate(nano, PROMPTS, 12, seed=7, top_p=.95, logprobs=True, batch_size=batch_size)
        for prompt,s in zip(PROMPTS, samples):
            alone = nats(nano, [s.text])[0][len(prompt.encode()):]
            written = torch.tensor([v for _,v in s.logprobs])
            assert abs(written.sum()-alone.sum()) < 1e-3*max(1, len(alone))

def test_int8_batch_equals_alone(nano8):
    """int8: a last bit of the fp32 layers in between can tip the rounding of an input, so single bytes may differ.
    Promised is the mean: log-probabilities within .02 nats a byte."""
    texts = [TEXT[i:i+150] for i in (0, 400, 900, 1500)]
    together = nats(nano8, texts)
    for text,rows in zip(texts, together):
        alone = nats(nano8, [text])[0]
        assert (rows-alone).abs().mean() < .02

def test_int8_keeps_the_loss(nano, nano8):
    "Bits per byte within 0.5 % of fp32."
    assert abs(score(nano8, TEXT[:1500]).bpb/score(nano, TEXT[:1500]).bpb-1) < .005

def test_same_seed_same_text(nano):
    assert generate(nano, PROMPTS[:3], 8, seed=3) == generate(nano, PROMPTS[:3], 8, seed=3)

def test_long_prompt_is_read_whole(nano):
    "A prompt of more than one piece, read here in other pieces: the numbers are the same."
    text = TEXT[:1000]
    assert len(text.encode()) > PIECE
    prefix = read_prompt(nano, text)
    logits, cache = torch.empty(1, 256), nano.new_cache(1)
    for start in range(0, len(text), 333):
        read_rows(nano, [bytes(encode(text[start:start+333], bos=start==0))], cache, logits)
    assert (prefix.logits-logits).abs().max() < 1e-3

def test_rows_join_and_go_on(nano):
    "A text that joined late and one that went on after a second prompt have the numbers of a single pass."
    batch = Batch(nano, size=2, keep=True)
    first, late = (Continuation(p, GenerationOptions(6, seed=i)) for i,p in enumerate(('ሰላም', 'ቡና')))
    batch.add(first)
    for _ in range(5):
        batch.step()
    batch.add(late)
    while len(batch):
        batch.step()
    first.say(' ቡና ጠጡ። ')
    batch.add(first)
    while len(batch):
        batch.step()
    for text in (first, late):
        logits = read_rows(nano, [text.unread], text.cache, torch.empty(1, 256))
        assert (logits-read_prompt(nano, text.text).logits).abs().max() < 1e-3

def test_greedy_refuses_filters(nano):
    "A `.9` that was asked for is refused like any other."
    for p in (.8, .9):
        with pytest.raises(ValueError, match='top_p'):
            generate(nano, 'ሰላም', 2, temperature=0, top_p=p)
    assert generate(nano, 'ሰላም', 2, temperature=0, top_p=1) == generate(nano, 'ሰላም', 2, temperature=0)

def test_strange_prompts(nano):
    "Line separators, NUL and unassigned characters are characters; nothing warns."
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for prompt in ('a\u2028b', 'a\x85b\x0cc', '\x00', '\U0010ffff', 'ab'):
            assert generate(nano, prompt, 2, seed=0).startswith(prompt)
            assert ''.join(c for c,_ in score(nano, prompt).chars) == prompt

def test_stream_starts_at_once(nano):
    "A prompt of 10,000 bytes gives its first character after the prompt is read, without a warning."
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert len(next(stream(nano, 'ሰላም '*1000, 1, seed=0))) == 1

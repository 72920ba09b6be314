"""Contracts of writing text with the model in the package: a batch changes nothing, int8 weights cost nothing to speak of."""
import warnings
import pytest, torch
from hnet_amharic.generation import STANDARD_PROMPTS, generate, half_weights, load_default, quantize_int8, score, stream
from hnet_amharic.model import PACKAGE

PROMPTS = STANDARD_PROMPTS[:5]+['', 'the year 1997', STANDARD_PROMPTS[0]*20]

@pytest.mark.parametrize('change', [None, quantize_int8], ids=['fp32', 'int8'])
def test_batch_equals_alone(change):
    "Every row of a mixed batch is the text its prompt gets alone, greedy and sampled."
    m = load_default('cpu')
    if change: change(m)
    alone = [generate(m, p, 16, temperature=0) for p in PROMPTS]
    assert generate(m, PROMPTS, 16, temperature=0) == alone == generate(m, PROMPTS, 16, temperature=0, batch_size=3)
    sampled = generate(m, PROMPTS, 16, seed=7, top_p=.95)
    single = [p+''.join(stream(m, p, 16, seed=7+i, top_p=.95)) for i,p in enumerate(PROMPTS)]
    # int8 rounds inputs: a last bit of fp32, which a batch may change, can tip one, and with it a draw
    assert sum(a!=b for a,b in zip(sampled, single)) <= (change is not None)

def test_small_weights_keep_the_loss():
    "Bits per byte within 0.5 % of fp32."
    text = (PACKAGE/'sample'/'daily_life.txt').read_text(encoding='utf8')[:800]
    full = score(load_default('cpu'), text).bpb
    for change in (quantize_int8, half_weights): assert abs(score(change(load_default('cpu')), text).bpb/full-1) < .005

def test_a_megabyte():
    "The end of a huge prompt is read, with a warning."
    with pytest.warns(UserWarning, match='8,192'): assert next(stream(load_default('cpu'), 'ሰላም '*100_000, 1, seed=0))

def test_short_prompts_are_quiet():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        generate(load_default('cpu'), ['ሰላም', 'ab'], 2, seed=0)

class Plain(torch.nn.Module):
    "A model that cannot look ahead."
    def __init__(self, m): super().__init__(); self.m = m
    def prefill(self, *args): return self.m.prefill(*args)
    def step(self, *args): return self.m.step(*args)

def test_looking_ahead_changes_nothing():
    "The shipped model writes the same with and without it, greedy and sampled, alone and in a batch."
    m = load_default('cpu')
    for kw in (dict(temperature=0), dict(seed=3, temperature=1., top_p=.95, repetition_penalty=1.2, stop='።')):
        plain = generate(Plain(m), PROMPTS[:7], 16, **kw)
        assert plain == generate(m, PROMPTS[:7], 16, **kw) == generate(m, PROMPTS[:7], 16, batch_size=1, **kw)

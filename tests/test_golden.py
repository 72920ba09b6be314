"""Numbers that must not move: logits and boundaries of small models of every pattern, and of the shipped one.

tests/golden was written by an earlier version of the library, from weights that depend on their names and shapes alone."""
import json, zlib
import pytest, torch
from pathlib import Path
from safetensors.torch import load_file, save_file
from hnet_amharic.config import HNetConfig, PACKAGE
from hnet_amharic.data import ByteCorpus
from hnet_amharic.files import write_text
from hnet_amharic.measure import bits_per_byte
from hnet_amharic.model import build_model, load_default
from hnet_amharic.text import BOS

GOLDEN = Path(__file__).parent/'golden'
KNOWN = json.loads((GOLDEN/'golden.json').read_text(encoding='utf8'))
RAW = KNOWN['text'].encode()
IDS = torch.tensor([[BOS, *RAW], [BOS, *RAW[3:], 32, 32, 32]])
NAMES = [*KNOWN['configs'], 'shipped']

@torch.no_grad()
def fill(model):
    "Weights that depend on names and shapes alone."
    for name, p in model.named_parameters():
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        x = torch.randn(p.shape, generator=generator)
        if name.endswith('tau'):
            x = torch.full_like(x, -2.)
        elif name.endswith('A_log'):
            x = x.abs()
        elif name.endswith('dt_bias'):
            x = x-3
        elif p.dim()<2:
            x = .1*x if name.endswith('bias') else 1+.1*x
        if p.dim()>=2:
            x = x*(.5 if 'embedding' in name or 'tables' in name else p.shape[-1]**-.5)
        p.copy_(x)
    return model

@pytest.fixture(scope='module')
def golden():
    return load_file(GOLDEN/'logits.safetensors')

@pytest.fixture(scope='module', params=NAMES)
def named(request):
    "A name and its model."
    name = request.param
    model = load_default() if name=='shipped' else fill(build_model(HNetConfig.from_dict(KNOWN['configs'][name])))
    return name, model.eval()

@torch.no_grad()
def in_pieces(model, sizes):
    "Logits and boundaries, read in pieces of these sizes in turn."
    cache = model.new_cache(len(IDS))
    logits, masks = [], []
    at = 0
    while at<IDS.shape[1]:
        size = sizes[len(logits)%len(sizes)]
        out = model(IDS[:,at:at+size], cache)
        logits.append(out.logits)
        masks.append(out.boundary_mask)
        at += size
    return torch.cat(logits, 1), torch.cat(masks, 1)

@torch.no_grad()
def ragged(model, most=40, seed=0):
    "Logits and boundaries where every row goes on by another number of bytes, 0 among them."
    generator = torch.Generator().manual_seed(seed)
    B, T = IDS.shape
    cache = model.new_cache(B)
    logits = torch.zeros(B, T, 256)
    mask = torch.zeros(B, T, dtype=torch.bool)
    at = torch.zeros(B, dtype=torch.long)
    while (at<T).any():
        n = torch.randint(0, most+1, (B,), generator=generator).minimum(T-at)
        ids = torch.full((B, max(1, int(n.max()))), 65)          # what stands behind the end of a row is not read
        for b in range(B):
            ids[b,:n[b]] = IDS[b,at[b]:at[b]+n[b]]
        out = model(ids, cache, n)
        for b in range(B):
            logits[b,at[b]:at[b]+n[b]] = out.logits[b,:n[b]]
            mask[b,at[b]:at[b]+n[b]] = out.boundary_mask[b,:n[b]]
        at = at+n
    return logits, mask

@torch.no_grad()
def test_same_numbers(named, golden):
    "Within rounding, which differs between machines; boundaries are the same ones."
    name, model = named
    out = model(IDS)
    known = golden[f'{name}.logits']
    assert (out.logits[:,::12]-known).abs().max()<=2e-5*known.abs().max()
    assert torch.equal(out.boundary_mask, golden[f'{name}.mask'])
    assert (out.boundary_prob-golden[f'{name}.prob']).abs().max()<1e-4

@torch.no_grad()
def test_whole_is_pieces_is_ragged(named):
    "A text cut anywhere gives the numbers of the whole, with and without rows of different length."
    _, model = named
    whole = model(IDS)
    for logits, mask in (in_pieces(model, [7]), in_pieces(model, [40, 1, 1, 7]), in_pieces(model, [len(RAW)+1]), ragged(model)):
        assert (logits-whole.logits).abs().max()<=2e-5*whole.logits.abs().max()
        assert torch.equal(mask, whole.boundary_mask)

def sample_bits() -> dict:
    "What the shipped model needs for the three oldest files of the embedded sample."
    names = ('daily_life', 'nature_and_science', 'stories_and_festivals')
    docs = ByteCorpus.build([PACKAGE/'sample'/f'{name}.txt' for name in names])
    found = bits_per_byte(load_default(), docs, KNOWN['sample']['length'], KNOWN['sample']['context'])
    return {name: found[name] for name in ('bpb', 'bytes')}

def test_the_shipped_model_costs_what_it_did():
    "Bits per byte of the three oldest files of the embedded sample, to three decimals."
    found = sample_bits()
    assert found['bytes']==KNOWN['sample']['bytes']
    assert abs(found['bpb']-KNOWN['sample']['bpb'])<5e-4

def rewrite_shipped():
    "After the shipped weights were made again: what they give becomes what is known. The other models stay as they are."
    model = load_default()
    with torch.no_grad():
        out = model(IDS)
    tensors = load_file(GOLDEN/'logits.safetensors')
    tensors |= {'shipped.logits': out.logits[:,::12].contiguous(), 'shipped.mask': out.boundary_mask,
                'shipped.prob': out.boundary_prob}
    KNOWN['sample'].update(sample_bits())
    save_file(tensors, GOLDEN/'logits.safetensors')
    write_text(GOLDEN/'golden.json', json.dumps(KNOWN, ensure_ascii=False, indent=1)+'\n')

if __name__=='__main__':
    rewrite_shipped()

"""Training and writing beside other models of the same size, on the same text: `make bench`.

    python .ci/bench.py [--sizes 13 47] [--rounds 5] [--out nbs/results/bench.csv]

Peers are optional: pip install h-net-dynamic-chunking transformers. Every round runs each model once, so that all of them
meet the same machine; the table holds medians. `of_product` is the share of what one large product reaches here
(training), `of_memory` the share of what reading the weights of a byte takes (writing)."""
import argparse
import inspect
import os
import platform
import sys
import time
from itertools import chain
from pathlib import Path
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from hnet_amharic.config import HNetConfig, PACKAGE
from hnet_amharic.files import write_text
from hnet_amharic.model import build_model
from hnet_amharic.profile import product_rate
from hnet_amharic.quantize import quantize_int8

sys.modules.setdefault('torchvision', None)   # transformers does without; one that does not fit this torch would stop it

OURS = {13: dict(d_byte=256, d_model=512, n_backbone_layers=3, ff=1024),
        47: dict(d_byte=384, d_model=768, n_backbone_layers=6, ff=1472)}

class Ours:
    "This library."
    def __init__(self, size:int, int8:bool=False):
        wide = OURS[size]
        cfg = HNetConfig(**wide, n_heads=wide['d_model']//64, n_kv_heads=wide['d_model']//64, head_dim=64, encoder='m3',
                         n_chunk_layers=1, n_chunk_heads=4, chunk_head_dim=64, chunk_ff=2*wide['d_byte'], n_dechunk_layers=3,
                         n_dechunk_heads=4, dechunk_head_dim=64, dechunk_ff=2*wide['d_byte'], ngram_sizes=(), target_bytes=5.)
        self.model = build_model(cfg)
        self.model.calibrate(sample(4, 512))
        if int8:
            quantize_int8(self.model)

    def loss(self, ids):
        out = self.model(ids)
        return F.cross_entropy(out.logits[:,:-1].flatten(0, 1).float(), ids[:,1:].flatten())+.03*out.ratio_loss

    def start(self, ids):
        self.cache = self.model.new_cache(len(ids))
        return self.model(ids, self.cache).logits[:,-1]

    def step(self, ids):
        return self.model(ids, self.cache).logits[:,-1]

class Chunking(Ours):
    "h-net-dynamic-chunking."
    def __init__(self, size:int):
        from h_net_dynamic_chunking import HNet
        from x_transformers import Decoder
        narrow, wide, depth = {13: (256, 512, 3), 47: (448, 768, 5)}[size]
        def stack(d, layers):
            return Decoder(dim=d, depth=layers, heads=d//64, attn_dim_head=64, rotary_pos_emb=True, pre_norm_has_final_norm=False)
        self.model = nn.ModuleDict(dict(
            embed=nn.Embedding(256, narrow), head=nn.Linear(narrow, 256),
            net=HNet(stack(narrow, 2), stack(wide, depth), stack(narrow, 2), dim=narrow, dim_inner=wide,
                     target_avg_token_length=5.)))

    def loss(self, ids):
        out = self.model['net'](self.model['embed'](ids[:,:-1]))
        return F.cross_entropy(self.model['head'](out.output).flatten(0, 1).float(), ids[:,1:].flatten())+.03*out.loss

    def start(self, ids):
        self.cache = None
        return self.step(ids)

    def step(self, ids):
        out = self.model['net'](self.model['embed'](ids), cache=self.cache, return_hiddens=True)
        self.cache = out.next_cache
        return self.model['head'](out.output)[:,-1]

class Llama(Ours):
    "A Llama of transformers over bytes, with a static cache."
    def __init__(self, size:int):
        from transformers import LlamaConfig, LlamaForCausalLM
        d, layers, inner = {13: (384, 7, 1152), 47: (640, 9, 2048)}[size]
        self.model = LlamaForCausalLM(LlamaConfig(
            vocab_size=256, hidden_size=d, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=d//64,
            max_position_embeddings=1024))

    def loss(self, ids):
        return self.model(input_ids=ids, labels=ids).loss

    def start(self, ids):
        from transformers import StaticCache
        self.cache = StaticCache(config=self.model.config, max_cache_len=512)
        return self.step(ids)

    def step(self, ids):
        word = 'cache' if 'cache' in inspect.signature(self.model.forward).parameters else 'past_key_values'
        return self.model(input_ids=ids, use_cache=True, **{word: self.cache}).logits[:,-1]

MODELS = {'ours': Ours, 'h-net-dynamic-chunking': Chunking, 'Llama over bytes': Llama}

def sample(rows:int, length:int): # (rows, length) bytes of the sample text
    "Real text, the same for everybody."
    text = b' '.join(p.read_bytes() for p in sorted((PACKAGE/'sample').glob('*.txt')))
    return torch.from_numpy(np.frombuffer(text[:rows*length], np.uint8).astype(np.int64)).view(rows, length)

def train_seconds(one, ids, half:bool) -> float:
    "A forward and a backward pass."
    begun = time.perf_counter()
    with torch.autocast('cpu', torch.bfloat16, enabled=half):
        loss = one.loss(ids)
    loss.backward()
    one.model.zero_grad(set_to_none=True)
    return time.perf_counter()-begun

@torch.inference_mode()
def write_seconds(one, prompt, n:int=48) -> float:
    "Seconds a step, each with the likeliest byte of the step before."
    byte = one.start(prompt).argmax(-1, keepdim=True)
    begun = time.perf_counter()
    for _ in range(n):
        byte = one.step(byte).argmax(-1, keepdim=True)
    return (time.perf_counter()-begun)/n

def memory_rate() -> float: # bytes/s
    "What a sum over 256 MB reads."
    x = torch.ones(2**26)
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        x.sum()
        seconds.append(time.perf_counter()-begun)
    return 4*len(x)/float(np.median(seconds))

def loaded(size:int, **kinds) -> dict:
    "The models whose library is here."
    found = {}
    for name, kind in kinds.items():
        try:
            found[name] = kind(size)
        except ImportError as e:
            print(f'{name}: left out ({e})', flush=True)
    return found

def interleaved(models:dict, f, rounds:int) -> dict: # name: median seconds
    "Each model once a round, after one round that does not count."
    seconds = {name: [] for name in models}
    for _ in range(rounds+1):
        for name, one in models.items():
            seconds[name].append(f(one))
    return {name: float(np.median(s[1:])) for name, s in seconds.items()}

def training_rows(size:int, rounds:int):
    "Bytes/s of training in both precisions."
    ids = sample(4, 512)
    models = {name: one for name, one in loaded(size, **MODELS).items()}
    flops = {}
    for name, one in models.items():
        one.model.train()
        with FlopCounterMode(display=False) as counter:
            one.loss(ids).backward()
        flops[name] = counter.get_total_flops()
    for precision, dtype in (('fp32', torch.float32), ('bf16', torch.bfloat16)):
        product = product_rate(dtype, 'cpu')
        for name, s in interleaved(models, lambda one: train_seconds(one, ids, precision=='bf16'), rounds).items():
            yield dict(what='training', size=size, model=name, precision=precision, rows=4, bytes_per_second=ids.numel()/s,
                       flop_per_byte=flops[name]/ids.numel(), of_product=flops[name]/s/product)

def writes(name:str, one, precision:str) -> bool:
    "Whether a model can write in this precision; says why not."
    try:
        write_seconds(one, sample(1, 16), 2)
    except RuntimeError as e:
        print(f'{name}: left out of writing in {precision} ({str(e).splitlines()[0]})', flush=True)
        return False
    return True

def writing_rows(size:int, rounds:int):
    "Bytes/s of writing, one text and sixteen."
    for precision, dtype in (('fp32', torch.float32), ('bf16', torch.bfloat16)):
        models = loaded(size, **MODELS)
        for one in models.values():
            one.model.to(dtype).eval()
        if precision=='bf16':
            models['ours, int8'] = Ours(size, int8=True)
        models = {name: one for name, one in models.items() if writes(name, one, precision)}
        for batch in (1, 16):
            prompt = sample(batch, 128)
            for name, s in interleaved(models, lambda one: write_seconds(one, prompt), rounds).items():
                yield dict(what='writing', size=size, model=name, precision='int8' if 'int8' in name else precision,
                           rows=batch, bytes_per_second=batch/s)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--sizes', nargs='+', type=int, default=[13, 47], choices=[13, 47], help='millions of parameters')
    p.add_argument('--rounds', type=int, default=5)
    p.add_argument('--out', default='nbs/results/bench.csv')
    a = p.parse_args()
    torch.manual_seed(0)
    cpu = next((line.split(':')[1].strip() for line in Path('/proc/cpuinfo').read_text().splitlines() if 'model name' in line),
               platform.processor()) if Path('/proc/cpuinfo').exists() else platform.processor()
    machine = dict(cpu=cpu, threads=torch.get_num_threads(), load=os.getloadavg()[0], torch=torch.__version__,
                   memory_gb_per_second=memory_rate()/1e9)
    rows = []
    for size in a.sizes:
        count = {name: sum(p.numel() for p in one.model.parameters()) for name, one in loaded(size, **MODELS).items()}
        for row in chain(training_rows(size, a.rounds), writing_rows(size, a.rounds)):
            row['parameters'] = count.get(row['model'].split(',')[0])
            print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
            rows.append({**row, **machine})
    write_text(Path(a.out).resolve(), pd.DataFrame(rows).to_csv(index=False, float_format='%.4g'))

if __name__=='__main__':
    main()

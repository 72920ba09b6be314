"""Size and speed of the programs that hnet_export writes, on the shipped model, beside ours.

    python .ci/portable.py                 writes nbs/results/portable.csv"""
import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
import onnxruntime
import pandas as pd
import torch
from hnet_amharic.files import write_text
from hnet_amharic.model import default_weights, load_default
from hnet_amharic.share_cli import export_onnx, export_program
from hnet_amharic.text import PAD, encode

TEXT = 'የኢትዮጵያ ሕዝብ ብዙ ቋንቋዎችን ይናገራል። '

def row_of(program, f, model, path, ids, length, turns):
    "Size, seconds and the largest difference of a logit."
    seconds = []
    for _ in range(turns+1):
        start = time.process_time()
        out = f(ids)
        seconds.append(time.process_time()-start)
    gap = (out[:,:length]-model(ids[:,:length]).logits).abs().max().item()
    return dict(program=program, megabytes=round(path.stat().st_size/1e6, 1), seconds=round(median(seconds[1:]), 3), largest_difference=f'{gap:.0e}')

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--turns', type=int, default=9)
    p.add_argument('--out', default='nbs/results/portable.csv')
    a = p.parse_args()
    torch.set_num_threads(1)
    here, model = Path(tempfile.mkdtemp()), load_default()
    data = encode(TEXT*9, bos=True)[:200]
    ids = torch.full((1, 256), PAD)
    ids[0,:len(data)] = torch.from_numpy(data).long()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(export_onnx(model, here/'model.onnx')), options)
    program = torch.export.load(export_program(model, here/'model.pt2')).module()
    ours = default_weights()/'model.safetensors'
    with torch.no_grad():
        rows = [row_of('ours (int8 on disk)', lambda x: model(x).logits, model, ours, ids, len(data), a.turns),
                row_of('torch.export', program, model, here/'model.pt2', ids, len(data), a.turns),
                row_of('ONNX Runtime', lambda x: torch.tensor(session.run(['logits'], dict(ids=x.numpy()))[0]), model, here/'model.onnx', ids, len(data), a.turns)]
    print(pd.DataFrame(rows))
    write_text(Path(a.out).resolve(), pd.DataFrame(rows).to_csv(index=False))

if __name__=='__main__':
    main()

"""Make the shipped weights: train on the mix, divide the logits, fit factors, round to int8, measure, write the card.

    make weights DATA=FOLDER                     everything; FOLDER holds the paths of hnet_amharic/mixes/broad.yaml
    python .ci/weights.py --data FOLDER --init shipped --lr 6e-4 --minutes 120     continue from today's weights
    python .ci/weights.py --data FOLDER --trained runs/nano/model                  only what comes after training

Validation documents are dealt out in turn: the first, third, ... of each register choose the divisor and the factors,
the second, fourth, ... are measured for the card, so that no figure comes from text that anything was fitted to."""
import argparse
import json
import time
from pathlib import Path
import numpy as np
import torch
from hnet_amharic import __version__
from hnet_amharic.config import PACKAGE
from hnet_amharic.sources import read_documents
from hnet_amharic.data import ByteCorpus
from hnet_amharic.files import read_json, write_text
from hnet_amharic.launch import load_model, pick_device, train
from hnet_amharic.measure import bits_per_byte, byte_costs, second_halves
from hnet_amharic.model import AmharicHNet, default_weights, parameter_table
from hnet_amharic.recipes import rescale, temper

REGISTERS = {'newspapers': 'corpus/valid/news.txt', 'encyclopedia': 'corpus/valid2/encyclopedia.txt',
             'world news': 'corpus/valid2/world_news.txt', 'translations': 'corpus/valid2/translations.txt',
             'software': 'corpus/valid2/software.txt', 'social': 'corpus/valid2/social.txt'}
GENRE = {'newspapers': 'news', 'encyclopedia': 'encyclopedia', 'world news': 'news', 'software': 'guide',
         'social': 'social'}
TEST = 'newspapers, test years', 'corpus/test/news.txt' # only measured

def registers(base:Path, most:int) -> tuple: # {register: ByteCorpus} to fit on, {register: ByteCorpus} to measure
    "Validation text, and the held-out part of the sample, dealt out in turn; at most so many bytes of each."
    fit, measured = {}, {}
    for name, path in {**REGISTERS, 'own text': PACKAGE/'sample_held_out'}.items():
        texts = [text for _, text in read_documents(base/path)]
        if len(texts)==1:
            lines = texts[0].split('\n')
            texts = ['\n'.join(lines[i:i+20]) for i in range(0, len(lines), 20)]
        fit[name] = ByteCorpus.from_texts(texts[::2], name=name).sample(most, 0)
        measured[name] = ByteCorpus.from_texts(texts[1::2], name=name).sample(most, 0)
    measured[TEST[0]] = ByteCorpus.build(base/TEST[1]).sample(most, 0)
    return fit, measured

def measure(model, docs:dict) -> dict: # {register: figures}
    "Bits per byte and per character of every register."
    return {name: bits_per_byte(model, part) for name, part in docs.items()}

def mean(found:dict) -> float:
    "Mean bits per byte of the validation registers, news one of them."
    return sum(found[name]['bpb'] for name in REGISTERS)/len(REGISTERS)

def with_mark(model, docs:ByteCorpus, genre:str) -> float: # bits per byte
    "What the same bytes cost behind the mark of their genre; the mark itself does not count."
    marked = ByteCorpus.from_texts(docs.texts(), genre_of=lambda source: genre)
    costs, _ = byte_costs(model, marked)
    costs[marked.starts+1] = np.nan
    return float(np.nanmean(costs, dtype=float))

def show(title:str, found:dict):
    "One line a register."
    print(f'\n{title}')
    for name, row in found.items():
        print(f'  {name:24} {row["bpb"]:.4f}', flush=True)
    print(f'  {"mean of validation":24} {mean(found):.4f}', flush=True)

def between(start:str, trained, share:float):
    """Weights on the line from those that training began with to those it ended with: what was learned anew costs the old
    text less there (arXiv 2109.01903). Changes `trained`."""
    before = load_model(start).state_dict()
    trained.load_state_dict({name: torch.lerp(before[name], t, share) for name, t in trained.state_dict().items()})
    return trained

def finish(model, fit:dict, steps:int):
    "Divide the logits and fit the factors, both on text that was not trained on."
    together = ByteCorpus.from_texts({name: part.texts() for name, part in fit.items()}, name='to fit on')
    bits = temper(model, together.sample(60_000, 0))
    print(f'divisor of the logits: {min(bits, key=bits.get)}; bits per byte of each: {bits}', flush=True)
    if steps:
        rescale(model, together, steps, progress=False)
    return min(bits, key=bits.get)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data', required=True, help='folder that the paths of the mix begin in')
    p.add_argument('--trained', default='', help='a trained model; empty: train one')
    p.add_argument('--init', default='', help="start training from this model; 'shipped' is the one in the package")
    p.add_argument('--share', type=float, default=1., help='with --init: of the way from its weights to the trained ones')
    p.add_argument('--lr', type=float, help='peak rate; default: that of the recipe, a tenth of it with --init')
    p.add_argument('--minutes', type=float, help='train this long; default: the epochs of the recipe')
    p.add_argument('--out', default='runs/weights', help='folder of the run and of what comes out')
    p.add_argument('--steps', type=int, default=60, help='steps of fitting the factors; 0: none')
    p.add_argument('--most', type=int, default=100_000, help='bytes of each register that are measured')
    p.add_argument('--device', default='auto')
    a = p.parse_args()
    if a.share!=1 and not a.init:
        p.error('--share is a part of the way from --init: name the model that training began with')
    base, out, start = Path(a.data), Path(a.out), time.time()
    fit, measured = registers(base, a.most)
    folder = a.trained or train(dict(config='nano', mix='broad', data_dir=a.data, init=a.init, lr=a.lr, out=a.out,
                                     minutes=a.minutes, valid_data=','.join(str(base/v) for v in REGISTERS.values()),
                                     device=a.device))
    model = AmharicHNet.from_pretrained(folder)
    if a.share!=1:
        model = between(a.init, model, a.share)
    show('after training', measure(model, measured))
    divisor = finish(model, fit, a.steps)
    model.save_pretrained(out/'nano', 'int8')
    found = {}
    for name, where in (('new', out/'nano'), ('shipped before', default_weights())):
        found[name] = measure(AmharicHNet.from_pretrained(where), measured)
        show(name, found[name])
    marks = {}
    for name, genre in GENRE.items():
        marks[name] = dict(genre=genre, bpb=with_mark(AmharicHNet.from_pretrained(out/'nano'), measured[name], genre))
        print(f'  {name:20} {marks[name]["bpb"]:.4f} behind the mark {genre}', flush=True)
    sentences = [line for text in measured['translations'].texts() for line in text.split('\n')]
    halves = second_halves(AmharicHNet.from_pretrained(out/'nano'), sentences)
    print(f'second halves of {halves["sentences"]} translated sentences: {halves["bits"]:.1f} bits', flush=True)
    trained = read_json(Path(folder)/'card.json')
    card = dict(parameters=parameter_table(model)['total'], bytes_read=trained['bytes_read'],
                sources=trained['sources'], licences=trained.get('licences', {}), divisor=divisor, share=a.share, second_halves=halves,
                megabytes=(out/'nano'/'model.safetensors').stat().st_size/1e6,
                measured=found['new'], marked=marks, mean=mean(found['new']),
                before=found['shipped before'], mean_before=mean(found['shipped before']),
                minutes=(time.time()-start)/60, device=str(pick_device(a.device)),
                versions=dict(hnet_amharic=__version__, torch=torch.__version__))
    write_text(out/'nano'/'card.json', json.dumps(card, ensure_ascii=False, indent=1))
    print(f'Written: {out}/nano')

if __name__=='__main__':
    main()

"The scorecard from files to Markdown, its baselines, and what is kept when something fails."
import json
import numpy as np, pytest, torch
from test_end_to_end import finish, start
from hnet_amharic import cli
from hnet_amharic.config import HNetConfig, PACKAGE
from hnet_amharic.data import read_registers
from hnet_amharic.evaluation import Scorecard, evaluate
from hnet_amharic.measure import byte_costs
from hnet_amharic.model import build_model, load_default
from hnet_amharic.text import BOS

SMALL = dict(length=128, context=64, samples=1, max_new_chars=12, progress=False)

def tiny(seed=0, **kw):
    torch.manual_seed(seed)
    m = build_model(HNetConfig.preset('test', **kw)).eval()
    torch.nn.init.normal_(m.head.weight, std=.3)
    return m

def test_every_byte_of_the_sample_is_counted_once():
    "All documents of the sample text: the costs of their bytes, and nothing else, are there."
    for r in read_registers(PACKAGE/'sample'):
        bits,_ = byte_costs(tiny(), r, 256, 128, bs=16)
        assert (np.isnan(bits)==(r.data==BOS)).all() and (bits[r.data!=BOS]>0).all()
        assert r.n_targets==sum(len(d.encode())+1 for d in r.texts())

def test_isotropic_is_as_deep_as_pico():
    "If this fails after a change of pico.yaml, change isotropic.yaml: layers by `encoder`; the chapter on evaluation compares FLOPs."
    pico,iso = (build_model(HNetConfig.preset(n)) for n in ('pico', 'isotropic'))
    layers = sum(len(m.layers) for m in (pico.encoder, pico.chunk_layer, pico.backbone, pico.dechunker))
    assert len(iso.encoder.layers)==layers
    a,b = pico.cfg,iso.cfg
    assert (a.ngram_sizes, a.ngram_rows, a.ngram_dim)==(b.ngram_sizes, b.ngram_rows, b.ngram_dim)

@pytest.fixture(scope='module')
def isotropic(tmp_path_factory):
    "The baseline after a few steps of the command."
    d = tmp_path_factory.mktemp('isotropic')
    code,out = finish(start('hnet_train', '--config', 'isotropic', '--out', str(d/'iso'), '--epochs', '1', '--steps-per-epoch', '12', '--batch-size', '2',
                            '--length', '128', '--valid-windows', '2', '--device', 'cpu', '--no-progress', cache=d/'cache'))
    assert code==0, out
    return d/'iso'/'model'

def test_isotropic_trains_and_stands_on_the_card(isotropic, tmp_path):
    "Trained by the same command, loaded from its folder, scored on the same bytes; every byte is its own chunk."
    text = read_registers(PACKAGE/'sample', 800)[:1]
    card = evaluate(tiny(), text, sections=('text', 'baselines'), beside=[isotropic], name='tiny', **SMALL)
    assert not card.errors
    bpb = card.sections['baselines']['bpb']
    assert bpb['iso'][0]<6<bpb['tiny'][0]                       # 12 steps are better than random weights
    own = evaluate(isotropic, text, sections=('text', 'chunks'), **SMALL)
    assert own.name=='iso' and own.sections['chunks']['ends']['iso']['bytes_per_chunk']==1
    assert own.sections['text']['registers'][text[0].name]['bpb']==pytest.approx(bpb['iso'][0], abs=1e-4)

def test_what_was_measured_is_kept_when_a_section_dies(tmp_path, monkeypatch):
    "The card on disk has the sections before the failure, the ones after it, and the failure; Ctrl-C keeps what is there."
    from hnet_amharic import evaluation
    monkeypatch.setitem(evaluation.RUN, 'chunks', lambda job: 1/0)
    text = read_registers(PACKAGE/'sample', 500)[:1]
    card = evaluate(tiny(), text, out=tmp_path/'card', sections=('text', 'chunks', 'baselines'), **SMALL)
    assert list(card.sections)==['text', 'baselines'] and 'ZeroDivisionError' in card.errors['chunks']
    assert Scorecard.load(tmp_path/'card.json')==card and '**chunks failed**' in (tmp_path/'card.md').read_text(encoding='utf8')
    def stop(job): raise KeyboardInterrupt
    monkeypatch.setitem(evaluation.RUN, 'chunks', stop)
    with pytest.raises(KeyboardInterrupt): evaluate(tiny(), text, out=tmp_path/'cut', sections=('text', 'chunks'), **SMALL)
    assert list(Scorecard.load(tmp_path/'cut.json').sections)==['text']
    assert not list(tmp_path.glob('.*.tmp'))

def test_same_card_twice():
    "Everything that does not depend on the clock is the same again."
    text = read_registers(PACKAGE/'sample', 500)
    cards = [evaluate(tiny(), text, sections=('text', 'chunks', 'generation', 'baselines'), **SMALL) for _ in range(2)]
    assert cards[0]==cards[1] and not cards[0].errors

def test_shipped_beats_what_has_read_nothing():
    "The shipped model needs fewer bits for the sample than compressors that adapt to it."
    text = read_registers(PACKAGE/'sample', 3000)[:1]
    bpb = evaluate(load_default(), text, sections=('text', 'baselines'), name='nano', progress=False).sections['baselines']['bpb']
    assert bpb['nano'][0]<.7*min(v[0] for k,v in bpb.items() if k!='nano')

@pytest.mark.skipif(not hasattr(cli, 'hnet_evaluate'), reason='the command is not there')
def test_command(isotropic, tmp_path):
    "From a shell: three files, one line per error and code 2 for bad input."
    sample = PACKAGE/'sample'/'daily_life.txt'
    args = ['--max-bytes', '500', '--samples', '1', '--max-new-chars', '8', '--device', 'cpu', '--out', str(tmp_path/'card')]
    code,out = finish(start('hnet_evaluate', str(isotropic), '--text', f'life={sample}', *args, cache=tmp_path))
    assert code==0 and 'bits per byte' in out, out
    d = json.loads((tmp_path/'card.json').read_text(encoding='utf8'))
    assert not d['errors'] and list(d['sections']['text']['registers'])==['life']
    assert {p.name for p in tmp_path.glob('card.*')}=={'card.json', 'card.md'}
    (tmp_path/'empty.txt').write_text('')
    code,out = finish(start('hnet_evaluate', str(isotropic), '--text', str(tmp_path/'empty.txt'), *args, cache=tmp_path))
    assert code==2 and 'empty: there is no text' in out and 'Traceback' not in out, out

def test_names_and_text_cannot_break_the_card(tmp_path):
    "Bars, stars, tags and line ends in names and generated text are text, not Markdown."
    from hnet_amharic.data import ByteCorpus
    from hnet_amharic.evaluation import card_markdown
    odd = ByteCorpus.from_texts(['ሰላም ለዓለም'], name='a|b*<script>\n# c')
    page = card_markdown(evaluate(tiny(), [odd], sections=('text',), name='[x](http://y)', length=64, context=32))
    assert '<script>' not in page.replace('\\<script', '') and '\n# c' not in page and '[x](' not in page.replace('\\[', '')

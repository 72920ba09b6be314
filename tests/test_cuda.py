"""What holds on a processor holds on a GPU; run where there is one."""
import pytest
import torch
from hnet_amharic.config import HNetConfig
from hnet_amharic.data import ByteCorpus
from hnet_amharic.files import PACKAGE
from hnet_amharic.generation import generate
from hnet_amharic.layers import cut_gap
from hnet_amharic.model import AmharicHNet, build_model, load_default
from hnet_amharic.training import hnet_learner
from hnet_amharic.windows import get_dls

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU with CUDA')
TEXT = 'አዲስ አበባ የኢትዮጵያ ዋና ከተማ ናት። በ2016 ዓ.ም. WiFi 45% ሆነ፤ "ሰላም" አሉ።\n'*12

@pytest.fixture(scope='module')
def ids():
    return torch.tensor([[254, *TEXT.encode()[:700]], [254, *TEXT.encode()[40:740]]])

def logits_of(model):
    "The forward function of a model, for `cut_gap`."
    def f(x, cache=None):
        return model(x, cache).logits
    f.new_cache = model.new_cache
    return f

def test_logits_are_those_of_the_processor(ids):
    with torch.no_grad():
        here = load_default()(ids)
        there = load_default('cuda')(ids.cuda())
    assert torch.equal(here.boundary_mask, there.boundary_mask.cpu())
    assert (here.logits-there.logits.cpu()).abs().max()<2e-3

@pytest.mark.parametrize('sizes', [[1], [7, 1, 64], [300]])
def test_cut_anywhere_equals_whole(ids, sizes):
    assert cut_gap(logits_of(load_default('cuda')), ids[:,:400].cuda(), sizes)<2e-3

def test_greedy_text_is_that_of_the_processor():
    prompts = ['ይፈልጋሉ', 'አዲስ አበባ']
    texts = [generate(load_default(device), prompts, max_new_chars=40, temperature=0) for device in ('cpu', 'cuda')]
    assert texts[0]==texts[1]

def learner(folder, **options):
    "A small learner on the sample."
    torch.manual_seed(0)
    train, valid = ByteCorpus.build(PACKAGE/'sample').split(.1)
    dls = get_dls(train, valid, 8, 256, steps_per_epoch=20, valid_windows=8, device='cuda')
    return hnet_learner(dls, build_model(HNetConfig.preset('test')), folder=folder, progress=False, log_every=1,
                        **options)

@pytest.mark.parametrize('options', [dict(compile=False), dict(compile=True), dict(recipe='lean', compile=False),
                                     dict(opt='muon', compile=False), dict(precision='fp16', compile=False)])
def test_training_learns(tmp_path, options):
    learn = learner(tmp_path, **options)
    before = learn.validate()[1]
    learn.fit_wsd(2, 5e-3)
    assert learn.validate()[1]<.8*before
    learn.model.save_pretrained(tmp_path/'model')
    saved = AmharicHNet.from_pretrained(tmp_path/'model', 'cuda').state_dict()
    assert all(torch.equal(saved[name], t.float()) for name, t in learn.model.state_dict().items())

def test_compiled_layers_give_the_same_loss(tmp_path):
    losses = []
    for compile in (False, True):
        learn = learner(tmp_path/str(compile), compile=compile, precision='fp32')
        learn.fit_wsd(1, 1e-9)
        losses.append(learn.recorder.values[-1][0])
    assert abs(losses[0]-losses[1])<2e-2

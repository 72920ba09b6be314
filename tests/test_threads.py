"""Eight threads use one model and one guard at once: writing, scoring and checking give what one thread gives."""
import threading
from concurrent.futures import ThreadPoolExecutor
import torch
from hnet_amharic.text import encode
from hnet_amharic.config import HNetConfig
from hnet_amharic.model import AmharicHNet
from hnet_amharic.guard import CulturalGuard
from hnet_amharic.generation import generate
from hnet_amharic.views import score, show_chunks

TEXTS = ['ሰላም ለዓለም ሁሉ። ቡና ጠጡ፣ ውሃ ጠጡ።', 'ab 12 ትምህርት ቤት ሄድኩ።', 'የኢትዮጵያ ዋና ከተማ አዲስ አበባ ናት።', '中文 ሀገር']

def build():
    "A small model in training mode, with dropout that would change every number."
    torch.manual_seed(0)
    model = AmharicHNet(HNetConfig.preset('test', dropout=.5))
    torch.nn.init.normal_(model.head.weight, std=.3)
    model.calibrate(torch.tensor(encode(TEXTS[0])).long()[None])
    return model.train()

def work(model, guard, i):
    "What thread i does; the same numbers every time."
    text = TEXTS[i%len(TEXTS)]
    written = generate(model, text, 10, seed=i, temperature=1.2, guard=guard)
    return written, round(score(model, text).bits, 2), show_chunks(model, text).texts, len(guard.check(text*5+written))

def test_eight_threads():
    model, guard = build(), CulturalGuard()
    modes = [m.training for m in model.modules()]
    expected = [work(model, guard, i) for i in range(8)]
    fresh = CulturalGuard()                       # its automaton is still empty: all threads fill it
    barrier = threading.Barrier(8)

    def run(i):
        barrier.wait()
        return [work(model, fresh, i) for _ in range(3)]

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(run, range(8)))
    for got,want in zip(results, expected):
        assert got == [want]*3
    assert [m.training for m in model.modules()] == modes
    assert torch.is_grad_enabled()

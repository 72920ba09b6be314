"Damaged weights: a sentence or right shapes and finite numbers, never a crash and never code."
import io, os
import pytest, torch
from hypothesis import HealthCheck, given, settings, strategies as st
from safetensors.torch import save
from hnet_amharic.official import BadCheckpoint, WeightsFile, convert_checkpoint

TENSORS = {'a.weight': torch.arange(12.).view(3, 4), 'a.bias': torch.ones(3).half(), 'b': torch.tensor([1, 2])}

def torch_bytes(value):
    "What torch.save writes."
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()

WHOLE = {'torch': torch_bytes(TENSORS), 'safetensors': save(TENSORS)}
MANY = int(os.environ.get('HNET_FUZZ', '120'))     # examples per test
quick = settings(max_examples=MANY, deadline=None, suppress_health_check=list(HealthCheck))

def read(folder, raw):
    "Read bytes as a checkpoint: shapes by name, or None where they are refused."
    path = folder/'weights'
    path.write_bytes(raw)
    try:
        file = WeightsFile(path)
        tensors = dict(file.tensors())
    except BadCheckpoint as e:
        assert str(path) in str(e) and len(str(e)) > len(str(path))+10
        return None
    assert {k: tuple(t.shape) for k, t in tensors.items()} == file.shapes
    assert all(torch.isfinite(t).all() for t in tensors.values())
    return file.shapes

@pytest.mark.parametrize('kind', WHOLE)
def test_whole(tmp_path, kind):
    assert read(tmp_path, WHOLE[kind]) == {k: tuple(t.shape) for k, t in TENSORS.items()}

@quick
@given(raw=st.binary(max_size=600))
@pytest.mark.parametrize('start', [b'', b'PK\x03\x04', b'\x10\0\0\0\0\0\0\0{'])
def test_random(tmp_path, start, raw):
    assert not read(tmp_path, start+raw)           # refused, or safetensors without a tensor

@quick
@given(data=st.data())
@pytest.mark.parametrize('kind', WHOLE)
def test_truncated(tmp_path, kind, data):
    whole = WHOLE[kind]
    assert read(tmp_path, whole[:data.draw(st.integers(0, len(whole)-1))]) is None

@quick
@given(data=st.data())
@pytest.mark.parametrize('kind', WHOLE)
def test_changed_bytes(tmp_path, kind, data):
    raw = bytearray(WHOLE[kind])
    for at in data.draw(st.lists(st.integers(0, len(raw)-1), min_size=1, max_size=4)):
        raw[at] ^= 1 << data.draw(st.integers(0, 7))
    read(tmp_path, bytes(raw))

@quick
@given(data=st.data())
@pytest.mark.parametrize('kind', WHOLE)
def test_spliced(tmp_path, kind, data):
    raw = WHOLE[kind]
    start, end = sorted(data.draw(st.lists(st.integers(0, len(raw)), min_size=2, max_size=2)))
    read(tmp_path, raw[:start]+data.draw(st.binary(max_size=40))+raw[end:])

@pytest.mark.parametrize('value', [[1, 2], 'text', {'a': {'b': torch.ones(1)}}, {1: torch.ones(1)}, {'a': 1},
                                   {'a': torch.eye(2).to_sparse()}, {'a': torch.ones(1).expand(10**12)},
                                   {'a': torch.tensor([1j])}, {'a': torch.tensor([float('nan')])}])
def test_other_contents(tmp_path, value):
    assert read(tmp_path, torch_bytes(value)) is None

def test_code_never_runs(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path/'ran'),)
    assert read(tmp_path, torch_bytes({'a': Evil()})) is None
    assert not (tmp_path/'ran').exists()

def test_refused_conversion_leaves_no_file(tmp_path):
    (tmp_path/'bad.pt').write_bytes(WHOLE['torch'][:200])
    with pytest.raises(BadCheckpoint):
        convert_checkpoint(tmp_path/'bad.pt', tmp_path/'out.safetensors')
    assert [p.name for p in tmp_path.iterdir()] == ['bad.pt']

def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    (tmp_path/'tiny.pt').write_bytes(WHOLE['torch'])
    assert convert_checkpoint('~/tiny.pt', '~/out/tiny.safetensors') == (tmp_path/'out/tiny.safetensors').stat().st_size
    assert read(tmp_path, (tmp_path/'out/tiny.safetensors').read_bytes()) == WeightsFile('~/tiny.pt').shapes

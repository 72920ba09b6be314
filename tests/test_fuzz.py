"""Readers given anything: a right result or an error in words, never a crash.

Short by default. `HNET_FUZZ_BYTES=1000000 pytest tests/test_fuzz.py` feeds about a million bytes to each reader."""
import bz2, csv, gzip, importlib, io, json, lzma, os, tempfile
from pathlib import Path
import numpy as np
import pytest
import torch

hypothesis = pytest.importorskip('hypothesis')
from hypothesis import HealthCheck, example, given, settings, strategies as st

from hnet_amharic.text import (SPECIAL, IncrementalDecoder, ScriptState, decode, encode, script_features, utf8_advance,
                               utf8_allowed, utf8_state)
from hnet_amharic.files import BadData, MissingData, read_json, read_records, read_yaml
from hnet_amharic.sources import read_documents
from hnet_amharic.data import ByteCorpus, Filters
from hnet_amharic.tasks import read_chats, read_conll, read_labelled, read_pairs, read_preferences

BYTES = int(os.environ.get('HNET_FUZZ_BYTES', 0))
fuzz = settings(max_examples=max(150, BYTES//100), deadline=None, derandomize=not BYTES, database=None,
                suppress_health_check=list(HealthCheck))

AMHARIC = 'ሰላምቡናውሃ።፣፡ \n\r\t"\',{}[]:ab1\u2028\x85\x0c\x00\ufeff\ud800😀'
text = st.text(st.sampled_from(AMHARIC) | st.characters(), max_size=200)
plain = text.map(lambda s: s.encode('utf8', 'replace').decode('utf8'))
noise = st.binary(max_size=200)
mixed = st.lists(noise | plain.map(str.encode), max_size=4).map(b''.join)

@pytest.fixture(scope='module')
def folder():
    with tempfile.TemporaryDirectory() as d:
        yield Path(d)

def read(path, content, column='text'):
    "The documents of a file, or None where it was refused in words."
    path.write_bytes(content)
    try:
        return [t for _, t in read_documents(path, column)]
    except (BadData, MissingData) as e:
        assert path.name in str(e) and len(str(e)) > len(path.name) + 10
        return None

def cleaned(s):
    return s.replace('\r\n', '\n').replace('\r', '\n').replace('\0', '').lstrip('\ufeff')

@fuzz
@given(mixed)
def test_decoder_and_automaton(data):
    "Printed byte by byte, any bytes read as they do at once; the state behind them is the decoder's."
    decoder = IncrementalDecoder()
    assert ''.join(decoder.feed(b) for b in data) + decoder.flush() == decode(data)
    ids = torch.tensor(list(data), dtype=torch.long)[None]
    state = utf8_state(ids)
    assert state.item() < 8
    try:
        data.decode('utf8')
        whole = True
    except UnicodeDecodeError:
        whole = False
    states = torch.zeros(1, dtype=torch.long)
    for b in data:
        states = utf8_advance(states, torch.tensor([b]))
    assert (states.item() == 0) == whole
    assert utf8_allowed(state).any()

@fuzz
@given(mixed, st.lists(st.integers(0, 30), max_size=5))
def test_script_features_in_pieces(data, sizes):
    "Any bytes, cut anywhere, give the features of the whole."
    ids = torch.tensor(list(data), dtype=torch.long)[None]
    whole, complete, end = script_features(ids)
    at, state, pieces = 0, None, []
    for n in [*sizes, len(data)]:
        piece = ids[:, at:at+n]
        at += piece.shape[1]
        f, c, state = script_features(piece, state)
        pieces.append(f)
    assert torch.equal(torch.cat(pieces, 1), whole)
    assert all(torch.equal(a, b) for a, b in zip(state, end)) and isinstance(state, ScriptState)

@fuzz
@given(text)
def test_round_trip(s):
    try:
        ids = encode(s, bos=True, eos=True)
    except ValueError as e:
        assert 'surrogate' in str(e)
        return
    assert decode(ids) == s and (ids[1:-1] < SPECIAL).all()

@fuzz
@given(plain)
def test_text_file(folder, s):
    "Nothing is lost but blank lines, carriage returns, NULs and byte-order marks."
    docs = read(folder/'a.txt', s.encode())
    gone = str.maketrans(dict.fromkeys(' \t\n\r\0\ufeff'))
    assert ''.join(docs).translate(gone) == s.translate(gone)
    assert not any('\r' in d or '\0' in d or d.startswith('\ufeff') for d in docs)

@fuzz
@given(mixed, st.sampled_from(['a.txt', 'a.jsonl', 'a.json', 'a.csv', 'a.tsv', 'a.txt.gz', 'a.jsonl.xz',
                               'a.txt.bz2', 'a.tab.zst', 'a.parquet', 'a.arrow', 'a.feather']))
def test_anything(folder, data, name):
    "Any bytes under any name are read or refused in words."
    if name.endswith(('parquet', 'arrow', 'feather')):
        pytest.importorskip('pyarrow')
    if name.endswith('zst'):
        pytest.importorskip('zstandard')
    docs = read(folder/name, data)
    assert docs is None or all(isinstance(d, str) for d in docs)

@fuzz
@given(st.lists(mixed | plain.map(lambda t: f'{{"text": "{t}", "label": "a"}}\n').map(str.encode), max_size=6).map(b''.join),
       st.sampled_from(['l.txt', 'l.jsonl', 'l.json', 'l.csv', 'l.tsv']))
def test_bad_rows_are_left_out(folder, data, name):
    "Where bad rows may be left out, what is left is what a strict reader takes, and every row is read or reported."
    errors = []
    strict = read(folder/name, data)
    try:
        lenient = [t for _, t in read_documents(folder/name, errors=errors)]
    except (BadData, MissingData) as e:
        assert name in str(e) and strict is None
        return
    assert all(name in error for error in errors) and (strict is None or not errors)
    assert strict in (None, lenient) and not any(0xd800 <= ord(c) < 0xe000 for t in lenient for c in t)

task_readers = [read_labelled, read_conll, read_pairs, read_chats, read_preferences]

@fuzz
@given(mixed | st.lists(st.lists(plain, max_size=3).map('\t'.join), max_size=4).map(lambda rows: '\n'.join(
       ['text\tlabel', *rows]).encode()), st.sampled_from(task_readers), st.sampled_from(['t.tsv', 't.csv', 't.jsonl', 't.conll']))
def test_task_files(folder, data, reader, name):
    "Any file of a task is read, or refused with its name."
    (folder/name).write_bytes(data)
    for errors in (None, []):
        try:
            examples = reader(folder/name, errors=errors)
        except ValueError as e:
            assert name in str(e)
            continue
        assert all(e.where.startswith(str(folder/name)) for e in examples)

@fuzz
@given(st.lists(plain, max_size=5), st.sampled_from(['\n', '\r\n']), st.booleans())
def test_jsonl(folder, texts, end, ascii_only):
    content = ''.join(json.dumps(dict(text=t), ensure_ascii=ascii_only) + end for t in texts)
    assert read(folder/'b.jsonl', content.encode()) == [cleaned(t) for t in texts]
    content = json.dumps([dict(text=t) for t in texts], ensure_ascii=ascii_only)
    assert read(folder/'b.json', content.encode()) == [cleaned(t) for t in texts]

@fuzz
@example([''], ',')
@given(st.lists(plain, max_size=5), st.sampled_from([',', '\t']))
def test_csv(folder, texts, delimiter):
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerows([['id', 'text'], *enumerate(texts)])
    name = 'b.csv' if delimiter == ',' else 'b.tsv'
    got = read(folder/name, out.getvalue().encode())
    assert [cleaned(t) for t in got] == [cleaned(t.replace('\0', '')) for t in texts]

@fuzz
@given(st.lists(st.dictionaries(st.sampled_from(['text', 'id', 'a b']), plain, min_size=1, max_size=3), min_size=1, max_size=5))
def test_arrow(folder, rows):
    "What pyarrow writes comes back, whichever of its formats it was."
    pa = pytest.importorskip('pyarrow')
    table = pa.Table.from_pylist([{'text': '', **row} for row in rows])
    importlib.import_module('pyarrow.parquet').write_table(table, folder/'p.parquet')
    with pa.OSFile(str(folder/'p.arrow'), 'wb') as f, pa.ipc.new_stream(f, table.schema) as out:
        out.write_table(table)
    with pa.OSFile(str(folder/'p.feather'), 'wb') as f, pa.ipc.new_file(f, table.schema) as out:
        out.write_table(table)
    for name in ('p.parquet', 'p.arrow', 'p.feather'):
        assert [row for _, row in read_records(folder/name)] == table.to_pylist()
        assert [t for _, t in read_documents(folder/name)] == [cleaned(row['text']) for row in table.to_pylist()]

def zstd(content):
    return pytest.importorskip('zstandard').ZstdCompressor().compress(content)

@fuzz
@given(st.lists(plain, min_size=1, max_size=5), st.integers(0, 400),
       st.sampled_from([('gz', gzip.compress), ('xz', lzma.compress), ('bz2', bz2.compress), ('zst', zstd)]))
def test_cut_archive(folder, texts, lost, packer):
    "A compressed file that lost its end is refused."
    ending, pack = packer
    content = pack('\n\n'.join(texts).encode())
    kept = content[:max(len(content) - lost, 0)]
    docs = read(folder/f'c.txt.{ending}', kept)
    if lost and kept:
        assert docs is None

json_like = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | plain,
                         lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain, inner, max_size=3))
yaml_like = st.lists(st.sampled_from(['!!timestamp ', '!!bool ', '!!int ', '!!float ', '!!binary ', '!!set ', '!!omap ',
                                      '!!python/name:os.system ', '- ', ': ', '? ', '{', '}', '[', ']', '&a ', '*a ',
                                      '<<: ', '|', '>', '"', "'", '\n', '  ', '0x', '1e', '2001-99-99', '.inf', '=', '%',
                                      '---\n', 'ሰላም', '1:99']), max_size=12).map(''.join).map(str.encode)

@fuzz
@given(mixed | yaml_like | json_like.map(lambda v: json.dumps(v).encode()))
def test_yaml_and_json(folder, data):
    for reader, name in ((read_yaml, 'a.yaml'), (read_json, 'b.json')):
        path = folder/name
        path.write_bytes(data)
        try:
            reader(path)
        except ValueError as e:
            assert name in str(e)

@fuzz
@given(json_like)
def test_json_values(folder, value):
    path = folder/'v.json'
    path.write_bytes(json.dumps(value).encode())
    assert read_json(path) == value or '\\r' in json.dumps(value)

@fuzz
@given(st.lists(plain, min_size=1, max_size=8), st.floats(.01, .9), st.integers(0, 9))
def test_split(texts, share, seed):
    "A split tiles the corpus: no byte lost, none on both sides, both sides valid text."
    try:
        corpus = ByteCorpus.from_texts(texts)
        train, valid = corpus.split(share, seed)
    except BadData as e:
        assert str(e)
        return
    pieces = sorted((s, e) for view in (train, valid) for s, e in zip(view.starts, view.ends))
    assert [s for s, _ in pieces] + [corpus.n_bytes] == [0] + [e for _, e in pieces]
    assert all(s < e for s, e in pieces) and len(train) and len(valid)
    assert ''.join(decode(corpus.data[s:e], errors='strict') for s, e in pieces) == ''.join(corpus.texts())

@fuzz
@given(st.lists(text, min_size=1, max_size=6))
def test_packing(folder, texts):
    "What is packed is what was read, or the file is refused in words."
    path = folder/'pack'/'a.jsonl'
    path.parent.mkdir(exist_ok=True)
    path.write_text('\n'.join(json.dumps(dict(text=t)) for t in texts))
    rules = Filters(min_chars=1, min_ethiopic=0, dedupe=False, form=None)
    try:
        with tempfile.TemporaryDirectory() as cache:
            corpus = ByteCorpus.build(path, cache_dir=cache, filters=rules)
    except BadData as e:
        assert 'surrogate' in str(e) or 'No document is left' in str(e)
        return
    assert corpus.texts() == [t for t in (cleaned(t).strip('\n') for t in texts) if t.strip()]
    assert np.array_equal(corpus.ends, np.cumsum([len(t.encode()) + 2 for t in corpus.texts()]))

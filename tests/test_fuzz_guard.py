"Policies, patterns, texts, labelled files and classifiers that nobody would write: a right result or an error in words."
import json
import os, re, warnings
import pytest, yaml
from hypothesis import HealthCheck, assume, given, settings, strategies as st
from hnet_amharic.tasks import read_chats, read_conll, read_labelled, read_pairs, read_preferences
from hnet_amharic.guard import SHIPPED, CulturalGuard, Net, default_guard, fold, read_policy

EXAMPLES = int(os.environ.get('HNET_FUZZ', 40))
short = settings(max_examples=EXAMPLES, deadline=None, derandomize=True,
                 suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])

AMHARIC = 'ሀሰአጸቃልገደቦችነፍጠኛጋላ'
letters = st.sampled_from(AMHARIC+'aegl .-።፡1290+*?{}@\u200b\u0301\u2028')
odd = st.one_of(st.none(), st.booleans(), st.integers(-3, 10**12), st.floats(), st.text(letters, max_size=6), st.text(max_size=4))
anything = st.recursive(odd, lambda x: st.lists(x, max_size=3) | st.dictionaries(odd, x, max_size=3), max_leaves=6)
word = st.text(st.sampled_from(AMHARIC+'aegl'), min_size=1, max_size=6)
part = st.one_of(word, st.sampled_from(['{who}', '{+who}', '{-who}', 'ለ{who}', '{who}*', 'ቃል*', '{nobody}']))
phrase = st.lists(part, min_size=1, max_size=4).map(' '.join)

@st.composite
def policies(draw):
    "A policy that is nearly right: most fields as they should be, some anything at all."
    def maybe(strategy):
        return draw(anything) if draw(st.integers(0, 14)) == 0 else draw(strategy)
    entry = st.fixed_dictionaries({'category': st.just('bad')}, optional={
        'forms': st.lists(word, max_size=3), 'phrases': st.lists(phrase, max_size=3),
        'pattern': st.text(st.sampled_from('ab1[]()|*+?{},-\\d'), min_size=1, max_size=8), 'spaced': st.booleans(),
        'affixes': st.booleans(), 'latin': st.booleans(), 'severity': st.just(1)})
    affixes = st.fixed_dictionaries({}, optional={'prefixes': st.lists(word, max_size=2),
                                                  'suffixes': st.lists(st.lists(word, max_size=2), max_size=2)})
    return dict(categories=maybe(st.just({'bad': dict(severity=2, reason_am='ስድብ', reason_en='an insult')})),
                groups=maybe(st.just({'who': ['ሰው', 'አንተ']})), innocent=maybe(st.lists(word, max_size=2)),
                affixes=maybe(st.fixed_dictionaries({}, optional={'fidel': affixes, 'latin': affixes})),
                entries=maybe(st.lists(entry, max_size=3)))

def build(policy):
    "The guard of a policy, or None where it is refused in words."
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return CulturalGuard(policy)
    except ValueError as e:
        assert len(str(e)) > 10
        return None

def look(guard, text):
    "Checks a text, and that nothing flagged can be written behind half of it."
    for f in guard.check(text):
        assert 0 <= f.span[0] < f.span[1] <= len(text)
    watcher = guard.start(text[:len(text)//2])
    for byte in text[len(text)//2:].encode('utf8', 'replace'):
        watcher.banned()
        watcher.banned(final=True)
        watcher.advance(byte)

@short
@given(policies(), st.text(letters, max_size=25))
def test_any_policy(policy, text):
    guard = build(policy)
    if guard:
        look(guard, text)

@short
@given(policies(), st.data())
def test_any_policy_file(tmp_path_factory, policy, data):
    "As a file, also with one character changed; errors name the file."
    path = tmp_path_factory.mktemp('policy')/'mine.yaml'
    try:
        content = yaml.safe_dump(policy, allow_unicode=True)
    except yaml.YAMLError:
        assume(False)
    at = data.draw(st.integers(0, len(content)))
    path.write_text(content[:at]+data.draw(st.text(letters, max_size=2))+content[at+1:], encoding='utf8')
    build(path)

@short
@given(st.binary(max_size=80))
def test_any_bytes_as_policy(tmp_path_factory, data):
    path = tmp_path_factory.mktemp('policy')/'mine.yaml'
    path.write_bytes(data)
    with pytest.raises(ValueError):
        read_policy(path)

@short
@given(st.integers(0, 10**6), st.text(letters, min_size=1, max_size=3))
def test_shipped_policy_with_a_slip(tmp_path_factory, at, slip):
    content = SHIPPED.read_text(encoding='utf8')
    at %= len(content)
    path = tmp_path_factory.mktemp('policy')/'mine.yaml'
    path.write_text(content[:at]+slip+content[at+1:], encoding='utf8')
    try:
        read_policy(path)
    except ValueError as e:
        assert 'mine.yaml' in str(e)

@short
@given(st.text(st.sampled_from('ab1(|)[]*+?{},-\\d'), max_size=10))
def test_any_pattern(pattern):
    "Refused in words, or found exactly where Python's search finds it."
    net = Net()
    try:
        net.pattern(pattern, 'entry')
    except ValueError as e:
        assert 'pattern' in str(e)
        return
    net.finish()
    search = re.compile(r'(?<![a-z0-9])'+f'(?:{pattern})').search
    for text in ('', 'a', 'b1', 'ab', 'aab1', 'a ab', '1-a', 'ba{}', 'abab1b', '(a)', '[b]', 'a,b', 'd|1', '{a}', '--', 'a}1{'):
        state, hit = net.first, False
        for c in text:
            state, found = net.step(state, fold(c))
            hit = hit or found
        assert hit == bool(search(text)), (pattern, text)

@short
@given(st.text(max_size=30) | st.text(letters, max_size=40))
def test_any_text(text):
    look(default_guard(), text)

@short
@given(st.binary(max_size=60) | st.text(st.sampled_from('ሰላም",\t\n\r\u2028 x'), max_size=60).map(lambda t: t.encode()),
       st.sampled_from(['.csv', '.tsv']))
def test_any_labelled_file(tmp_path_factory, data, suffix):
    path = tmp_path_factory.mktemp('labelled')/f'a{suffix}'
    head = 'text,label\n' if suffix == '.csv' else 'text\tlabel\n'
    path.write_bytes(head.encode()+data)
    try:
        found = read_labelled(path)
    except ValueError as e:
        assert path.name in str(e)
    else:
        assert all(e.x and all(e.y) for e in found)

@short
@given(st.binary(max_size=60) | st.text(st.sampled_from('ሰላም"{}[]:,\n'), max_size=60).map(lambda t: t.encode()) |
       st.recursive(st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=3),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(['messages', 'role', 'content', 'prompt', 'chosen', 'rejected', 'input', 'output']), inner, max_size=4),
                    max_leaves=12).map(lambda value: json.dumps(value).encode()),
       st.sampled_from([read_chats, read_preferences, read_pairs, read_labelled]))
def test_any_json_lines(tmp_path_factory, data, read):
    path = tmp_path_factory.mktemp('lines')/'a.jsonl'
    path.write_bytes(data)
    try:
        read(path)
    except ValueError as e:
        assert path.name in str(e)

@short
@given(st.binary(max_size=60) | st.text(st.sampled_from('ሰO\t \nB-I'), max_size=60).map(lambda t: t.encode()))
def test_any_conll_file(tmp_path_factory, data):
    path = tmp_path_factory.mktemp('conll')/'a.conll'
    path.write_bytes(data)
    try:
        found = read_conll(path)
    except ValueError as e:
        assert path.name in str(e)
    else:
        assert all(len(e.x) == len(e.y) for e in found)

@pytest.fixture(scope='module')
def classifier(tmp_path_factory):
    "The folder of a tiny classifier, and the bytes of its n-grams."
    from hnet_amharic.classify import Classifier, HeadedModel, NGramClassifier, PooledHead
    from hnet_amharic.config import HNetConfig
    from hnet_amharic.model import build_model
    from hnet_amharic.tasks import Example
    folder = tmp_path_factory.mktemp('classifier')
    examples = [Example(text, (label,), '') for text, label in (('ab', 'x'), ('cd', 'y'))]*3
    body = build_model(HNetConfig.preset('test'))
    model = HeadedModel(body, PooledHead(body.cfg.d_byte, 2))
    about = dict(task='classify', labels=['x', 'y'], many=False, length=64)
    Classifier(model, about, NGramClassifier(['x', 'y'], columns=16).fit(examples)).save(folder)
    return folder, (folder/'ngrams.safetensors').read_bytes()

@short
@given(st.integers(0, 10**6), st.binary(max_size=3))
def test_any_classifier_file(classifier, at, slip):
    from hnet_amharic.classify import Classifier
    folder, data = classifier
    at %= len(data)
    (folder/'ngrams.safetensors').write_bytes(data[:at]+slip+data[at+1:])
    try:
        Classifier.load(folder).probs(['ab'])
    except ValueError as e:
        assert 'damaged' in str(e)

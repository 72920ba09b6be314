"""The server as its users meet it: the client of OpenAI, curl, many at once, and those who leave or send garbage."""
import json, os, re, shutil, signal, socket, subprocess, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlparse
import pytest, torch
openai = pytest.importorskip('openai', reason="needs pip install 'hnet_amharic[dev]'")
pytest.importorskip('uvicorn', reason="needs pip install 'hnet_amharic[serve]'")
from hnet_amharic.text import EOS, encode
from hnet_amharic.config import HNetConfig
from hnet_amharic.model import build_model
from hnet_amharic.generation import generate
from hnet_amharic.instruct import chat
from hnet_amharic.serve import Limits, Server
from hnet_amharic.api import background

def tiny(seed=0):
    "A small model with random weights: it writes any bytes at all."
    torch.manual_seed(seed)
    model = build_model(HNetConfig.preset('test'))
    torch.nn.init.normal_(model.head.weight, std=.3)
    model.calibrate(torch.tensor(encode('ሰላም ለዓለም ሁሉ። ቡና ጠጡ፣ ውሃ ጠጡ።')).long()[None])
    return model.eval()

class Endless:
    "A guard that lets no text end."
    def start(self, prompt): return self
    def banned(self, final=False): return torch.arange(256) == EOS
    def advance(self, byte): pass

@pytest.fixture(scope='module')
def model(): return tiny()

@pytest.fixture(scope='module')
def served(model):
    "A server and its address."
    server = Server(model, 'tiny', limits=Limits(prompt=500, chars=100_000, text=300), rows=8, queue=80)
    with background(server) as address: yield server, address

@pytest.fixture(scope='module')
def endless(model):
    "A server whose texts never end by themselves."
    server = Server(model, 'tiny', limits=Limits(chars=10**9), guard=Endless(), rows=2, queue=1)
    with background(server) as address: yield server, address

@pytest.fixture
def client(served): return openai.OpenAI(base_url=served[1]+'/v1', api_key='none', max_retries=0)

def until(f, seconds=10):
    "Wait until f() holds."
    end = time.time()+seconds
    while not f():
        assert time.time() < end, 'it never happened'
        time.sleep(.01)

# --- the client of OpenAI

def test_completion_is_what_generate_writes(client, model):
    for options, ours in ((dict(temperature=0), dict(temperature=0)), (dict(seed=3), dict(seed=3)),
                          (dict(seed=4, temperature=1.3, top_p=.8), dict(seed=4, temperature=1.3, top_p=.8)),
                          (dict(seed=5, stop=[' ', '።']), dict(seed=5, stop=[' ', '።'])),
                          (dict(seed=6, extra_body=dict(top_k=9, min_p=.01, repetition_penalty=1.2, genre='story')),
                           dict(seed=6, top_k=9, min_p=.01, repetition_penalty=1.2, genre='story'))):
        for prompt in ('', 'ሰላም ለዓለም', 'abc '*40):
            answer = client.completions.create(model='tiny', prompt=prompt, max_tokens=15, **options)
            assert prompt+answer.choices[0].text == generate(model, prompt, 15, **ours)
            assert answer.usage.prompt_tokens == len(prompt) and answer.usage.completion_tokens == len(answer.choices[0].text)
            assert answer.choices[0].finish_reason in ('stop', 'length')

def test_many_prompts_and_samples(client, model):
    prompts = ['ሰላም', 'ቡና']
    answer = client.completions.create(model='tiny', prompt=prompts, n=3, seed=7, max_tokens=9, echo=True)
    assert [c.index for c in answer.choices] == list(range(6))
    assert [c.text for c in answer.choices] == sum(generate(model, prompts, 9, n=3, seed=7), [])

def test_streams_join_to_the_whole(client):
    asked = dict(model='tiny', prompt=['ሰላም', 'ab'], n=2, seed=1, max_tokens=12, stop='a', logprobs=1)
    whole = client.completions.create(**asked)
    pieces, costs, ends = [''] * 4, [[], [], [], []], [None] * 4
    last = None
    for last in client.completions.create(**asked, stream=True, stream_options=dict(include_usage=True)):
        for c in last.choices:
            pieces[c.index] += c.text
            costs[c.index] += c.logprobs.token_logprobs
            ends[c.index] = c.finish_reason or ends[c.index]
    for c in whole.choices:
        assert pieces[c.index] == c.text == ''.join(c.logprobs.tokens) and ends[c.index] == c.finish_reason
        assert costs[c.index] == pytest.approx(c.logprobs.token_logprobs, abs=1e-3)
        assert c.logprobs.text_offset == list(range(len(c.text)))
    assert last.usage == whole.usage

def test_models(client):
    assert [m.id for m in client.models.list()] == ['tiny'] and client.models.retrieve('tiny').owned_by == 'hnet_amharic'
    with pytest.raises(openai.NotFoundError, match='this server has'): client.models.retrieve('gpt-4')

def test_conversations(client):
    with pytest.raises(openai.BadRequestError, match='hnet_finetune instruct'):
        client.chat.completions.create(model='tiny', messages=[dict(role='user', content='ሰላም')])
    talker = tiny(1)
    messages = [dict(role='system', content='አጭር'), dict(role='user', content='ሰላም')]
    with background(Server(talker, 'talker', dict(task='instruct', length=200))) as address:
        c = openai.OpenAI(base_url=address+'/v1', api_key='none', max_retries=0)
        answer = c.chat.completions.create(model='talker', messages=messages, seed=2, max_completion_tokens=12)
        stream = c.chat.completions.create(model='talker', messages=messages, seed=2, max_tokens=12, stream=True)
        first, *rest = [chunk.choices[0] for chunk in stream]
        assert answer.choices[0].message.content.strip() == chat(talker, messages, 12, seed=2)
        assert first.delta.role == 'assistant' and rest[-1].finish_reason
        assert ''.join(r.delta.content or '' for r in rest) == answer.choices[0].message.content
        for wrong in ([], [dict(role='assistant', content='ሰላም')], [dict(role='user', content=5)], [dict(role='user')], ['ሰላም'],
                      [dict(role='user', content='ሰላም', tool_calls=[1])], [dict(role='user', content=[dict(type='image_url')])]):
            with pytest.raises(openai.BadRequestError): c.chat.completions.create(model='talker', messages=wrong)

# --- curl

def curl(*args):
    p = subprocess.run(['curl', '-sS', '--max-time', '30', '-w', '\n%{http_code}', *args], capture_output=True, text=True, encoding='utf8')
    assert p.returncode == 0, p.stderr
    body, _, status = p.stdout.rpartition('\n')
    return int(status), body

JSON = ('-H', 'Content-Type: application/json')

@pytest.mark.skipif(not shutil.which('curl'), reason='needs curl')
def test_curl(served, tmp_path):
    url = served[1]
    status, body = curl(url+'/v1/completions', *JSON, '-d', '{"prompt": "ሰላም", "max_tokens": 5, "seed": 1}')
    assert status == 200 and json.loads(body)['object'] == 'text_completion'
    status, body = curl('-N', url+'/v1/completions', *JSON, '-d', '{"prompt": "ሰላም", "max_tokens": 5, "seed": 1, "stream": true}')
    events = body.strip().split('\n\n')
    assert status == 200 and events[-1] == 'data: [DONE]' and all(e.startswith('data: {') for e in events[:-1])
    status, body = curl(url+'/v1/completions', '-d', '{"prompt": "ሰላም"}')
    assert status == 415 and 'application/json' in json.loads(body)['error']['message']
    (tmp_path/'big').write_bytes(b'{"prompt": "'+b'a'*10_000_000+b'"}')
    for path in ('/v1/completions', '/v1/chat/completions', '/api/score'):
        status, body = curl(url+path, *JSON, '--data-binary', f'@{tmp_path/"big"}')
        assert status == 413 and '1,000,000 bytes' in json.loads(body)['error']['message']
    status, body = curl('-I', url+'/')
    assert status == 200 and "default-src 'none'" in body
    assert curl(url+'/font.woff', '-o', str(tmp_path/'font'))[0] == 200 and (tmp_path/'font').read_bytes()[:4] == b'wOFF'

# --- what is wrong is said, by every endpoint

POSTS = ['/v1/completions', '/v1/chat/completions', '/api/score', '/api/chunks', '/api/suggest', '/api/spell', '/api/safety']
GOOD = dict.fromkeys(POSTS[2:], dict(text='ሰላም')) | {POSTS[0]: dict(prompt='ሰላም', max_tokens=2), POSTS[1]: dict(messages=[dict(role='user', content='ሰላም')])}

def post(address, path, body, headers=None):
    "Status and JSON of a request."
    import httpx
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    r = httpx.post(address+path, content=data, headers={'Content-Type': 'application/json', **(headers or {})}, timeout=60)
    return r.status_code, r.json()

def is_error(answer, param=None):
    assert set(answer['error']) == {'message', 'type', 'param', 'code'} and answer['error']['message']
    assert param is None or answer['error']['param'] == param, answer
    return True

@pytest.mark.parametrize('path', POSTS)
def test_bad_input(served, path):
    address, good = served[1], GOOD[path]
    name = next(iter(good))
    for garbage in (b'', b'{', b'null', b'[]', b'"text"', b'\xff\xfe{}', b'['*200_000, b'{"a":'*50_000, b'1'*10_000):
        status, answer = post(address, path, garbage)
        assert status == 400 and is_error(answer), garbage[:20]
    for wrong, param in ((dict(good, colour=1), 'colour'), (dict(good, **{name: 7}), name), (dict(good, **{name: {}}), name), ({}, None),
                         (dict(good, **{name: None}), None)):
        status, answer = post(address, path, wrong)
        assert status == 400 and is_error(answer, param), (wrong, answer)
    long = 'ሀ'*501
    status, answer = post(address, path, dict(good, **{name: [dict(role='user', content=long)] if name == 'messages' else long}))
    assert status == 400 and is_error(answer)
    assert path == POSTS[1] or '501 characters' in answer['error']['message']
    status, answer = post(address, path, dict(good, **{name: 'a\ud800'}))
    assert status == 400 and is_error(answer)

@pytest.mark.parametrize('body,param', [
    (dict(temperature='hot'), 'temperature'), (dict(temperature=-1), 'temperature'), (dict(temperature=True), 'temperature'),
    (dict(top_p=0), 'top_p'), (dict(top_p=1.5), 'top_p'), (dict(max_tokens=0), 'max_tokens'), (dict(max_tokens=2.5), 'max_tokens'),
    (dict(max_tokens=10**12), 'max_tokens'), (dict(n=0), 'n'), (dict(n=1000), 'n'), (dict(n=2, temperature=0), 'n'), (dict(seed=-1), 'seed'),
    (dict(seed=2**70), 'seed'), (dict(stop=['']), 'stop'), (dict(stop=[1]), 'stop'), (dict(stream='yes'), 'stream'), (dict(logprobs=5), 'logprobs'),
    (dict(logprobs=True), 'logprobs'), (dict(echo=True, logprobs=1), 'echo'), (dict(best_of=4), 'best_of'), (dict(presence_penalty=.5), 'presence_penalty'),
    (dict(logit_bias={'1': 5}), 'logit_bias'), (dict(genre='rap'), None), (dict(prompt=[]), 'prompt'), (dict(prompt=[1, 2]), 'prompt'),
    (dict(prompt=[['a']]), 'prompt'), (dict(prompt=['a']*50), 'n'), (dict(stream_options={'include_usage': True}), 'stream_options'),
    (dict(stream=True, stream_options={'x': 1}), 'stream_options'), (dict(max_tokns=5), 'max_tokns')], ids=lambda v: json.dumps(v) if isinstance(v, dict) else '')
def test_bad_options(served, body, param):
    status, answer = post(served[1], '/v1/completions', dict(dict(prompt='ሰላም', max_tokens=3), **body))
    assert status == 400 and is_error(answer, param), answer

def test_what_asks_for_nothing_is_accepted(served):
    "Fields that clients send without being told to."
    more = dict(presence_penalty=0, frequency_penalty=0.0, logit_bias={}, best_of=1, suffix=None, user='me', temperature=None, stop=None)
    assert post(served[1], '/v1/completions', dict(prompt='ሰላም', max_tokens=2, model='tiny', **more))[0] == 200

def test_paths_and_methods(served):
    import httpx
    for method, path, status in (('GET', '/nothing', 404), ('GET', '/v1/completions', 405), ('DELETE', '/v1/models', 405), ('POST', '/', 405),
                                 ('GET', '/../settings.ini', 404), ('GET', '/font.woff/x', 404)):
        r = httpx.request(method, served[1]+path)
        assert r.status_code == status and is_error(r.json()), path
    assert post(served[1], '/v1/completions', dict(prompt='', model='gpt-4'))[1]['error']['code'] == 'model_not_found'

def raw(address, data, wait=5):
    "Send bytes, and hear what comes until the server closes."
    place = urlparse(address)
    with socket.create_connection((place.hostname, place.port), timeout=wait) as s:
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        heard = b''
        while piece := s.recv(65536): heard += piece
    return heard

def test_no_http_at_all(served):
    "Garbage, half requests and wrong lengths do no harm."
    head = b'POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n'
    assert b'400' in raw(served[1], b'\x16\x03\x01\x02\x00\x01\x00\r\n\r\n')
    assert b'400' in raw(served[1], head+b'Content-Length: many\r\n\r\n{}')
    raw(served[1], head+b'Content-Length: 100\r\n\r\n{"prompt"')
    assert post(served[1], '/v1/completions', GOOD['/v1/completions'])[0] == 200

def test_key(model):
    with background(Server(model, 'tiny', key='secret')) as address:
        for path in POSTS:
            status, answer = post(address, path, GOOD[path])
            assert status == 401 and is_error(answer)
        good = openai.OpenAI(base_url=address+'/v1', api_key='secret', max_retries=0)
        assert good.completions.create(model='tiny', prompt='ሰላም', max_tokens=2).choices
        with pytest.raises(openai.AuthenticationError): openai.OpenAI(base_url=address+'/v1', api_key='no', max_retries=0).models.list()

# --- many users

def test_each_text_is_what_it_is_alone_under_load(served, model):
    "48 clients at once on 8 rows, streams and whole texts: nothing is lost, and each text is its own."
    server, address = served
    def ask(i):
        c = openai.OpenAI(base_url=address+'/v1', api_key='none', max_retries=0)
        prompt, seed = ['', 'ሰላም', 'ab 12', 'ቡና '*40][i % 4], i
        asked = dict(model='tiny', prompt=prompt, seed=seed, max_tokens=10+i % 20)
        if i % 2: return prompt, i, c.completions.create(**asked).choices[0].text
        return prompt, i, ''.join(chunk.choices[0].text for chunk in c.completions.create(**asked, stream=True))
    with ThreadPoolExecutor(48) as pool: answers = list(pool.map(ask, range(48)))
    same = sum(prompt+text == generate(model, prompt, 10+i % 20, seed=i) for prompt, i, text in answers)
    assert same >= 47, same                    # the last bit of a product may depend on the size of a batch
    assert server.engine.counts['refused'] == server.engine.counts['done_failed'] == 0

def stream_bytes(address, body):
    "A connection on which a stream has begun."
    place = urlparse(address)
    s = socket.create_connection((place.hostname, place.port), timeout=20)
    data = json.dumps(body).encode()
    s.sendall(b'POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n' % len(data)+data)
    return s

@pytest.mark.parametrize('stream', [True, False])
def test_a_client_that_leaves_stops_the_writing(endless, stream):
    server, address = endless
    cancelled = server.engine.counts['done_cancelled']
    with stream_bytes(address, dict(prompt='ሰላም', max_tokens=10**8, stream=stream)) as s:
        if stream: assert b'data: ' in s.recv(65536)+s.recv(65536)
        until(lambda: server.engine.batch.live)
    until(lambda: server.engine.counts['done_cancelled'] > cancelled)
    until(lambda: not server.engine.jobs)
    steps = server.engine.counts['steps']
    time.sleep(.2)
    assert server.engine.counts['steps'] == steps and not server.engine.batch.live

def test_a_full_queue_refuses(endless):
    server, address = endless
    body = dict(prompt='ሰላም', max_tokens=10**8, stream=True)
    held = [stream_bytes(address, body) for _ in range(3)]
    until(lambda: sum(len(job.open) for job in server.engine.jobs) == 3)
    status, answer = post(address, '/v1/completions', body)
    assert status == 429 and answer['error']['type'] == 'rate_limit_error'
    with pytest.raises(openai.RateLimitError): openai.OpenAI(base_url=address+'/v1', api_key='x', max_retries=0).completions.create(**body, model='tiny')
    for s in held: s.close()
    until(lambda: not server.engine.jobs)
    assert post(address, '/api/safety', dict(text='ሰላም'))[0] == 200

def test_time_limit(model):
    with background(Server(model, 'tiny', guard=Endless(), limits=Limits(chars=10**9), seconds=.3)) as address:
        status, answer = post(address, '/v1/completions', dict(prompt='ሰላም', max_tokens=10**8))
        assert status == 200 and answer['choices'][0]['finish_reason'] == 'length'
        assert len(answer['choices'][0]['text'])<10**6              # time ended it, not its length

def test_helpers_wait_in_a_short_queue(model):
    "Scores and the like run one at a time, a few wait, the others are told to come again; spelling ends in time."
    server = Server(model, 'tiny', limits=Limits(helpers=2, seconds=0))
    with background(server) as address, ThreadPoolExecutor(3) as pool:
        with server.helper:
            held = [pool.submit(post, address, '/api/score', dict(text='ሰላም')) for _ in range(2)]
            until(lambda: server.helping == 2)
            status, answer = post(address, '/api/score', dict(text='ሰላም'))
            assert status == 429 and is_error(answer)
        assert [h.result()[0] for h in held] == [200, 200]
        assert post(address, '/api/spell', dict(text='ሰላም ሰላም')) == (200, dict(corrections=[], complete=False))
        score = post(address, '/api/score', dict(text='ሰላም'))[1]
        assert [c for c, _ in score['chars']] == list('ሰላም') and score['bpc'] == pytest.approx(sum(b for _, b in score['chars'])/3, abs=1e-2)

def test_a_fault_is_told_and_the_server_goes_on(model):
    class Faulty(Endless):
        broken = True
        def banned(self, final=False):
            if self.broken: raise ZeroDivisionError('a mistake in a guard')
    guard = Faulty()
    with background(Server(model, 'tiny', guard=guard)) as address:
        status, answer = post(address, '/v1/completions', dict(prompt='ሰላም'))
        assert status == 500 and 'a mistake in a guard' in answer['error']['message']
        with pytest.raises(openai.APIError, match='a mistake'):
            list(openai.OpenAI(base_url=address+'/v1', api_key='x', max_retries=0).completions.create(model='tiny', prompt='ሰላም', stream=True))
        guard.broken = False
        assert post(address, '/v1/completions', dict(prompt='ሰላም', max_tokens=3))[0] == 200

def test_metrics(served):
    import httpx
    post(served[1], '/v1/completions', dict(prompt='ሰላም', max_tokens=2))
    httpx.get(served[1]+'/nowhere')
    text = httpx.get(served[1]+'/metrics').text
    value = r'[-+0-9.eE]+|\+Inf'
    for line in text.strip().split('\n'):
        assert re.fullmatch(r'# TYPE \w+ (counter|gauge|histogram)', line) or re.fullmatch(rf'\w+(\{{\w+="[^"]*"(,\w+="[^"]*")*\}})? ({value})', line), line
    named = dict(line.rsplit(' ', 1) for line in text.split('\n') if line and line[0] != '#')
    assert float(named['hnet_written_bytes_total']) > 0 and float(named['hnet_texts_running']) == 0
    assert named['hnet_text_seconds_count'] == named['hnet_text_seconds_bucket{le="+Inf"}'] and 'hnet_requests_total{path="other",status="404"}' in named

# --- the command

@pytest.fixture(scope='module')
def saved(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp('serve')/'mine'/'model'
    model.save_pretrained(folder)
    return folder

def started(*args):
    "The command, and its address."
    p = subprocess.Popen([sys.executable, '-c', 'from hnet_amharic.api import hnet_serve; hnet_serve()', *map(str, args), '--port', '0', '--device', 'cpu'],
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding='utf8')
    line = p.stdout.readline()
    found = re.search(r'http://127\.0\.0\.1:\d+', line)
    assert found, line+p.communicate()[0]
    return p, found[0]

@pytest.mark.skipif(os.name == 'nt', reason='signals of POSIX')
def test_command_stops_with_grace(saved, model):
    "SIGTERM in the middle of a stream: the stream is finished, nothing new is taken, the command ends."
    p, address = started(saved)
    try:
        c = openai.OpenAI(base_url=address+'/v1', api_key='none', max_retries=0)
        stream = c.completions.create(model='mine', prompt='ሰላም', seed=3, max_tokens=60, stream=True)
        text = next(stream).choices[0].text
        p.send_signal(signal.SIGTERM)
        text += ''.join(chunk.choices[0].text for chunk in stream)
        assert 'ሰላም'+text == generate(model, 'ሰላም', 60, seed=3)
        assert p.wait(30) in (0, -signal.SIGTERM)
        with pytest.raises(openai.APIConnectionError): c.models.list()
    finally: p.kill()

@pytest.mark.skipif(os.name == 'nt', reason='signals of POSIX')
def test_command_gives_up_after_grace(saved):
    "A client that reads a text without end does not keep the command alive."
    p, address = started(saved, '--grace', '1', '--max-chars', '100000000')
    try:
        with stream_bytes(address, dict(prompt='ሰላም', max_tokens=10**8, temperature=1.5, seed=1, stream=True)) as s:
            s.recv(1000)
            p.send_signal(signal.SIGINT)
            assert p.wait(30) == 130
    finally: p.kill()

def test_command_refuses(saved):
    from hnet_amharic.api import hnet_serve
    for options, words in ((dict(model=['a', 'b']), '2 models'), (dict(port=99_999), 'cannot listen'), (dict(model='nowhere', port=0), 'config.yaml')):
        with pytest.raises((ValueError, FileNotFoundError), match=words): hnet_serve(**options)

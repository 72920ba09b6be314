"Models by name, with the hub's own library: to and from a small hub on this machine, which speaks the hub's protocol."
import hashlib, json, os, re, subprocess, sys, threading
from base64 import b64decode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import pytest
pytest.importorskip('huggingface_hub', reason="needs pip install 'hnet_amharic[hub]'")

class Hub(BaseHTTPRequestHandler):
    "Creates models, takes commits (small files inside, large ones by LFS) and gives files."
    repos, blobs, seen = {}, {}, []

    def log_message(self, *_): pass

    def answer(self, body=b'', status=200, **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {'Content-Length': str(len(body)), **headers}.items():
            self.send_header(name.replace('_', '-'), value)
        self.end_headers()
        if self.command != 'HEAD': self.wfile.write(body)

    def body(self): return self.rfile.read(int(self.headers.get('Content-Length') or 0))
    def url(self): return f'http://localhost:{self.server.server_address[1]}'

    def lost(self, code='RepoNotFound'):
        self.answer({'error': 'not found'}, 404, X_Error_Code=code)

    def do_POST(self):
        path, body = self.path.split('?')[0], self.body()
        self.seen.append(path)
        if path == '/api/repos/create':
            asked = json.loads(body)
            name = '/'.join(filter(None, [asked.get('organization'), asked['name']]))
            name = name if '/' in name else f'someone/{name}'
            if name.startswith('closed/'): return self.answer({'error': 'You may not write here'}, 403)
            self.repos.setdefault(name, {'main': {}})
            return self.answer({'url': f'{self.url()}/{name}', 'name': name, 'id': name})
        if path == '/api/validate-yaml': return self.answer({'errors': [], 'warnings': []})
        if m := re.fullmatch(r'/api/models/(.+)/preupload/(.+)', path):
            files = [dict(path=f['path'], uploadMode='lfs' if f['size'] > 20_000 else 'regular', shouldIgnore=False) for f in json.loads(body)['files']]
            return self.answer({'files': files, 'shouldIgnore': False})
        if path.endswith('/info/lfs/objects/batch'):
            objects = [dict(oid=o['oid'], size=o['size'], actions={'upload': {'href': f'{self.url()}/blob/{o["oid"]}'}}) for o in json.loads(body)['objects']]
            return self.answer({'transfer': 'basic', 'objects': objects}, Content_Type='application/vnd.git-lfs+json')
        if m := re.fullmatch(r'/api/models/(.+)/branch/(.+)', path):
            self.repos[m[1]].setdefault(m[2], {})
            return self.answer({})
        if m := re.fullmatch(r'/api/models/(.+)/commit/(.+)', path):
            branch = self.repos[m[1]][m[2]]
            for line in map(json.loads, body.splitlines()):
                value = line['value']
                if line['key'] == 'file': branch[value['path']] = b64decode(value['content'])
                if line['key'] == 'lfsFile': branch[value['path']] = self.blobs[value['oid']]
            sha = self.sha(branch)
            return self.answer({'commitOid': sha, 'commitUrl': f'{self.url()}/{m[1]}/commit/{sha}', 'success': True, 'hookOutput': ''})
        self.lost()

    def do_PUT(self):
        data = self.body()
        self.blobs[hashlib.sha256(data).hexdigest()] = data
        self.answer()

    def sha(self, branch): return hashlib.sha1(b''.join(k.encode()+v for k, v in sorted(branch.items()))).hexdigest()

    def do_GET(self):
        path = self.path.split('?')[0]
        if m := re.fullmatch(r'/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?', path):
            repo = self.repos.get(m[1])
            if repo is None: return self.lost()
            branch = self.find(repo, m[3] or 'main')
            if branch is None: return self.lost('RevisionNotFound')
            if m[2] == 'tree':
                return self.answer([dict(type='file', path=name, size=len(data), oid=hashlib.sha1(data).hexdigest()) for name, data in branch.items()])
            return self.answer({'id': m[1], 'modelId': m[1], 'sha': self.sha(branch), 'siblings': [{'rfilename': name} for name in branch]})
        if m := re.fullmatch(r'/([^/]+/[^/]+)/resolve/([^/]+)/(.+)', path):
            repo = self.repos.get(m[1]) or {}
            branch = self.find(repo, m[2])
            if branch is None or m[3] not in branch: return self.lost('EntryNotFound')
            data = branch[m[3]]
            return self.answer(data, ETag=f'"{hashlib.sha256(data).hexdigest()}"', X_Repo_Commit=self.sha(branch))
        self.lost()
    do_HEAD = do_GET

    def find(self, repo, revision): return repo.get(revision) or next((b for b in repo.values() if self.sha(b) == revision), None)

@pytest.fixture(scope='module')
def hub():
    server = ThreadingHTTPServer(('127.0.0.1', 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://localhost:{server.server_address[1]}'
    server.shutdown()

def client(hub, cache, code, **env):
    "What a Python of its own prints, with our library and the hub's."
    env = dict(os.environ, HF_ENDPOINT=hub, HF_HOME=str(cache), HF_TOKEN='hf_test', HF_HUB_DISABLE_XET='1',
               HF_HUB_DISABLE_PROGRESS_BARS='1', HF_HUB_DISABLE_TELEMETRY='1', OMP_NUM_THREADS='1', **env)
    head = 'import torch\nfrom hnet_amharic.config import HNetConfig\nfrom hnet_amharic.model import *\ntorch.manual_seed(0)\n'
    r = subprocess.run([sys.executable, '-W', 'ignore', '-c', head+code], capture_output=True, text=True, env=env, timeout=300)
    assert r.returncode == 0, r.stderr[-2000:]
    return r.stdout

IDS = 'ids = torch.arange(64)[None] % 200\n'
SHOW = 'print(repr(model(ids).logits.double().sum().item()))\n'

def test_there_and_back(hub, tmp_path):
    "A model that is pushed comes back as it was, also a second time without a network, and by branch and commit."
    make = IDS+"model = build_model(HNetConfig.preset('test')).eval()\n"
    push = "print(model.push_to_hub('someone/tiny', card=dict(parameters=3, limits='Few.'), dtype='fp32', licence='cc0-1.0'))\n"
    sent = client(hub, tmp_path/'a', make+SHOW+push).split()
    assert sent[1].startswith(f'{hub}/someone/tiny/commit/')
    assert sorted(Hub.repos['someone/tiny']['main']) == ['README.md', 'card.json', 'config.yaml', 'model.safetensors']
    assert any(p.endswith('/info/lfs/objects/batch') for p in Hub.seen), 'the weights went as a small file'
    page = Hub.repos['someone/tiny']['main']['README.md'].decode()
    assert 'license: cc0-1.0' in page and "from_pretrained('someone/tiny')" in page and 'Few.' in page
    get = IDS+"model = AmharicHNet.from_pretrained('someone/tiny'{})\n"+SHOW
    assert client(hub, tmp_path/'b', get.format('')) == sent[0]+'\n'
    assert client(hub, tmp_path/'b', get.format(', offline=True')) == sent[0]+'\n'
    assert client(hub, tmp_path/'b', get.format(''), HF_HUB_OFFLINE='1') == sent[0]+'\n'
    assert client('http://localhost:9', tmp_path/'b', get.format('')) == sent[0]+'\n', 'the cache is not used when the hub is away'
    other = IDS+"torch.manual_seed(5)\nmodel = build_model(HNetConfig.preset('test')).eval()\n"+SHOW
    new = client(hub, tmp_path/'a', other+"model.push_to_hub('someone/tiny', dtype='fp32', revision='next')\n")
    assert new != sent[0]+'\n'
    assert client(hub, tmp_path/'c', get.format(", revision='next'")) == new
    assert client(hub, tmp_path/'c', get.format(f", revision={sent[1].split('/')[-1]!r}")) == sent[0]+'\n'

@pytest.mark.parametrize('code, words', [
    ("AmharicHNet.from_pretrained('someone/nothing')", 'no such model'),
    ("AmharicHNet.from_pretrained('someone/there', revision='v9')", 'no such revision'),
    ("AmharicHNet.from_pretrained('someone/there', offline=True)", 'not in the cache'),
    ("AmharicHNet.from_pretrained('someone/there')", 'config.yaml'),
    ("build_model(HNetConfig.preset('test')).push_to_hub('closed/tiny')", 'could not be sent'),
])
def test_refused_in_a_sentence(hub, tmp_path, code, words):
    Hub.repos['someone/there'] = {'main': {'README.md': b'nothing else'}}
    said = client(hub, tmp_path, f'try: {code}\nexcept (OSError, ValueError) as e: print(type(e).__name__, str(e))\n')
    assert words in said and said.count('\n') == 1, said

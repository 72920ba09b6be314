"What lies beside the code for those who publish it: the citation, the workflows, the issue forms, the image of the server."
import re
from pathlib import Path
import pytest, yaml
from test_house import ROOT, settings

WORKFLOWS = sorted((ROOT/'.github'/'workflows').glob('*.yml'))
FORMS = sorted(p for p in (ROOT/'.github'/'ISSUE_TEMPLATE').glob('*.yml') if p.stem != 'config')

def read(path): return yaml.safe_load(path.read_text(encoding='utf8'))

def test_citation_agrees_with_the_settings():
    "Zenodo and GitHub read CITATION.cff; what it repeats must be what settings.ini says."
    cff, cfg = read(ROOT/'CITATION.cff'), settings()
    assert {'cff-version', 'message', 'title', 'authors', 'abstract', 'keywords'} <= cff.keys()
    assert cff['version'] == cfg['version'] and cff['repository-code'] == cfg['git_url']
    assert cff['license'] == 'Apache-2.0' and cfg['license'] == 'apache2' and cff['type'] == 'software'
    assert [a['name'] for a in cff['authors']] == [cfg['author']] and cff['url'] == cfg['doc_host']+cfg['doc_baseurl']

def versions(cfg):
    "Minor versions of Python that setup.py names."
    text = (ROOT/'setup.py').read_text(encoding='utf8')
    return [f'3.{minor}' for minor in re.search(r'for minor in \(([\d, ]+)\)', text)[1].split(', ')]

def test_workflows_cover_systems_and_versions():
    jobs = read(ROOT/'.github'/'workflows'/'tests.yml')['jobs']
    matrix = jobs['test']['strategy']['matrix']
    assert {name.split('-')[0] for name in matrix['os']} == {'ubuntu', 'macos', 'windows'}
    assert matrix['python'] == versions(settings()) and matrix['python'][0] == settings()['min_python']
    low, high = re.search(r'torch>=2\.(\d+),<2\.(\d+)', settings()['requirements']).groups()
    minors = [int(v.split('.')[1]) for v in jobs['torch']['strategy']['matrix']['torch']]
    assert minors == [*range(int(low), int(high))]

@pytest.mark.parametrize('path', WORKFLOWS, ids=lambda p: p.stem)
def test_workflow_commands_exist(path):
    "Every file that a workflow runs is there, and so is every target of make."
    made = set(re.findall(r'^([a-z]+):', (ROOT/'Makefile').read_text(encoding='utf8'), flags=re.M))
    for name, job in read(path)['jobs'].items():
        if 'uses' in job:
            assert (ROOT/job['uses']).exists()
            continue
        assert job['timeout-minutes'] <= 120 if 'timeout-minutes' in job else name == 'publish'
        for words in (step['run'].split() for step in job['steps'] if 'run' in step):
            assert all((ROOT/w).exists() for w in words if re.match(r'(tests|\.ci)/', w)), words
            assert words[0] != 'make' or words[-1] in made, words

@pytest.mark.parametrize('path', FORMS, ids=lambda p: p.stem)
def test_issue_forms(path):
    form = read(path)
    assert form['name'] and form['description'] and any(part.get('validations', {}).get('required') for part in form['body'])
    ids = [part['id'] for part in form['body'] if part['type'] != 'markdown']
    assert len(ids) == len(set(ids)) and all(part['attributes'].get('label') for part in form['body'] if part['type'] != 'markdown')

def instructions(text):
    "(name, argument) of a Dockerfile, lines that go on joined."
    lines = [line for line in text.replace('\\\n', ' ').split('\n') if line.strip() and not line.startswith('#')]
    return [tuple(line.split(None, 1)) for line in lines]

def test_image_of_the_server():
    "Built in one stage and run in another by a user without rights; says whether it is well; copies only what is there."
    steps = instructions((ROOT/'Dockerfile').read_text(encoding='utf8'))
    last = steps[max(i for i, (name, _) in enumerate(steps) if name == 'FROM'):]
    said = dict(last)
    assert said['USER'].isdigit() and int(said['USER']) > 0 and said['EXPOSE'] == '8000' and '/health' in said['HEALTHCHECK']
    assert [name for name, _ in last].index('USER') < [name for name, _ in last].index('ENTRYPOINT')
    entry = yaml.safe_load(said['ENTRYPOINT'])
    assert entry[-1] == '8000' and '0.0.0.0' in entry
    for name, words in steps:
        assert name == name.upper() and not (name == 'FROM' and (':' not in words or words.endswith('latest')))
        if name == 'COPY' and not words.startswith('--from'):
            assert all((ROOT/source).exists() for source in words.split()[:-1]), words
    kept = [line[1:] for line in (ROOT/'.dockerignore').read_text(encoding='utf8').split('\n') if line.startswith('!')]
    copied = [s for name, words in steps if name == 'COPY' and not words.startswith('--') for s in words.split()[:-1]]
    assert set(copied) == set(kept)

@pytest.mark.skipif(not list((ROOT/'nbs').glob('*_api.ipynb')), reason='no chapter makes the server')
def test_image_starts_a_command_of_ours():
    entry = dict(instructions((ROOT/'Dockerfile').read_text(encoding='utf8')))['ENTRYPOINT']
    assert yaml.safe_load(entry)[0]+'=' in settings()['console_scripts'] and 'serve_requirements' in settings()

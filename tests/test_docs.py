"The promises of the pages: every command in them runs, every relative link leads somewhere, the site's checks see what is broken."
import configparser, contextlib, importlib, io, json, re, shlex, shutil, subprocess, sys
from pathlib import Path
import pytest, torch, yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT/'.ci'))
import docs
from readme import cells_md

# --- commands

WITH_COMMANDS = [ROOT/'README.md', ROOT/'CONTRIBUTING.md', ROOT/'nbs'/'am.ipynb', ROOT/'nbs'/'results.ipynb', *sorted((ROOT/'nbs').glob('howto_*.ipynb'))]
RELEASED = dict(arch_layout=['m1', ['m1', ['T1'], 'm1'], 'm1'], d_model=[32, 32, 64], d_intermediate=[0, 0, 64],
                attn_cfg=dict(num_heads=[1]*3, rotary_emb_dim=[16]*3, window_size=[-1]*3))

def prose(path):
    "Markdown of a page, without code cells and outputs."
    if path.suffix == '.md': return path.read_text(encoding='utf8')
    nb = json.loads(path.read_text(encoding='utf8'))
    return '\n\n'.join(''.join(c['source']) for c in nb['cells'] if c['cell_type'] == 'markdown')

def blocks(path, lang): return re.findall(rf'^```{lang}\n(.*?)^```', prose(path), flags=re.M|re.S)
def commands(path): return [l for b in blocks(path, 'sh') for l in b.splitlines() if l.split('#')[0].strip()]

@pytest.fixture(scope='module')
def stage(tmp_path_factory):
    "A folder with everything that the pages speak of: texts, a trained model, a released checkpoint; all of it tiny."
    from hnet_amharic.config import PACKAGE, HNetConfig
    from hnet_amharic.model import AmharicHNet
    from hnet_amharic.official import OfficialHNet, convert_checkpoint
    d = tmp_path_factory.mktemp('stage')
    for folder, part in (('my_texts', 'daily_life'), ('more_texts', 'nature_and_science'), ('my_test_texts', 'stories_and_festivals')):
        (d/folder).mkdir()
        text = (PACKAGE/'sample'/f'{part}.txt').read_text(encoding='utf8')
        (d/folder/f'{folder}.txt').write_text('\n\n'.join(text.split('\n\n')[:30]), encoding='utf8')
    torch.manual_seed(0)
    AmharicHNet(HNetConfig.preset('test')).save_pretrained(d/'runs'/'mine'/'model')
    (d/'released.json').write_text(json.dumps(RELEASED))
    torch.save(OfficialHNet(RELEASED).state_dict(), d/'hnet_2stage_XL_chinese.pt')
    convert_checkpoint(d/'hnet_2stage_XL_chinese.pt', d/'chinese.safetensors', RELEASED)
    from hnet_amharic.tasks import SAMPLES
    rows = (SAMPLES/'topics.tsv').read_text(encoding='utf8').split('\n')[1:41]
    for name in ('topics', 'unseen', 'new'):
        (d/f'{name}.csv').write_text('text,label\n'+''.join('"{}",{}\n'.format(*row.split('\t')) for row in rows), encoding='utf8')
    pairs = (SAMPLES/'translations.tsv').read_text(encoding='utf8').split('\n')[:12]
    for name in ('pairs', 'new'): (d/f'{name}.tsv').write_text('\n'.join(pairs)+'\n', encoding='utf8')
    for name in ('chats', 'preferences'):
        lines = (SAMPLES/f'{name}.jsonl').read_text(encoding='utf8').split('\n')[:6]
        (d/f'{name}.jsonl').write_text('\n'.join(lines)+'\n', encoding='utf8')
    (d/'letter.txt').write_text('ሰላም ለሁላችሁ።\n', encoding='utf8')
    return d

def given(args, name): return args[args.index(name)+1] if name in args else None

def without(args, name):
    "Drop an option and its value."
    return args[:args.index(name)] + args[args.index(name)+2:] if name in args else args

def shorten(name, args, shipped=False):
    "The same command on the CPU with a tiny model, a few bytes and a step; of an option given twice the last counts. `shipped` keeps the shipped model."
    from hnet_amharic.config import read_config
    from hnet_amharic.official import read_official_config
    config, cpu = given(args, '--config'), ['--device', 'cpu']
    tiny = ['--steps-per-epoch', '1', '--batch-size', '2', '--length', '64']
    if name == 'hnet_launch':
        if config: read_config(config)
        if '--test-only' in args or '--resume' in args: return [*args, *cpu]
        return [*args, '--steps', '3', *cpu] if '--demo' in args else [*args, '--config', 'test', '--epochs', '1', *tiny, *cpu]
    if name == 'hnet_finetune' and '--resume' not in args:
        return [*args, *([] if '--init' in args else ['--init', 'runs/mine/model']), '--epochs', '1', '--length', '96', *cpu, '--no-progress']
    if name == 'hnet_serve': return [*without(args, '--port'), '--port', '0', *cpu]
    if name == 'hnet_chat': return [*args, '--question', 'ሰላም', '--max-new-chars', '4', *cpu]
    if name == 'hnet_train' and '--resume' in args: return [*args, *cpu, '--no-progress']
    if name == 'hnet_train':
        if config: read_config(config)
        for option in ('--minutes', '--precision', '--gpus', '--shard'): args = without(args, option)
        args = [a.replace('/shared/', 'runs/shared_') for a in args]
        if not shipped: args = ['runs/mine/model' if a == 'shipped' else a for a in args]
        few = [] if '--epochs' in args else ['--epochs', '1']
        return [*args, '--config', 'test', *few, *tiny, '--valid-windows', '2', '--no-progress', *cpu]
    if name in ('hnet_generate', 'hnet_convert') and config:
        read_official_config(config)
        args = [*args, '--config', 'released.json']
    return [*args, '--max-new-chars', '4', *cpu] if name == 'hnet_generate' else args

def stop_at_once(monkeypatch):
    "Servers start, and stop before the first request."
    from hnet_amharic import api
    def brief(*args, start=api.runner):
        web = start(*args)
        web.should_exit = True
        return web
    monkeypatch.setattr(api, 'runner', brief)

def by_torchrun(args):
    "The command that torchrun would start in each process, here in one; its own options are read by its own parser."
    from torch.distributed.run import get_args_parser
    given = get_args_parser().parse_args(args)
    assert given.module and given.training_script == 'hnet_amharic.train', args
    return 'hnet_train', given.training_script_args

def run(line, monkeypatch, shipped=False):
    "Run one line of a page; returns what it printed."
    name, *args = shlex.split(line, comments=True)
    if name == 'make':
        assert re.search(rf'^{args[0]}:', (ROOT/'Makefile').read_text(), flags=re.M), line
        return subprocess.run(['make', '-n', '-C', str(ROOT), *args], check=True, capture_output=True, text=True).stdout
    if name == 'torchrun': name, args = by_torchrun(args)
    if name == 'source': return (ROOT/'Makefile').read_text().split('BIN ')[1]     # the environment that make makes
    cfg = configparser.ConfigParser(delimiters=['='])
    cfg.read(ROOT/'settings.ini', encoding='utf8')
    scripts = dict(o.split('=') for o in cfg['DEFAULT']['console_scripts'].split())
    assert name in scripts, f'no such command: {line}'
    module, function = scripts[name].split(':')
    if name == 'hnet_serve': stop_at_once(monkeypatch)
    out = io.StringIO()
    monkeypatch.setattr(sys, 'argv', [name, *shorten(name, args, shipped)])
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try: getattr(importlib.import_module(module), function)()
        except SystemExit as e: assert not e.code, f'{line}\n{out.getvalue()}'
    return out.getvalue()

@pytest.mark.parametrize('page', WITH_COMMANDS, ids=lambda p: p.stem)
def test_commands_run(page, stage, tmp_path, monkeypatch):
    "Every line of every `sh` block, top to bottom, in one folder; `python` blocks after them; `yaml` blocks are files under the name in their first line."
    shutil.copytree(stage, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('HNET_AMHARIC_CACHE', str(stage.parent/'cache'))
    for b in blocks(page, 'yaml'): Path(re.match(r'# (\S+)', b)[1]).write_text(b, encoding='utf8')
    lines = commands(page)
    assert lines or page.stem in ('results', 'howto_chunks', 'howto_learning', 'howto_portable'), f'{page.name}: no commands found'
    for line in lines: assert run(line, monkeypatch, shipped=page.name == 'README.md').strip(), line
    for b in blocks(page, 'bash'): subprocess.run(['bash', '-n'], input=b, text=True, check=True)
    if page.suffix == '.ipynb':
        for b in blocks(page, 'python'): exec(compile(b, page.name, 'exec'), {})
    for extra in re.findall(r"pip install -e '\.\[([\w,]+)\]'", prose(page)):
        cfg = configparser.ConfigParser(delimiters=['='])
        cfg.read(ROOT/'settings.ini', encoding='utf8')
        assert all(f'{e}_requirements' in cfg['DEFAULT'] for e in extra.split(',')), extra

def test_a_wrong_command_is_noticed(stage, monkeypatch):
    "The test above can fail."
    monkeypatch.chdir(stage)
    for line in ('hnet_trian --help', 'hnet_info --config 400m', 'make dem', 'hnet_generate "ሰላም" --model nowhere'):
        with pytest.raises((AssertionError, subprocess.CalledProcessError)): run(line, monkeypatch)

# --- links

SOURCES = [*sorted(ROOT.glob('*.md')), *sorted((ROOT/'nbs').glob('*.ipynb'))]

@pytest.mark.parametrize('path', SOURCES, ids=lambda p: p.name)
def test_relative_links(path):
    "Links and images of Markdown files and notebooks lead to files that are there, anchors to headings."
    def text_of(p):
        if p.suffix == '.md': return p.read_text(encoding='utf8')
        nb = json.loads(p.read_text(encoding='utf8'))
        return '\n\n'.join(t for src, outs, _ in cells_md(nb, lambda raw, ext: 'https://saved') for t in (src, *outs))
    text = re.sub(r'^(`{3,}).*?^\1|`[^`\n]*`', '', text_of(path), flags=re.M|re.S)
    for url in re.findall(r'\]\(([^)\s]+)\)|\b(?:src|href)="([^"]+)"', text):
        url = url[0] or url[1]
        if re.match(r'\w+:|//', url): continue
        name, _, anchor = url.partition('#')
        target = (path.parent/name).resolve() if name else path
        assert target.exists(), f'{path.name}: {url}'
        if anchor and target.suffix in ('.md', '.ipynb'):
            heads = {re.sub(r'[^\w\- ]', '', h.lower()).strip().replace(' ', '-') for h in re.findall(r'^#+ (.*)$', text_of(target), flags=re.M)}
            assert anchor.lower() in heads or re.search(rf'\b(class|def) {re.escape(anchor.split(".")[0])}\b', text_of(target)), f'{path.name}: {url}'

# --- messages

@pytest.mark.parametrize('page', sorted((ROOT/'nbs').glob('howto_*.ipynb')), ids=lambda p: p.stem)
def test_quoted_messages_exist(page):
    "What a how-to page says one sees (`| *message* | do |`) is what the package says; dots stand for what varies."
    code = ''.join(p.read_text(encoding='utf8') for p in sorted((ROOT/'hnet_amharic').glob('*.py')))
    for said in re.findall(r'^\| \*([^*]+)\* \|', prose(page), flags=re.M):
        for part in said.split(' ... '): assert part in code, f'{page.name}: {said!r}'

# --- what is proved

CHAPTERS = sorted((ROOT/'nbs').glob('[0-9][0-9]_*.ipynb'))

def anchor(heading):
    "The id that pandoc and Quarto give to a heading: formatting and punctuation go, blanks become hyphens, it begins with a letter."
    text = re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', heading).lower()
    return re.sub(r'^[^a-z]*', '', re.sub(r'\s+', '-', re.sub(r'[^\w\s.-]', '', text).strip()))

def proved(path):
    "Rows of the table at the end of a chapter, which a cell computes."
    cells = json.loads(path.read_text(encoding='utf8'))['cells']
    at = [i for i, c in enumerate(cells) if c['cell_type'] == 'markdown' and ''.join(c['source']).startswith('## What is proved here')]
    if not at: return []
    shown = [''.join(o['data'].get('text/markdown', '')) for c in cells[at[-1]:] if c['cell_type'] == 'code' for o in c['outputs'] if 'data' in o]
    table = '\n'.join([''.join(cells[at[-1]]['source']), *shown])
    return re.findall(r'^\| (.+) \| (.+) \|$', table.partition('|---|---|\n')[2], flags=re.M)

def test_anchors_as_pandoc_spells_them():
    import pypandoc
    heads = ['Mamba-2', 'hnet_train', 'The UTF-8 automaton', 'Does it help?', '1. Bytes', 'One real step of `300m`', 'Checkpointing changes memory, not numbers', 'What **it** [costs](x.md)']
    page = pypandoc.convert_text('\n\n'.join(f'## {h}' for h in heads), 'html5', format='markdown')
    assert re.findall(r'<h2[^>]*id="([^"]+)"', page) == [anchor(h) for h in heads]

@pytest.mark.parametrize('path', CHAPTERS, ids=lambda p: p.stem)
def test_chapter_ends_with_what_is_proved(path):
    "At least three claims; a link beside a claim leads to the heading under which the cell stands that checks it."
    rows, heads = proved(path), re.findall(r'^##+ (.*)$', re.sub(r'^```.*?^```', '', prose(path), flags=re.M|re.S), flags=re.M)
    assert len(rows) >= 3, f'{path.name} needs a table of at least three rows under "## What is proved here"'
    known = [anchor(h) for h in heads]
    for claim, by in rows:
        for to in re.findall(r'\]\(#([^)]+)\)', by):
            assert known.count(to) == 1, f'{path.name}: {claim!r} points to #{to}, which is {known.count(to)} headings of this page'

# --- the site

def site(tmp_path, **pages):
    for name, body in pages.items(): (tmp_path/f'{name}.html').write_text(f'<html><body>{body}</body></html>', encoding='utf8')
    return list(docs.broken(tmp_path, offline=True))

def test_site_check_sees_what_is_broken(tmp_path):
    (tmp_path/'a b.png').write_bytes(b'')
    good = '<h1 id="top">x</h1><a href="b.html#there">1</a><a href="#top">2</a><img src="a%20b.png"><a href="https://example.org/x">3</a><a href="b.html?q=1">4</a><pre>#| export ::: {.x}</pre>'
    assert not site(tmp_path, a=good, b='<p id="there">y</p>')
    bad = {'<a href="c.html">': 'does not exist', '<a href="b.html#gone">': 'no such place', '<img src="gone.png">': 'does not exist', '<a href="#gone">': 'no such place',
           '<script src="https://example.org/x.js">': 'another host', '<link rel="stylesheet" href="//example.org/x.css">': 'another host',
           '<p>#| export</p>': 'left over', '<p>::: {.callout}</p>': 'left over'}
    for body, words in bad.items():
        found = site(tmp_path, a=body, b='<p id="there">y</p>')
        assert len(found) == 1 and words in found[0], (body, found)

def test_site_assets_are_ours_and_there():
    "Favicon, card and fonts that the configuration and the style sheet name exist; the style sheet loads nothing from elsewhere."
    web = yaml.safe_load((ROOT/'_quarto.yml').read_text(encoding='utf8'))['website']
    for name in (web['favicon'], web['open-graph']['image']): assert (ROOT/'nbs'/name).exists(), name
    css = (ROOT/'nbs'/'styles.css').read_text(encoding='utf8') + (ROOT/'.ci'/'docs.css').read_text(encoding='utf8')
    urls = re.findall(r'url\(([^)]+)\)', css)
    assert urls and all((ROOT/'nbs'/u).exists() for u in urls)
    assert (ROOT/'nbs'/'fonts'/'OFL.txt').exists() and '@import' not in css

def test_fork_workflow():
    "The workflow checks, tests, builds with Quarto and publishes, with targets that exist."
    jobs = yaml.safe_load((ROOT/'.github'/'workflows'/'site.yml').read_text(encoding='utf8'))['jobs']
    jobs |= yaml.safe_load((ROOT/'.github'/'workflows'/'tests.yml').read_text(encoding='utf8'))['jobs']
    steps = [s for j in jobs.values() for s in j.get('steps', [])]
    runs = ' '.join(s.get('run', '') for s in steps)
    assert '.ci/check.py' in runs
    for target in ('test', 'docs'):
        assert re.search(rf'make (?:PYTHON=python )?{target}\b', runs) and re.search(rf'^{target}:', (ROOT/'Makefile').read_text(), flags=re.M)
    used = ' '.join(s.get('uses', '') for s in steps)
    assert 'quarto-actions/setup' in used and 'deploy-pages' in used

# --- imports

def loaded(module):
    "Top-level packages that importing `module` brings, in a new interpreter."
    code = f'import sys; import {module}; print(*{{m.split(".")[0] for m in sys.modules}})'
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()
    return set(out)

def test_imports_are_light():
    "The package itself brings nothing; writing text needs no training library and no plots."
    mods = loaded('hnet_amharic')
    assert not mods & {'torch', 'fastai', 'numpy', 'matplotlib', 'pandas'}, mods
    mods = loaded('hnet_amharic.generation')
    assert not mods & {'fastai', 'matplotlib', 'pandas', 'scipy', 'sklearn', 'IPython', 'torchvision', 'datasets', 'pyarrow', 'nbdev'}, mods

"The contracts of the repository: what is where, what agrees with what, what ends up in the wheel."
import ast, configparser, importlib.metadata, json, os, re, shutil, subprocess, sys
from pathlib import Path
import pytest, yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT/'.ci'))
import ruler
NBS = sorted((ROOT/'nbs').glob('*.ipynb'), key=lambda p: (p.stem != 'index', p.name))
CHAPTERS = [p for p in NBS if p.name[0].isdigit()]
PAGES = [p for p in NBS if p not in CHAPTERS]
TOP = set('nbs hnet_amharic settings.ini setup.py _quarto.yml tests README.md LICENSE CHANGELOG.md CONTRIBUTING.md Makefile '
          'CITATION.cff Dockerfile MANIFEST.in'.split())
chapters = pytest.mark.parametrize('path', CHAPTERS, ids=lambda p: p.stem)
notebooks = pytest.mark.parametrize('path', NBS, ids=lambda p: p.stem)

def settings():
    "settings.ini as a section."
    cfg = configparser.ConfigParser(delimiters=['='])
    cfg.read(ROOT/'settings.ini', encoding='utf8')
    return cfg['DEFAULT']

def house_files():
    "Paths that belong to the repository: what git knows or would add; without git, what is there less what is built."
    if (ROOT/'.git').exists() and shutil.which('git'):
        cmd = ['git', '-C', str(ROOT), 'ls-files', '-z', '--cached', '--others', '--exclude-standard']
        names = subprocess.run(cmd, capture_output=True, text=True, check=True).stdout.split('\0')
        return [Path(n) for n in names if n and (ROOT/n).exists()]
    built = set('.venv .git __pycache__ .pytest_cache .ipynb_checkpoints build dist _docs _proc runs checkpoints'.split())
    names = [p.relative_to(ROOT) for p in ROOT.rglob('*') if p.is_file()]
    return [n for n in names if not built & set(n.parts) and not any(q.endswith('.egg-info') for q in n.parts)]

def read(path): return json.loads(path.read_text(encoding='utf8'))
def source(cell): return ''.join(cell['source'])
def code_cells(path): return [c for c in read(path)['cells'] if c['cell_type'] == 'code' and source(c).strip()]
def number(path): return int(path.name.split('_')[0])
def module(path): return path.stem.split('_', 1)[1]

def copy_house(dest, *, weights=True):
    "The repository's files, copied to `dest`: what a clone would hold."
    for name in house_files():
        if not weights and 'weights' in name.parts: continue
        (dest/name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT/name, dest/name)
    return dest

# --- what is where

def test_top_level():
    seen = {n.parts[0] for n in house_files()}
    assert TOP <= seen, f'missing at top level: {TOP - seen}'
    extra = {n for n in seen - TOP if not n.startswith('.')}
    assert not extra, f'these do not belong at top level: {extra}'

def test_ci_entry():
    run = ROOT/'.ci'/'run'
    assert os.access(run, os.X_OK), '.ci/run is not executable'
    assert 'make test' in run.read_text()

def test_make_help_lists_every_target():
    out = subprocess.run(['make', '-s', '-C', str(ROOT)], capture_output=True, text=True, check=True).stdout
    listed = set(re.findall(r'make (\w+)', out))
    assert listed >= set('demo test slow check lab docs ruler clean help'.split())
    assert listed == set(re.findall(r'^([a-z]+):', (ROOT/'Makefile').read_text(), flags=re.M))

def test_settings():
    cfg = settings()
    assert cfg['lib_name'] == cfg['lib_path'] == 'hnet_amharic' and cfg['nbs_path'] == 'nbs'
    assert cfg.getboolean('custom_sidebar') and not cfg.getboolean('update_pyproject')
    assert set(cfg['tst_flags'].split()) == {'notest', 'slow', 'gpu'}
    assert not (ROOT/'pyproject.toml').exists(), 'settings.ini and setup.py are the only place for settings'
    import hnet_amharic
    assert hnet_amharic.__version__ == cfg['version']
    assert f"[{cfg['version']}]" in (ROOT/'CHANGELOG.md').read_text(encoding='utf8')

@pytest.mark.parametrize('name', ['hnet_launch', 'hnet_train', 'hnet_generate', 'hnet_suggest', 'hnet_info', 'hnet_convert', 'hnet_memory', 'hnet_evaluate', 'hnet_safety', 'hnet_finetune', 'hnet_predict', 'hnet_chat', 'hnet_spell', 'hnet_type', 'hnet_serve', 'hnet_harness', 'hnet_export'])
def test_console_script(name):
    "Declared, installed beside this Python, and pointing at a function that is there."
    declared = dict(o.split('=') for o in settings()['console_scripts'].split())
    assert name in declared
    assert (Path(sys.executable).parent/name).exists(), f'{name} is not installed: pip install -e .'
    assert callable(importlib.metadata.EntryPoint(name, declared[name], 'console_scripts').load())

def test_no_machine_paths_or_hosts():
    "Nothing in the repository knows the machine it was made on, nor where its packages were downloaded from."
    bad = [r'(?<![\w.])/(?:work|farm|root|workspace|private/var|Users|home)/\w', r'(?<![\w.])/opt/\w',
           r'--(?:extra-)?index-url', r'find-links\s*=', r'trusted-ho[s]t',
           r'https?://(?:\d{1,3}\.){3}\d', r'https?://localhost:\d+/simple',
           r'https?://[\w.-]*(?:artifactory|nexus|devpi|pkgs\.dev)[\w.-]*']
    bad, found = re.compile('|'.join(bad)), []
    for name in house_files():
        try: text = (ROOT/name).read_text(encoding='utf8')
        except UnicodeDecodeError: continue
        text = re.sub(r'"image/(png|jpeg)": "[^"]*"', '', text)
        found += [f'{name}: {m[0]!r}' for m in bad.finditer(text)]
    assert not found, found

def test_no_huge_files():
    "Shipped weights may take 32 MB, nothing else more than 5."
    def limit(n): return 32e6 if 'weights' in n.parts else 5e6
    big = {str(n): (ROOT/n).stat().st_size for n in house_files() if (ROOT/n).stat().st_size > limit(n)}
    assert not big, f'too big: {big}'

# --- the notebooks

@chapters
def test_chapter_opening(path):
    "`NN_name.ipynb` opens with `#| default_exp name`, then a title and one line on it."
    assert re.fullmatch(r'\d\d_[a-z_0-9]+', path.stem), f'{path.name} should be named NN_name.ipynb'
    first, second = read(path)['cells'][:2]
    assert first['cell_type'] == 'code' and source(first).strip() == f'#| default_exp {module(path)}'
    assert second['cell_type'] == 'markdown' and re.match(r'# \S.*\n+> \S', source(second)), source(second)[:80]
    assert (ROOT/'hnet_amharic'/f'{module(path)}.py').exists()

@pytest.mark.parametrize('path', PAGES, ids=lambda p: p.stem)
def test_page_opening(path):
    "A page that is no chapter opens with a title and one line on it, and exports nothing."
    first = read(path)['cells'][0]
    assert first['cell_type'] == 'markdown' and re.match(r'# \S.*\n+> \S', source(first)), source(first)[:80]
    assert not any(re.match(r'#\|\s*(default_exp|export)', source(c)) for c in code_cells(path))

def test_chapter_numbers_are_unique():
    nums = [number(p) for p in CHAPTERS]
    assert len(nums) == len(set(nums)), nums

@notebooks
def test_saved_outputs(path):
    "Executed before the commit: no errors in it, and the cells that show something do."
    cells = code_cells(path)
    errors = [source(c)[:80] for c in cells for o in c['outputs'] if o['output_type'] == 'error']
    assert not errors, errors
    def shows(c):
        if source(c).lstrip().startswith('#|'): return False
        try: last = ast.parse(source(c)).body[-1]
        except SyntaxError: return True   # a magic or a shell line
        return isinstance(last, ast.Expr) and not source(c).rstrip().endswith(';') and not is_check(last.value)
    def is_check(e): return isinstance(e, ast.Call) and getattr(e.func, 'id', '').startswith(('test_', 'expect_fail'))
    show = [c for c in cells if shows(c)]
    bare = [c for c in show if not c['outputs']]
    assert len(bare) <= len(show)/2, f'{len(bare)} of {len(show)} cells have no output: run it, save, make prepare'

def imported(path):
    "Names of our modules that code in the notebook imports."
    for cell in code_cells(path):
        src = re.sub(r'^(\s*)[%!].*$', r'\1pass', source(cell), flags=re.M)
        for node in ast.walk(ast.parse(src)):
            if isinstance(node, ast.Import): names = [a.name for a in node.names]
            elif isinstance(node, ast.ImportFrom):
                whole = node.module == 'hnet_amharic'   # from hnet_amharic import text
                names = [f'hnet_amharic.{a.name}' for a in node.names] if whole else [node.module or '']
            else: continue
            yield from (n.split('.')[1] for n in names if n.startswith('hnet_amharic.'))

NUMBER = {module(p): number(p) for p in CHAPTERS}

@chapters
def test_imports_point_backwards(path):
    for name in imported(path):
        if name == '__version__': continue
        assert name in NUMBER, f'{path.name} imports hnet_amharic.{name}, which no notebook makes'
        assert NUMBER[name] < number(path), f'{path.name} imports {name}, a chapter that is not before it'

def module_tree(path): return ast.parse((ROOT/'hnet_amharic'/f'{module(path)}.py').read_text(encoding='utf8'))

def strings(tree):
    "Every piece of text in a module but its docstrings."
    bare = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)}
    yield from (n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in bare)

@chapters
def test_imports_by_string_point_backwards(path):
    "What a module imports itself, by name in a string, or in the code of another process."
    found = set()
    tree = module_tree(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level: found.add((node.module or node.names[0].name).split('.')[0])
        if isinstance(node, ast.ImportFrom) and (node.module or '').startswith('hnet_amharic.'): found.add(node.module.split('.')[1])
    for text in strings(tree): found |= set(re.findall(r'(?:(?:from|import)\s+|^)hnet_amharic\.(\w+)', text))
    later = {n for n in found if NUMBER.get(n, -1) > number(path)}
    assert not later, f'{path.name} uses {sorted(later)}, which come later'

@chapters
def test_nobody_reaches_into_a_module(path):
    "A name that begins with an underscore belongs to its module."
    tree, modules = module_tree(path), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or '').startswith('hnet_amharic')):
            assert not [a.name for a in node.names if a.name.startswith('_') and not a.name.startswith('__')], ast.unparse(node)
            modules |= {a.asname or a.name for a in node.names if a.name in NUMBER}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and getattr(node.value, 'id', '') in modules:
            assert not re.match(r'_[^_]', node.attr), ast.unparse(node)

# --- readable

@chapters
def test_one_statement_a_line(path):
    text = (ROOT/'hnet_amharic'/f'{module(path)}.py').read_text(encoding='utf8')
    lines = text.split('\n')
    assert not [lines[i-1] for i in ruler.shared_lines(text)]

def without_options(source):
    "Lines of a cell or module; the list of options of a command is a table and counts as one."
    spans = [(n.args.args[0].lineno, n.body[0].lineno-1) for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef)
             and n.args.args and any('command' in ast.dump(d) for d in n.decorator_list)]
    inside = {i for a, b in spans for i in range(a, b+1)}
    return sum(bool(l.strip()) for i, l in enumerate(source.split('\n'), 1) if i not in inside)

@chapters
def test_cells_and_modules_are_short(path):
    "Ceilings; half of the cells and modules stay far below them."
    long = [(without_options(s), s.split('\n')[0]) for _, s in ruler.export_cells(path) if without_options(s) > 76]
    assert not long, long
    n = without_options((ROOT/'hnet_amharic'/f'{module(path)}.py').read_text(encoding='utf8'))
    assert n <= 500, f'{path.name}: {n} lines'

def test_half_of_them_are_much_shorter():
    figures = ruler.measure(ROOT)
    assert figures['export cell, median lines'] <= 22 and figures['module, median lines'] <= 300, figures

@chapters
def test_sources_are_shown(path):
    "A cell that defines a public class or function is `#| exports`, so that readers of the site see its source; only tiny helpers are not."
    kinds = (ast.FunctionDef, ast.ClassDef)
    hidden = [n.name for shown, s in ruler.export_cells(path) if not shown for n in ast.parse(s).body
              if isinstance(n, kinds) and n.name[0] != '_' and n.end_lineno-n.lineno > 12]
    assert not hidden, f'{path.name}: {hidden} should be #| exports'

def test_the_ruler_measures():
    assert ruler.shared_lines('a = 1; b = 2\nif a: b = 3\nc = 4\n') == [1, 2] and ruler.semicolons('a = 1; b = 2\nif a: b = 3\n') == [1]
    assert ruler.tuple_assignments('a, b = 1, 2\nc, d = f()\n') == 1
    figures = ruler.measure(ROOT)
    assert figures['modules'] == len(CHAPTERS) and figures['lines'] > 1000

def exported(path):
    "Public functions and classes of a chapter's module."
    tree = ast.parse((ROOT/'hnet_amharic'/f'{module(path)}.py').read_text(encoding='utf8'))
    for node in tree.body:
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or node.name.startswith('_'): continue
        if any('patch' in ast.dump(d) for d in node.decorator_list): continue
        yield node.name, '\n'.join(ast.unparse(other) for other in tree.body if other is not node)

@chapters
def test_every_symbol_is_used(path):
    "Each public function and class stands in a lesson cell of its chapter, or serves one that does."
    lessons = '\n'.join(source(c) for c in code_cells(path) if not re.match(r'#\|\s*(export|default_exp)', source(c)))
    missing = [n for n, rest in exported(path) if not re.search(rf'\b{n}\b', lessons) and not re.search(rf'\b{n}\b', rest)]
    assert not missing, f'{path.name}: nothing shows or uses {missing}'

@notebooks
def test_imports_stand_alone(path):
    "A lesson cell imports or computes, not both: nbdev may run a cell with an import in it while the site is built."
    imports = (ast.Import, ast.ImportFrom)
    for cell in code_cells(path):
        if re.match(r'#\|\s*(export|default_exp)', source(cell)) or 'nbdev_export()' in source(cell): continue
        body = ast.parse(re.sub(r'^(\s*)[%!].*$', r'\1pass', source(cell), flags=re.M)).body
        some = any(isinstance(n, imports) for b in body for n in ast.walk(b))
        assert not some or all(isinstance(b, imports) for b in body), source(cell)[:120]

@notebooks
def test_lines_fit(path):
    "Lines of code aim at 110 columns and have at most 120; the rows of a table are prose."
    wide = [l[:60] for c in code_cells(path) for l in source(c).split('\n') if len(l) > 120 and not l.lstrip().startswith('|')]
    assert not wide, wide

def sidebar():
    "Notebook names in the order of the site's sidebar."
    def walk(items):
        for o in items:
            if isinstance(o, str): yield o
            elif 'contents' in o: yield from walk(o['contents'])
            else: yield o['href']
    site = yaml.safe_load((ROOT/'_quarto.yml').read_text(encoding='utf8'))['website']
    return list(walk(site['sidebar']['contents']))

def test_sidebar():
    "Every notebook is in the sidebar, chapters in the order of their numbers; changelog and contributing are made by .ci/docs.py."
    listed, there = sidebar(), [p.name for p in NBS]
    assert len(listed) == len(set(listed)) and listed[0] == 'index.ipynb'
    assert not set(there) - set(listed), 'notebooks the sidebar of _quarto.yml forgets'
    assert not set(listed) - set(there) - {'changelog.md', 'contributing.md'}, 'pages in the sidebar of _quarto.yml that do not exist'
    numbered = [n for n in listed if n[0].isdigit()]
    assert numbered == sorted(numbered), 'the chapters in the sidebar are not in order'

def test_readme_lists_what_there_is():
    "README.md is the output of nbs/index.ipynb: it must have been run since the last chapter or command was added or named anew."
    readme = (ROOT/'README.md').read_text(encoding='utf8')
    for path in CHAPTERS:
        title, line = re.match(r'# (.*)\n+> (.*)', source(read(path)['cells'][1])).groups()
        assert f'| [{path.stem}](nbs/{path.name}) | {title} | {line} |' in readme, f'run nbs/index.ipynb: {path.name} is not as README.md says'
    for command in settings()['console_scripts'].split():
        name = command.split('=')[0]
        assert f'| `{name}` |' in readme, f'run nbs/index.ipynb: README.md lacks {name}'

def test_quarto_stub():
    stub = yaml.safe_load((ROOT/'nbs'/'_quarto.yml').read_text())
    assert stub['metadata-files'] == ['../_quarto.yml', 'nbdev.yml']

# --- what agrees with what

def run_check(root):
    p = subprocess.run([sys.executable, str(root/'.ci'/'check.py')], capture_output=True, text=True, cwd=root)
    return p.returncode, p.stdout + p.stderr

def test_check_names_what_is_wrong(tmp_path):
    "`make check` on a copy: green as it is, and each kind of drift is named without a file being changed."
    root = copy_house(tmp_path/'house', weights=False)
    rc, out = run_check(root)
    assert rc == 0, out
    nb, mod = CHAPTERS[0].name, f'hnet_amharic/{module(CHAPTERS[0])}.py'
    with (root/mod).open('a', encoding='utf8') as f: f.write('\nedited = True\n')
    shutil.copy2(root/mod, root/'hnet_amharic'/'stale.py')
    dirty = read(root/'nbs'/nb)
    next(c for c in dirty['cells'] if c['cell_type'] == 'code')['execution_count'] = 7
    (root/'nbs'/nb).write_text(json.dumps(dirty, ensure_ascii=False, indent=1) + '\n', encoding='utf8')
    (root/'README.md').write_text('# Something else\n')
    before = {p: p.read_bytes() for p in root.rglob('*') if p.is_file()}
    rc, out = run_check(root)
    assert rc == 1
    for words in (f'{mod} is not what its notebook exports', 'edited = True', f'nbs/{nb} is not clean', 'make prepare',
                  'hnet_amharic/stale.py says it is generated', 'README.md is not what nbs/index.ipynb says'):
        assert words in out, out
    assert before == {p: p.read_bytes() for p in root.rglob('*') if p.is_file() and '__pycache__' not in p.parts}

@pytest.mark.skipif(not shutil.which('git'), reason='needs git')
def test_check_names_what_git_does_not_know(tmp_path):
    root = copy_house(tmp_path/'house', weights=False)
    mod = f'hnet_amharic/{module(CHAPTERS[0])}.py'
    def git(*args): subprocess.run(['git', '-C', str(root), *args], check=True, capture_output=True)
    git('init', '-q')
    git('add', '.')
    assert run_check(root)[0] == 0
    git('rm', '-q', '--cached', mod)
    rc, out = run_check(root)
    assert rc == 1 and mod in out and 'git add' in out, out

def test_readme_from_a_notebook(tmp_path, monkeypatch):
    "Hidden cells and directives go, outputs stay as text, drawn images become files, links work one folder up."
    monkeypatch.syspath_prepend(str(ROOT/'.ci'))
    from readme import readme
    def code(src, *outputs): return dict(cell_type='code', source=src, outputs=list(outputs))
    def result(**data): return dict(output_type='execute_result', data={k.replace('_', '/'): v for k, v in data.items()})
    nb = dict(cells=[
        dict(cell_type='markdown', source=['# Title\n', 'See [a](00_text.ipynb), [b](https://example.org), ![](images/a.png).']),
        code('#| hide\nsecret()', result(text_plain='secret')), code('#| include: false\nsecret()'),
        code('#| export\ndef secret(): pass'),
        code('#| echo: false\nsecret()', dict(output_type='stream', name='stdout', text=['\x1b[31mred\x1b[0m ቡና\n'])),
        code('#| output: false\nshown()', result(text_plain='secret')),
        code('#| label: one\nplot()\nsecret() #| hide_line', result(image_png='aGk=', text_plain='secret')),
        code('f()', dict(output_type='stream', name='stderr', text='secret'), result(text_plain='```\n7')),
        code('md()', result(text_markdown='*seven*', text_plain='secret'))])
    (tmp_path/'nbs').mkdir()
    (tmp_path/'nbs'/'index.ipynb').write_text(json.dumps(nb), encoding='utf8')
    text, images = readme(tmp_path)
    assert images == {'nbs/images/readme-1.png': b'hi'}
    assert 'secret' not in text and '#|' not in text
    for part in ('[a](nbs/00_text.ipynb), [b](https://example.org), ![](nbs/images/a.png).', '```\nred ቡና\n```',
                 '```python\nshown()\n```', '```python\nplot()\n```\n\n![](nbs/images/readme-1.png)',
                 '````\n```\n7\n````', '\n*seven*\n'): assert part in text, (part, text)

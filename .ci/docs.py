"""The site in _docs: by nbdev_docs when there is a `quarto` program, else the same processed notebooks through pandoc.

Nothing is ever downloaded. nbdev's commands fetch and install Quarto when it is missing, so they are not called then."""
import html, json, os, re, shutil, subprocess, sys
from pathlib import Path
from urllib.parse import unquote
import yaml

sys.dont_write_bytecode = True
ROOT = Path(__file__).resolve().parent.parent
CI, OUT = ROOT/'.ci', ROOT/'_docs'
sys.path.insert(0, str(CI))
from readme import cells_md, joined

def walk(items, part=''):
    "Yield (part, notebook, text) for each page of the sidebar."
    for o in items:
        if isinstance(o, str): yield part, o, ''
        elif 'contents' in o: yield from walk(o['contents'], o.get('section', ''))
        else: yield part, o['href'], o.get('text', '')

def front(nb):
    "The front matter nbdev made from title and quote: title, description, output-file."
    first = nb['cells'][0]
    return yaml.safe_load(joined(first['source']).strip().strip('-')) if first['cell_type'] == 'raw' else {}

class Site:
    "The pages, and where links between them lead."
    def __init__(self, cache):
        from nbdev.config import get_config
        cfg = get_config()
        self.home = f"{cfg['doc_host']}{cfg['doc_baseurl']}/"
        self.code = f"{cfg['git_url']}/blob/{cfg['branch']}/"
        self.title, self.pages, self.missing = cfg['title'], [], []
        quarto = yaml.safe_load((ROOT/'_quarto.yml').read_text(encoding='utf8'))
        for part, name, text in walk(quarto['website']['sidebar']['contents']):
            if not (cache/name).exists(): self.missing.append(name); continue
            nb = json.loads((cache/name).read_text(encoding='utf8'))
            fm = front(nb)
            page = fm.get('output-file') or re.sub(r'^\d+\w*?_', '', name).replace('.ipynb', '.html')
            self.pages.append(dict(part=part, name=name, nb=nb, page=page, title=fm.get('title') or name,
                                   lead=fm.get('description', ''), text=text or fm.get('title') or name))
        self.html_of = {p['name']: p['page'] for p in self.pages}

    def link(self, url, up=''):
        "A link as written in a notebook or by nbdev -> a link that works in the built site."
        if url.startswith(self.home): return up + url[len(self.home):]
        if url.startswith(self.code):
            path, _, line = url[len(self.code):].partition('#L')
            if path.endswith('.py'): return f"{up}source/{Path(path).stem}.html" + (f'#cb1-{line}' if line.isdigit() else '')
        path, mark, anchor = url.partition('#')
        return up + self.html_of[path] + mark + anchor if path in self.html_of else url

    def sidebar(self, here, up=''):
        res, part = [f'<a class="home" href="{up}index.html">{html.escape(self.title)}</a>', '<ul>'], ''
        for p in self.pages:
            if p['part'] != part: res += ['</ul>', f"<div class=\"part\">{html.escape(p['part'])}</div>", '<ul>']
            part, now = p['part'], ' aria-current="page"' if p['page'] == here else ''
            res.append(f"<li><a href=\"{up}{p['page']}\"{now}>{html.escape(p['text'])}</a></li>")
        return '\n'.join([*res, '</ul>'])

def page_md(p):
    "One processed notebook as pandoc markdown; its images go beside the page."
    folder, n = OUT/f"{Path(p['page']).stem}_files", 0
    def save(raw, ext):
        nonlocal n
        n += 1
        folder.mkdir(exist_ok=True)
        (folder/f'{n}.{ext}').write_bytes(raw)
        return f'{folder.name}/{n}.{ext}'
    res = []
    for src, outs, d in cells_md(p['nb'], save, html=True, hidden={'hide'}):
        if 'code-fold' in d and src:
            is_open = ' open' if d['code-fold'] == 'show' else ''
            summary = html.escape(d.get('code-summary', 'Code'))
            src = f"<details{is_open}><summary>{summary}</summary>\n\n{src}\n\n</details>"
        res.append(src)
        if outs and d.get('output') == 'asis': res += outs
        elif outs: res.append('::: {.output}\n' + '\n\n'.join(outs) + '\n:::')
    return '\n\n'.join(r for r in res if r)

def pandoc(md, dest, title, lead, sidebar, turn, site, up=''):
    import pypandoc
    tpl = (CI/'docs.html').read_text(encoding='utf8')
    for key, val in (('SIDEBAR', sidebar), ('TURN', turn)): tpl = tpl.replace(key, val.replace('$', '$$'))
    (OUT/'.template.html').write_text(tpl, encoding='utf8')
    meta = dict(title=title, lead=lead, up=up, pagetitle=title if title == site.title else f'{title} - {site.title}')
    md = '---\n' + json.dumps(meta, ensure_ascii=False) + '\n---\n\n' + md
    args = ['--standalone', f"--template={OUT/'.template.html'}", '--toc', '--toc-depth=3', '--mathml', '--wrap=none']
    page = pypandoc.convert_text(md, 'html5', format='markdown', extra_args=args)
    page = re.sub(r'(href|src)="([^"]+)"', lambda m: f'{m[1]}="{site.link(html.unescape(m[2]), up)}"', page)
    page = re.sub(r'(<table.*?</table>)', r'<div class="wide">\1</div>', page, flags=re.S)
    dest.parent.mkdir(exist_ok=True)
    dest.write_text(page, encoding='utf8')

def turn(pages, i):
    "Links to the chapter before and the chapter after."
    def to(j, text):
        if not 0 <= j < len(pages): return '<span></span>'
        return f'<a href="{pages[j]["page"]}">{text.format(html.escape(pages[j]["text"]))}</a>'
    return '<p class="turn">' + to(i-1, '&larr; {}') + to(i+1, '{} &rarr;') + '</p>'

def ids_of(text): return set(re.findall(r'\bid="([^"]+)"', text))

def mend_methods():
    "nbdev links to `#class.method` even where only the class has a heading: link to the class then."
    ids = {f.name: ids_of(f.read_text(encoding='utf8')) for f in OUT.glob('*.html')}
    def mend(m):
        page, anchor = m[1], m[2]
        known = ids.get(page, {anchor})
        return m[0] if anchor in known or anchor.split('.')[0] not in known else f'"{page}#{anchor.split(".")[0]}"'
    for f in OUT.glob('*.html'):
        f.write_text(re.sub(r'"([\w-]+\.html)#(\w+\.\w+)"', mend, f.read_text(encoding='utf8')), encoding='utf8')

def broken():
    "Links inside the site that lead nowhere."
    pages = {f.relative_to(OUT).as_posix(): f.read_text(encoding='utf8') for f in OUT.rglob('*.html')}
    ids = {name: ids_of(text) for name, text in pages.items()}
    for name, text in pages.items():
        for url in sorted(set(re.findall(r'(?:href|src)="([^"]+)"', text))):
            if re.match(r'\w+:|//', url): continue
            path, _, anchor = html.unescape(url).partition('#')
            at = os.path.normpath(os.path.join(os.path.dirname(name), unquote(path))) if path else name
            if not (OUT/at).exists(): yield f'{name}: {url} does not exist'
            elif anchor and at in ids and unquote(anchor) not in ids[at]: yield f'{name}: {url} has no such place'

def with_pandoc():
    from nbdev.serve import proc_nbs
    os.chdir(ROOT)
    site = Site(proc_nbs('nbs', n_workers=0, force=True))
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    css = [f.read_text(encoding='utf8') for f in (ROOT/'nbs'/'styles.css', CI/'docs.css')]
    (OUT/'styles.css').write_text('\n'.join(css), encoding='utf8')
    if (ROOT/'nbs'/'images').exists(): shutil.copytree(ROOT/'nbs'/'images', OUT/'images')
    for i, p in enumerate(site.pages):
        pandoc(page_md(p), OUT/p['page'], p['title'], p['lead'], site.sidebar(p['page']), turn(site.pages, i), site)
        print(f"  {p['name']} -> {p['page']}")
    for f in sorted((ROOT/'hnet_amharic').glob('[a-z]*.py')):
        md = '```{.python .numberSource .lineAnchors}\n' + f.read_text(encoding='utf8') + '\n```'
        pandoc(md, OUT/'source'/f'{f.stem}.html', f'hnet_amharic/{f.name}', '', site.sidebar('', '../'), '', site, '../')
    (OUT/'.template.html').unlink()
    for name in site.missing: print(f'  {name} is in the sidebar but not there yet: left out')
    mend_methods()
    bad = list(broken())
    for b in bad: print(f'  broken link in {b}')
    print(f'Built with pandoc (no quarto on the PATH): {len(site.pages)} pages, open {OUT.name}/index.html')
    return 1 if bad else 0

def with_quarto():
    # README.md is ours (.ci/readme.py): nbdev_docs leaves it alone when it is newer than the notebook
    subprocess.run([sys.executable, CI/'readme.py'], check=True)
    rc = subprocess.run([Path(sys.executable).parent/'nbdev_docs'], cwd=ROOT).returncode
    if rc == 0: print(f'Built with Quarto: {OUT.name}, open {OUT.name}/index.html')
    return rc

if __name__ == '__main__': sys.exit(with_quarto() if shutil.which('quarto') else with_pandoc())

"""The site in _docs: by Quarto when there is a `quarto` program, else the same processed notebooks through pandoc.

Nothing is ever downloaded: nbdev's own commands, which fetch Quarto when it is missing, are not called.
Afterwards every internal link, anchor and image is checked; a broken one fails the build."""
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
    "The front matter nbdev made from title and quote: title, description, output-file, lang."
    first = nb['cells'][0]
    return yaml.safe_load(joined(first['source']).strip().strip('-')) if first['cell_type'] == 'raw' else {}

def processed():
    "Process the notebooks into _proc; put beside them the pages made from CHANGELOG.md and CONTRIBUTING.md, images and fonts."
    from nbdev.config import get_config
    from nbdev.serve import proc_nbs
    cfg, cache = get_config(), proc_nbs('nbs', n_workers=0, force=True)
    def to_site(m):
        "Links of a file at top level: notebooks are pages, the rest is in the repository."
        if re.match(r'\w+:|#', m[1]): return m[0]
        return f'](' + (m[1][4:] if m[1].startswith('nbs/') else f"{cfg['git_url']}/blob/{cfg['branch']}/{m[1]}") + ')'
    for name in ('CHANGELOG', 'CONTRIBUTING'):
        title, body = (ROOT/f'{name}.md').read_text(encoding='utf8').split('\n', 1)
        body = re.sub(r'\]\(([^)]+)\)', to_site, body)
        (cache/f'{name.lower()}.md').write_text(f'---\ntitle: {title[2:]}\n---\n{body}', encoding='utf8')
    for folder in ('images', 'fonts'): shutil.copytree(ROOT/'nbs'/folder, cache/folder, dirs_exist_ok=True)   # nbdev takes no folders
    return cache

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
            src = (cache/name).read_text(encoding='utf8')
            if name.endswith('.md'): _, fm, md = src.split('---\n', 2); fm, nb = yaml.safe_load(fm), None
            else: nb = json.loads(src); fm, md = front(nb), None
            page = fm.get('output-file') or re.sub(r'^\d+\w*?_|\.\w+$', '', name) + '.html'
            self.pages.append(dict(part=part, name=name, nb=nb, md=md, page=page, title=fm.get('title') or name, lang=fm.get('lang', 'en'),
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
        res, part = [f'<div class="top"><a class="home" href="{up}index.html">{html.escape(self.title)}</a><button id="theme"></button></div>',
                     '<input id="search" type="search" placeholder="Search ( / )" aria-label="Search" autocomplete="off"><ul id="found" aria-live="polite"></ul>',
                     '<details id="pages" open><summary>Pages</summary>', '<ul>'], ''
        for p in self.pages:
            if p['part'] != part: res += ['</ul>', f"<div class=\"part\">{html.escape(p['part'])}</div>", '<ul>']
            part, now = p['part'], ' aria-current="page"' if p['page'] == here else ''
            res.append(f"<li><a href=\"{up}{p['page']}\"{now}>{html.escape(p['text'])}</a></li>")
        return '\n'.join([*res, '</ul></details>'])

def page_md(p):
    "One processed notebook as pandoc markdown; its images go beside the page."
    if p['md'] is not None: return p['md']
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

def pandoc(md, dest, title, lead, sidebar, turn, site, up='', lang='en'):
    import pypandoc
    tpl = (CI/'docs.html').read_text(encoding='utf8')
    for key, val in (('SIDEBAR', sidebar), ('TURN', turn)): tpl = tpl.replace(key, val.replace('$', '$$'))
    (OUT/'.template.html').write_text(tpl, encoding='utf8')
    meta = dict(title=title, lead=lead, up=up, lang=lang, home=site.home, pagetitle=title if title == site.title else f'{title} - {site.title}')
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

def plain(page): return re.sub(r'\s+', ' ', html.unescape(re.sub(r'<[^>]+>', ' ', page))).strip()

def search_index(site):
    "search.js: [address, page, heading, text] of every section; of code only the names it defines."
    res = []
    for p in site.pages:
        body = (OUT/p['page']).read_text(encoding='utf8').split('</h1>', 1)[1].split('</main>', 1)[0]
        head, parts = ('', ''), re.split(r'<h[2-4][^>]*?\bid="([^"]+)"[^>]*>(.*?)</h[2-4]>', body, flags=re.S)
        for i in range(0, len(parts), 3):
            if i: head = parts[i-2:i]
            names = ' '.join(dict.fromkeys(re.findall(r'\b(?:def|class) (\w+)', plain(parts[i]))))
            text = plain(re.sub(r'<pre.*?</pre>|<math.*?</math>|<p class="turn">.*', ' ', parts[i], flags=re.S))[:1500]
            if text or names: res.append([p['page'] + ('#' + head[0] if head[0] else ''), p['title'], plain(head[1]), f'{text} {names}'.strip()])
    (OUT/'search.js').write_text('window.searchIndex = ' + json.dumps(res, ensure_ascii=False, separators=(',', ':')), encoding='utf8')

def mend_methods():
    "nbdev links to `#class.method` even where only the class has a heading: link to the class then."
    ids = {f.name: ids_of(f.read_text(encoding='utf8')) for f in OUT.glob('*.html')}
    def mend(m):
        page, anchor = m[1], m[2]
        known = ids.get(page, {anchor})
        return m[0] if anchor in known or anchor.split('.')[0] not in known else f'"{page}#{anchor.split(".")[0]}"'
    for f in OUT.glob('*.html'):
        f.write_text(re.sub(r'"([\w-]+\.html)#(\w+\.\w+)"', mend, f.read_text(encoding='utf8')), encoding='utf8')

LINK = re.compile(r'<(\w+)\b[^>]*?\b(?:href|src)="([^"]*)"')

def links(text):
    "(tag, address) of everything a page points to or loads; code blocks hold no links but line numbers."
    return sorted(set(LINK.findall(text)))

def broken(out, offline=False):
    "What is wrong in the built site `out`: links that lead nowhere, directives left over, and with `offline` whatever another host would have to send."
    pages = {f.relative_to(out).as_posix(): f.read_text(encoding='utf8') for f in out.rglob('*.html')}
    ids = {name: ids_of(text) for name, text in pages.items()}
    for name, text in pages.items():
        for tag, url in links(text):
            if re.match(r'\w+:|//', url):
                if offline and tag in ('script', 'link', 'img', 'iframe', 'source') and not url.startswith('data:'): yield f'{name}: {tag} {url} is on another host'
                continue
            path, _, anchor = html.unescape(url).partition('#')
            path = path.partition('?')[0]
            at = os.path.normpath(os.path.join(os.path.dirname(name), unquote(path))) if path else name
            if not (out/at).exists(): yield f'{name}: {url} does not exist'
            elif anchor and at in ids and unquote(anchor) not in ids[at]: yield f'{name}: {url} has no such place'
        prose = re.sub(r'<(pre|code|script|style|math)\b.*?</\1>', '', text, flags=re.S)
        for raw in re.findall(r'#\|\s*\w+|:::+\s*\{|\{\{<', prose): yield f'{name}: {raw!r} is left over'

def report():
    "Print what is broken; 1 if anything is."
    bad = list(broken(OUT, offline=not shutil.which('quarto')))
    pages = list(OUT.rglob('*.html'))
    n = sum(len([u for _, u in links(f.read_text(encoding='utf8')) if not re.match(r'\w+:|//', u)]) for f in pages)
    for b in bad: print(f'  broken: {b}')
    print(f'  {n} internal links, anchors and images on {len(pages)} pages checked, {len(bad)} broken')
    return 1 if bad else 0

def with_pandoc():
    os.chdir(ROOT)
    site = Site(processed())
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    css = [f.read_text(encoding='utf8') for f in (ROOT/'nbs'/'styles.css', CI/'docs.css')]
    (OUT/'styles.css').write_text('\n'.join(css), encoding='utf8')
    shutil.copy2(CI/'site.js', OUT)
    for folder in ('images', 'fonts'): shutil.copytree(ROOT/'nbs'/folder, OUT/folder)
    for i, p in enumerate(site.pages):
        pandoc(page_md(p), OUT/p['page'], p['title'], p['lead'], site.sidebar(p['page']), turn(site.pages, i), site, lang=p['lang'])
        print(f"  {p['name']} -> {p['page']}")
    for f in sorted((ROOT/'hnet_amharic').glob('[a-z]*.py')):
        md = '```{.python .numberSource .lineAnchors}\n' + f.read_text(encoding='utf8') + '\n```'
        pandoc(md, OUT/'source'/f'{f.stem}.html', f'hnet_amharic/{f.name}', '', site.sidebar('', '../'), '', site, '../')
    (OUT/'.template.html').unlink()
    for name in site.missing: print(f'  {name} is in the sidebar but not there yet: left out')
    mend_methods()
    search_index(site)
    print(f'Built with pandoc (no quarto on the PATH): {len(site.pages)} pages, open {OUT.name}/index.html')
    return report()

def with_quarto():
    "What nbdev_docs does, less its rewriting of README.md, which is ours."
    from nbdev.quarto import refresh_quarto_yml
    os.chdir(ROOT)
    refresh_quarto_yml()
    cache = processed()
    rc = subprocess.run(['quarto', 'render', '--no-cache'], cwd=cache).returncode
    if rc: return rc
    shutil.rmtree(OUT, ignore_errors=True)
    shutil.move(cache/OUT.name, OUT)
    print(f'Built with Quarto: {OUT.name}, open {OUT.name}/index.html')
    return report()

if __name__ == '__main__': sys.exit(with_quarto() if shutil.which('quarto') else with_pandoc())

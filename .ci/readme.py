"""README.md from nbs/index.ipynb, no Quarto needed. Images that cells draw land in nbs/images/readme-N.*

`cells_md` is also what .ci/docs.py uses: notebook cells -> markdown, honouring the directives nbdev and Quarto know."""
import base64, json, re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTE = '<!-- Made from nbs/index.ipynb by `make prepare`: edit the notebook, not this file. -->'
HIDDEN = {'hide', 'default_exp', 'export', 'exporti'}
IMAGES = {'image/svg+xml': 'svg', 'image/png': 'png', 'image/jpeg': 'jpg'}
ANSI = re.compile(r'\x1B(?:[@-Z\\-_]|\[[0-?]*[ -/]*[@-~])')

def joined(o): return o if isinstance(o, str) else ''.join(o)

def directives(cell):
    "The cell's directives as a dict, and its source without them."
    d, code = {}, []
    for line in joined(cell['source']).splitlines():
        m = re.match(r'\s*#\s*\|\s*([\w-]+)\s*:?\s*(.*)', line)
        if m and not code: d[m[1]] = m[2].strip().strip('"')
        elif not re.search(r'#\|\s*hide_line\s*$', line): code.append(line)
    return d, '\n'.join(code).strip('\n')

def fence(text, lang=''):
    "A fenced block, with a fence longer than any inside the text."
    n = max([2, *map(len, re.findall(r'^`{3,}', text, flags=re.M))]) + 1
    return f"{'`'*n}{lang}\n{text}\n{'`'*n}"

def output_md(out, save, html=False, asis=False):
    "Markdown of one output; `save(bytes, extension)` keeps an image and returns the link to it."
    if out['output_type'] == 'stream':
        if out['name'] == 'stderr': return ''
        text = ANSI.sub('', joined(out['text'])).rstrip()
        return '' if not text else text if asis else fence(text)
    data = out.get('data', {})
    for mime, ext in IMAGES.items():
        if mime in data:
            raw = joined(data[mime])
            return f"![]({save(raw.encode() if ext == 'svg' else base64.b64decode(raw), ext)})"
    if 'text/markdown' in data: return joined(data['text/markdown'])
    if html and 'text/html' in data: return '```{=html}\n' + joined(data['text/html']) + '\n```'
    text = ANSI.sub('', joined(data.get('text/plain', ''))).rstrip()
    return fence(text) if text else ''

def cells_md(nb, save, html=False, hidden=HIDDEN):
    "Yield (source markdown, [output markdown, ...], directives) for each cell a reader should see."
    for cell in nb['cells']:
        if cell['cell_type'] == 'markdown': yield joined(cell['source']), [], {}
        if cell['cell_type'] != 'code': continue
        d, code = directives(cell)
        if d.keys() & hidden or d.get('include') == 'false': continue
        show = code and d.get('echo') != 'false'
        outs = [] if d.get('output') == 'false' else cell.get('outputs', [])
        outs = [output_md(o, save, html, d.get('output') == 'asis') for o in outs if o['output_type'] != 'error']
        yield fence(code, 'python') if show else '', [o for o in outs if o], d

def relink(md):
    "Links that work inside nbs/ made to work one folder up; code blocks are left alone."
    parts = re.split(r'(^```.*?^```$)', md, flags=re.M|re.S)
    parts[::2] = [re.sub(r'(\]\(|\bsrc="|\bhref=")(?!\w+:|#|/)', r'\1nbs/', t) for t in parts[::2]]
    return ''.join(parts)

def readme(root=ROOT):
    "README text and {path: bytes} of the images its cells drew."
    images = {}
    def save(raw, ext):
        path = f'nbs/images/readme-{len(images)+1}.{ext}'
        images[path] = raw
        return path
    nb = json.loads((root/'nbs'/'index.ipynb').read_text(encoding='utf8'))
    parts = []
    for i, (src, outs, _) in enumerate(cells_md(nb, save)):
        src = '\n'.join(l for l in src.splitlines() if not l.startswith(':::')).strip()
        parts += [t if t.startswith(('```', '![](nbs/')) else relink(t) for t in (src, *outs)]
        if i == 0: parts.append(NOTE)
    return '\n\n'.join(p for p in parts if p) + '\n', images

if __name__ == '__main__':
    text, images = readme()
    for old in (ROOT/'nbs'/'images').glob('readme-*'): old.unlink()
    for path, raw in images.items():
        (ROOT/path).parent.mkdir(exist_ok=True)
        (ROOT/path).write_bytes(raw)
    (ROOT/'README.md').write_text(text, encoding='utf8')

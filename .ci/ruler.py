"""One ruler over the modules: how long they are, how many lines hold more than one thought, what a page shows.

Prints a table. `--of FOLDER` measures another checkout, such as an earlier one, with the same ruler."""
import argparse
import ast
import json
import re
from collections import Counter
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent

def code_lines(text:str) -> int:
    "Lines that are not blank."
    return sum(bool(line.strip()) for line in text.split('\n'))

def statements(text:str) -> list:
    "Every statement of a module."
    return [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.stmt)]

def is_docstring(node) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)

def bare_lines(text:str) -> int:
    "Lines without docstrings, comments and blanks."
    tree = ast.parse(text)
    notes = {i for node in ast.walk(tree) if is_docstring(node) for i in range(node.lineno, node.end_lineno+1)}
    lines = enumerate(text.split('\n'), 1)
    return sum(bool(line.strip()) and not line.lstrip().startswith('#') and i not in notes for i,line in lines)

def shared_lines(text:str) -> list:
    "Numbers of the lines on which several statements begin, `if x: return y` included."
    starts = Counter(node.lineno for node in statements(text) if not is_docstring(node))
    return sorted(line for line,n in starts.items() if n>1)

def semicolons(text:str) -> list:
    "Numbers of the lines on which a statement follows another one of the same block."
    blocks = [getattr(node, field, []) for node in ast.walk(ast.parse(text)) for field in ('body', 'orelse', 'finalbody')]
    pairs = [pair for block in blocks if isinstance(block, list) for pair in zip(block, block[1:])]
    return sorted({b.lineno for a,b in pairs if a.end_lineno==b.lineno})

def tuple_assignments(text:str) -> int:
    "Assignments of several values to several names on one line."
    assigned = [node for node in statements(text) if isinstance(node, ast.Assign)]
    return sum(isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple) for node in assigned)

def one_letter_share(text:str) -> float:
    "Share of names that are a single letter, wherever a name is given."
    tree = ast.parse(text)
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    names += [node.arg for node in ast.walk(tree) if isinstance(node, ast.arg) and node.arg!='self']
    return sum(len(name)==1 for name in names)/max(len(names), 1)

def export_cells(notebook:Path) -> list:
    "(is its source shown, source) of each cell that goes into the module."
    cells = json.loads(notebook.read_text(encoding='utf8'))['cells']
    found = []
    for cell in cells:
        source = ''.join(cell['source'])
        mark = re.match(r'#\|\s*(exports?)\s*$', source.split('\n')[0])
        if cell['cell_type']=='code' and mark:
            found.append((mark[1]=='exports', source.split('\n', 1)[-1]))
    return found

def only_imports(source:str) -> bool:
    return all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.parse(source).body)

def public_names(text:str) -> int:
    "How many names `__all__` holds."
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', '')=='__all__':
            return len(ast.literal_eval(node.value))
    return 0

def measure(root:Path=ROOT) -> dict:
    "{what: figure} of a checkout."
    files = [f for f in sorted((root/'hnet_amharic').glob('*.py')) if not f.name.startswith('_')]
    texts = [f.read_text(encoding='utf8') for f in files]
    lines = [code_lines(text) for text in texts]
    cells = [c for nb in sorted((root/'nbs').glob('[0-9]*.ipynb')) for c in export_cells(nb)]
    cells = [(shown, source) for shown,source in cells if not only_imports(source)]
    sizes = [code_lines(source) for _,source in cells] or [0]
    per_thousand = 1000/max(sum(lines), 1)
    return {
        'modules': len(files),
        'lines': sum(lines),
        'lines without docstrings and comments': sum(map(bare_lines, texts)),
        'statements': sum(sum(not is_docstring(node) for node in statements(text)) for text in texts),
        'lines that hold several statements, of 1,000': round(sum(len(shared_lines(t)) for t in texts)*per_thousand, 1),
        'of these, joined by a semicolon, of 1,000': round(sum(len(semicolons(t)) for t in texts)*per_thousand, 1),
        'tuple assignments, of 1,000': round(sum(map(tuple_assignments, texts))*per_thousand, 1),
        'names of one letter': round(median(map(one_letter_share, texts)), 2),
        'module, median lines': median(lines),
        'module, most lines': max(lines),
        'public names of a module, median': median(map(public_names, texts)),
        'export cell, median lines': median(sizes),
        'export cell, most lines': max(sizes),
        'export cells whose source is shown': f'{sum(shown for shown,_ in cells)} of {len(cells)}'}

def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--of', type=Path, default=ROOT, help='a checkout to measure')
    for what,figure in measure(parser.parse_args().of).items():
        print(f'{what:46}{figure:>12,}' if not isinstance(figure, str) else f'{what:46}{figure:>12}')

if __name__=='__main__':
    main()

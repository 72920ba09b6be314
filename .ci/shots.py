"""Screenshots of three pages of the built site at two widths, by headless Chromium, into _docs/screenshots: look at them.

Also remakes nbs/images/social.png from social.svg with `--card`. Without Chromium it says so and does nothing."""
import shutil, subprocess, sys, tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES, WIDTHS = ('index', 'tour', 'am'), (1280, 500)
NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')
FLAGS = ('--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update '
         '--disable-sync --hide-scrollbars --virtual-time-budget=4000').split()

def shoot(chrome, page, png, width, height):
    "One screenshot; raises where none was made."
    with tempfile.TemporaryDirectory() as profile:
        cmd = [chrome, *FLAGS, f'--user-data-dir={profile}', f'--window-size={width},{height}', f'--screenshot={png}', page.as_uri()]
        p = subprocess.run(cmd, capture_output=True, text=True, timeout=120)
    if not png.exists() or png.stat().st_size < 5000: sys.exit(f'shots: no picture of {page.name}: {p.stderr[-500:]}')

def main():
    chrome = next((c for c in map(shutil.which, NAMES) if c), None)
    if not chrome: return print('Screenshots skipped: no Chromium on the PATH')
    if '--card' in sys.argv: return shoot(chrome, ROOT/'nbs'/'images'/'social.svg', ROOT/'nbs'/'images'/'social.png', 1200, 630)
    out = ROOT/'_docs'/'screenshots'
    out.mkdir(exist_ok=True)
    for page in PAGES:
        for width in WIDTHS: shoot(chrome, ROOT/'_docs'/f'{page}.html', out/f'{page}-{width}.png', width, 2400)
    print(f'{len(PAGES)*len(WIDTHS)} screenshots in _docs/screenshots: look at them')

if __name__ == '__main__': main()

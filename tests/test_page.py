"The page of the server in a real browser: it types, streams, stops, colours, suggests, spells and warns; by mouse and by keyboard."
import re, shutil
import pytest
sync = pytest.importorskip('playwright.sync_api', reason="needs pip install 'hnet_amharic[dev]'")
pytest.importorskip('uvicorn', reason="needs pip install 'hnet_amharic[serve]'")
from hnet_amharic.model import load_default
from hnet_amharic.serve import Server
from hnet_amharic.views import show_chunks
from hnet_amharic.suggest import suggest
from hnet_amharic.api import PAGE, background

CHROME = next((c for c in map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')) if c), None)
FLAGS = ('--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking '
         '--disable-component-update --disable-sync').split()
pytestmark = pytest.mark.skipif(not CHROME, reason='no Chromium on the PATH')
TEXT = 'የኢትዮጵያ መንግስት ባለፈው ሳምነት አዲስ ህግ አወጣ። ስልኬ 0911234567 ነው። ተማሪዎች ወደ ትምህርት '
WAIT = 60_000

@pytest.fixture(scope='module')
def server(): return Server(load_default('cpu'), 'nano')

@pytest.fixture(scope='module')
def address(server):
    with background(server) as address: yield address

@pytest.fixture(scope='module')
def browser():
    with sync.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROME, args=FLAGS)
        yield browser
        browser.close()

@pytest.fixture
def visit(browser, address):
    "Open the page; afterwards it must have asked nobody else for anything, and have had no errors."
    pages, asked, errors = [], [], []
    def visit(lang='en', theme='light', width=1280):
        page = browser.new_page(viewport=dict(width=width, height=900))
        page.on('request', lambda r: asked.append(r.url))
        page.on('pageerror', lambda e: errors.append(str(e)))
        page.on('console', lambda m: errors.append(m.text) if m.type == 'error' else None)
        page.goto(f'{address}/?lang={lang}&theme={theme}')
        page.wait_for_selector('#model:has-text("nano")')
        pages.append(page)
        return page
    yield visit
    assert not errors and all(u.startswith((address, 'data:')) for u in asked), (errors, asked)
    for page in pages: page.close()

def slide(page, name, value): page.locator(name).fill(str(value))
def written(page): return page.input_value('#text')
def idle(page): page.wait_for_selector('#go:not([disabled])', timeout=WAIT)

def test_it_writes_and_takes_back(visit):
    page = visit()
    page.fill('#text', 'ሰላም ለዓለም')
    slide(page, '#length', 30)
    page.click('#go')
    page.wait_for_selector('#ink .new', timeout=WAIT)         # in colour while it is written
    assert page.locator('#text').get_attribute('readonly') is not None
    idle(page)
    assert written(page).startswith('ሰላም ለዓለም') and 0 < len(written(page))-len('ሰላም ለዓለም') <= 30
    assert page.inner_text('#status') == 'Done.' and page.inner_text('#ink').strip('\u200b') == written(page)
    page.click('#undo')
    assert written(page) == 'ሰላም ለዓለም'

def test_it_streams_and_stops_by_keyboard(visit, server):
    page = visit()
    page.focus('#text')
    page.keyboard.type('ሰላም ')
    slide(page, '#length', 600)
    page.focus('#text')
    page.keyboard.press('Control+Enter')
    page.wait_for_selector('#stop:not([disabled])')
    page.wait_for_selector('#ink .new', timeout=WAIT)
    sizes = []
    while len(sizes) < 400 and len(set(sizes)) <= 3:            # it grows while it is written
        sizes.append(len(written(page)))
        page.wait_for_timeout(50)
    page.keyboard.press('Escape')
    idle(page)
    text = written(page)
    assert page.inner_text('#status') == 'Stopped.' and len(set(sizes)) > 3 and 4 < len(text) < 600
    for _ in range(100):
        if not server.engine.jobs: break
        page.wait_for_timeout(50)
    assert not server.engine.jobs and server.engine.counts['done_cancelled']
    assert written(page) == text

def test_it_suggests(visit, server):
    page = visit()
    page.fill('#text', 'የኢትዮጵያ ጠቅላይ ')
    page.wait_for_selector('#chips button', timeout=WAIT)
    words = [s.word for s in suggest(server.model, 'የኢትዮጵያ ጠቅላይ ')]
    assert page.locator('#chips button span').all_inner_texts() == words
    page.keyboard.press('Alt+2')
    assert written(page) == f'የኢትዮጵያ ጠቅላይ {words[1]} '
    page.wait_for_selector('#chips button', timeout=WAIT)
    page.locator('#chips button').first.click()
    assert len(written(page).split()) == 4

def test_it_colours(visit, server):
    page = visit()
    page.fill('#text', 'አዲስ አበባ የኢትዮጵያ ዋና ከተማ ናት።')
    page.check('input[value=surprise]', force=True)
    page.wait_for_selector('#ink span[style*="rgba"]', timeout=WAIT)
    assert 'bits per character' in page.inner_text('#legend')
    page.check('input[value=chunks]', force=True)
    page.wait_for_selector('#ink .c1', timeout=WAIT)
    chunks = show_chunks(server.model, written(page)).texts
    assert page.locator('#ink span').all_inner_texts() == chunks and f'{len(chunks)} chunks' in page.inner_text('#legend')
    page.focus('#text')
    page.keyboard.press('Control+End')
    page.keyboard.type('ሀ')                                   # what stands before keeps its colour at once
    assert page.locator('#ink .c1').count()
    page.check('input[value=none]', force=True)
    assert not page.locator('#ink .c1').count() and page.inner_text('#legend') == ''

def test_it_spells_and_warns(visit):
    page = visit()
    page.fill('#text', TEXT)
    page.wait_for_selector('#findings li', timeout=WAIT)
    assert '0911234567' in page.inner_text('#findings') and 'personal data' in page.inner_text('#findings')
    assert page.inner_text('#ink .found') == '0911234567'
    page.click('#language')
    assert 'የግል መረጃ' in page.inner_text('#findings') and page.locator('html').get_attribute('lang') == 'am'
    page.click('#spell')
    page.wait_for_selector('#slips li', timeout=WAIT)
    assert 'ሳምንት' in page.inner_text('#slips') and page.inner_text('#ink .slip') == 'ሳምነት'
    page.locator('#slips button').first.click()
    assert written(page) == TEXT.replace('ሳምነት', 'ሳምንት') and not page.locator('#ink .slip').count()

def test_everything_can_be_reached_by_keyboard(visit):
    page = visit()
    page.fill('#text', 'ሰላም ')
    page.wait_for_selector('#chips button', timeout=WAIT)
    page.focus('body')
    page.locator('#language').focus()
    seen = []
    for _ in range(20):
        seen.append(page.evaluate('document.activeElement.id || document.activeElement.value || document.activeElement.parentElement.id'))
        page.keyboard.press('Tab')
    assert [s for s in seen if s in ('language', 'theme', 'text', 'chips', 'go', 'temperature', 'length', 'none', 'spell')][:4] == ['language', 'theme', 'text', 'chips']
    assert {'go', 'temperature', 'length', 'none', 'spell'} <= set(seen), seen
    page.locator('input[value=none]').focus()
    page.keyboard.press('ArrowRight')
    assert page.is_checked('input[value=surprise]')

def test_it_says_what_is_wrong(browser, server):
    "An error of the server is shown; a key is asked for and used."
    with background(Server(server.model, 'locked', key='secret')) as address:
        page = browser.new_page()
        page.goto(address+'/?lang=en')
        page.fill('#text', 'ሰላም ')
        page.wait_for_selector('#lock:not([hidden])')
        assert 'key is needed' in page.inner_text('#status')
        page.fill('#key', 'secret')
        page.keyboard.press('Enter')
        page.wait_for_selector('#chips button', timeout=WAIT)
    page.fill('#text', 'ሰላም ነው')
    page.wait_for_selector('#status.bad', timeout=WAIT)       # the server is gone
    assert 'does not answer' in page.inner_text('#status')
    page.close()

@pytest.mark.parametrize('lang', ['en', 'am'])
@pytest.mark.parametrize('theme', ['light', 'dark'])
@pytest.mark.parametrize('width', [390, 1280])
def test_it_fits(visit, lang, theme, width, tmp_path):
    "Nothing sticks out, nothing is unnamed or untranslated, text can be read; the pictures are kept in the folder of the test."
    page = visit(lang, theme, width)
    page.fill('#text', TEXT)
    page.wait_for_selector('#findings li', timeout=WAIT)
    page.screenshot(path=str(tmp_path/f'{lang}-{theme}-{width}.png'), full_page=True)
    assert page.evaluate('document.documentElement.scrollWidth') <= width
    boxes = [page.locator(s).bounding_box() for s in ('#ink', '#text')]
    assert boxes[0] == boxes[1], 'the colours do not lie behind the text'
    assert page.evaluate("document.fonts.check('16px \"Page Ethiopic\"', 'ሀ')")
    small = [b.bounding_box()['height'] for b in page.locator('button:visible').all()]
    assert min(small) >= 36
    def luminance(name):
        rgb = [int(v)/255 for v in re.findall(r'\d+', page.evaluate(f'getComputedStyle(document.querySelector("#status")).{name}' if name == 'color' else 'getComputedStyle(document.body).backgroundColor'))[:3]]
        return sum(w*(v/12.92 if v <= .04045 else ((v+.055)/1.055)**2.4) for w, v in zip((.2126, .7152, .0722), rgb))
    light, dark = sorted((luminance('color'), luminance('back')), reverse=True)
    assert (light+.05)/(dark+.05) >= 4.5

def test_both_languages_say_everything():
    html = (PAGE/'index.html').read_text(encoding='utf8')
    en, am = (set(re.findall(r"[{,]\s*(\w+):", block)) for block in re.search(r'en: (\{.*?\}),\n  am: (\{.*?\})\};', html, re.S).groups())
    assert en == am and set(re.findall(r'data-say="(\w+)"', html)) <= en and len(en) > 30

"""The server's page in Chromium: what a user does there."""

import base64
import contextlib
import shutil

import pytest
import served_model

sync_api = pytest.importorskip('playwright.sync_api', reason='no playwright')
NAMES = ('chromium', 'chromium-browser', 'google-chrome')
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
MARKS = [
  pytest.mark.slow,
  pytest.mark.skipif(
    CHROMIUM is None, reason='no Chromium: apt-get install chromium'
  ),
]

# Files that are dropped in the middle of an element.
DROP = """([files, selector]) => {
  const data = new DataTransfer();
  for (const [name, kind, bytes] of files) {
    const content = Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0));
    data.items.add(new File([content], name, {type: kind}));
  }
  const element = document.querySelector(selector);
  const box = element.getBoundingClientRect();
  element.dispatchEvent(new DragEvent('drop', {
    dataTransfer: data, bubbles: true, cancelable: true,
    clientX: box.right - 4, clientY: box.bottom - 4,
  }));
}"""
# The page's own modules, in the state in which they are.
PROMPT = """async () => {
  const {state} = await import('/page/store.js');
  const {assemble} = await import('/page/assemble.js');
  return assemble(state.cards, state.settings.style, state.settings.format);
}"""
RECORD = """async () => {
  const {state} = await import('/page/store.js');
  const {micRecord} = await import('/page/code.js');
  return micRecord(state.cards, state.settings);
}"""
# How much of the attention's colour a canvas has at a place, from 0 to 1.
COLOUR = """(canvas, [x, y]) => {
  const {data} = canvas.getContext('2d').getImageData(
    canvas.width * x, canvas.height * y, 1, 1);
  return (data[0] - data[2]) / 255;
}"""


@contextlib.contextmanager
def chromium():
  sync_api.expect.set_options(timeout=60_000)
  with sync_api.sync_playwright() as playwright:
    found = playwright.chromium.launch(
      executable_path=CHROMIUM, args=['--no-sandbox']
    )
    yield found
    found.close()


@contextlib.contextmanager
def opened(browser, served, width=1280, scheme='light', path=''):
  """The page in a context of its own; fails if it complains or asks others."""
  address = f'http://127.0.0.1:{served.port}/'
  context = browser.new_context(
    viewport={'width': width, 'height': 844},
    color_scheme=scheme,
    permissions=['clipboard-read', 'clipboard-write'],
  )
  context.set_default_timeout(60_000)
  page = context.new_page()
  page.faults = []
  page.on('pageerror', lambda error: page.faults.append(str(error)))
  page.on(
    'console',
    lambda said: (
      page.faults.append(said.text) if said.type in ('error', 'warning') else 0
    ),
  )
  asked = []
  page.on('request', lambda request: asked.append(request.url))
  page.goto(address + path)
  sync_api.expect(page.locator('.top .model')).to_be_visible()
  yield page
  context.close()
  assert not page.faults
  local = (address, 'data:', f'blob:{address}')
  assert all(url.startswith(local) for url in asked), asked


def picture(seed, name):
  data = base64.b64encode(served_model.picture(seed, 24)).decode()
  return [name, 'image/png', data]


def drop(page, files, selector='body'):
  before = page.locator('.chip').count()
  page.evaluate(DROP, [files, selector])
  count = before + sum(kind == 'image/png' for _, kind, _ in files)
  sync_api.expect(page.locator('.chip')).to_have_count(count)


def text_of(page, name):
  return page.get_by_role('textbox', name=f'Text of {name}')


def write(page, name, text):
  text_of(page, name).focus()
  page.keyboard.press('Control+End')
  page.keyboard.type(text)


def answer(page, name, text):
  page.get_by_role('textbox', name=f'Answer of {name}').click()
  page.keyboard.type(text)


def prompt(page):
  return page.evaluate(PROMPT)['prompt']


def copied(page, kind):
  page.get_by_role('button', name='Code').click()
  page.locator('dialog label', has_text=kind).click()
  page.locator('dialog').get_by_role('button', name='Copy').click()
  return page.evaluate('navigator.clipboard.readText()')


def paste(page, text):
  page.get_by_role('button', name='Open').click()
  page.locator('#pasted').fill(text)
  page.locator('dialog').get_by_role('button', name='Open', exact=True).click()
  sync_api.expect(page.locator('dialog')).to_have_count(0)


def two_shots(page):
  """Two demonstrations and a query, each with a picture; 8 tokens at most."""
  drop(page, [picture(0, 'asked.png')])
  write(page, 'Query', 'it?')
  for i, said in enumerate(('a dog', 'a cat'), 1):
    page.get_by_role('button', name='Add a demonstration').click()
    page.keyboard.type('it?')
    answer(page, f'Demonstration {i}', said)
    drop(
      page, [picture(i, f'{i}.png')], f'.card:nth-of-type({i}) .answer .editor'
    )
  page.locator('.settings-box summary').click()
  page.locator('.runbar').get_by_label('Most tokens').fill('8')
  page.keyboard.press('Escape')
  return page


def run(page):
  """Runs with Ctrl+Enter; the answer as shown."""
  page.keyboard.press('Control+Enter')
  ended = page.locator('#pane-answer .actions, #pane-answer .error')
  ended.wait_for()
  assert page.locator('#pane-answer .error').all_inner_texts() == []
  return page.locator('#pane-answer .said').inner_text()

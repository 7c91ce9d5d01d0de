"""The page in Chromium, over the server with a tiny model."""

import base64
import contextlib
import io
import json
import os
import time

import pytest
import served_model

import mmicl_jax
from mmicl_jax.context.turns import Turn, assemble

sync_api = pytest.importorskip('playwright.sync_api', reason='no playwright')
CHROMIUM = '/usr/bin/chromium'
pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(
    not os.path.exists(CHROMIUM), reason='no Chromium: apt-get install chromium'
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


@pytest.fixture(scope='module')
def browser():
  sync_api.expect.set_options(timeout=60_000)
  with sync_api.sync_playwright() as playwright:
    found = playwright.chromium.launch(
      executable_path=CHROMIUM, args=['--no-sandbox']
    )
    yield found
    found.close()


@pytest.fixture(scope='module')
def ready(served):
  """The server once it answers; before, the page says that it warms up."""
  while served.ask('GET', '/health')[0] != 200:
    time.sleep(0.1)
  return served


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


@pytest.fixture
def page(browser, ready):
  with opened(browser, ready) as found:
    yield found


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


def test_dropped_files_are_asked_about_and_copied_python_says_the_same(
  page, served, monkeypatch
):
  two_shots(page)
  for i in range(3):
    sync_api.expect(page.locator('.chip .number').nth(i)).to_have_text(str(i))
  page.get_by_role('button', name='Move Demonstration 2 up').press('Enter')
  focused = 'document.activeElement.getAttribute("aria-label")'
  assert page.evaluate(focused) == 'Move Demonstration 1 up'
  said = run(page)
  monkeypatch.setattr(mmicl_jax, 'load', lambda root: served.predictor)
  out = io.StringIO()
  with contextlib.redirect_stdout(out):
    exec(copied(page, 'Python'), {})
  assert out.getvalue().rstrip('\n') == said
  declared = 'image {0} is {image}.\nit?'
  turns = [
    Turn(declared, [served_model.picture(i, 24)], text)
    for i, text in ((2, 'a cat'), (1, 'a dog'), (0, ''))
  ]
  example = assemble(turns[-1], turns[:-1])
  assert prompt(page) == example.inputs
  [expected] = served.predictor.generate(example, max_new_tokens=8)
  assert said == expected.text
  namespace: dict = {}
  with contextlib.redirect_stdout(out := io.StringIO()):
    exec(copied(page, 'openai client'), namespace)
  assert out.getvalue().rstrip('\n') == said


def test_what_a_prompt_lacks_is_said_before_anything_is_asked(page):
  write(page, 'Query', 'what is it?')
  page.get_by_role('button', name='Add a demonstration').click()
  page.keyboard.type('what?')
  note = page.locator('.prompt-note')
  sync_api.expect(note).to_have_text('Demonstration 1 needs an answer.')
  page.keyboard.press('Control+Enter')
  alert = page.locator('#pane-answer [role=alert]')
  sync_api.expect(alert).to_have_text('Demonstration 1 needs an answer.')
  answer(page, 'Demonstration 1', 'a cat')
  sync_api.expect(note).to_be_empty()


def test_a_session_is_saved_and_opened_again(page, tmp_path):
  two_shots(page)
  write(page, 'Query', ' or is image 2 a cat? ')
  page.get_by_role('button', name='Mute Demonstration 1').click()
  before = prompt(page)
  assert before.endswith('or is image 1 a cat? ')
  with page.expect_download() as download:
    page.get_by_role('button', name='Save').click()
  download.value.save_as(tmp_path / 'session.json')
  page.get_by_role('button', name='Clear all').click()
  assert prompt(page) == ''
  data = base64.b64encode((tmp_path / 'session.json').read_bytes()).decode()
  page.evaluate(DROP, [[['session.json', 'application/json', data]], 'body'])
  sync_api.expect(page.locator('.chip img')).to_have_count(3)
  assert prompt(page) == before
  sync_api.expect(page.locator('.mention')).to_have_text('1')
  page.get_by_role('button', name='Unmute Demonstration 1').click()
  assert prompt(page).endswith('or is image 2 a cat? ')


def test_a_link_holds_texts_and_asks_for_the_files(browser, served, page):
  two_shots(page)
  before = prompt(page)
  page.get_by_role('button', name='Link').click()
  page.locator('.notice', has_text='The link was copied').wait_for()
  link = page.evaluate('navigator.clipboard.readText()')
  with opened(browser, served, path=link.split('/')[-1]) as other:
    missing = other.locator('.chip.missing')
    sync_api.expect(missing).to_have_count(3)
    assert prompt(other) == before
    other.keyboard.press('Control+Enter')
    alert = other.locator('#pane-answer [role=alert]')
    sync_api.expect(alert).to_contain_text('3 images of the prompt are missing')
    other.evaluate(DROP, [[picture(1, '1.png')], 'body'])
    sync_api.expect(missing).to_have_count(2)


# Their images are letters, which seed pictures.
EXAMPLES = (
  assemble(
    Turn('{image} or {image}: which is {{0}}?', ['a', 'b'], 'image {1}')
  ),
  assemble(
    Turn('what is it?', 'a', 'b'),
    [Turn('what is it?', 'c', 'image {0} is d'), Turn('what is it?', (), 'e')],
  ),
  assemble(
    Turn('is image {0} {image}\nred?', 'a', 'no'),
    [Turn('what is\nit?', ['b', 'c'], 'x')],
    style='chat',
  ),
  assemble(Turn('it\'s "{image}" \\ tab\t\u2028.', 'a', 'y')),
)


@pytest.mark.parametrize('example', EXAMPLES)
def test_a_record_is_opened_and_copied_as_it_was(page, example):
  """Thus assemble.js writes prompts as context/turns.py does."""
  images = [
    base64.b64encode(served_model.picture(ord(name), 24)).decode()
    for name in example.images
  ]
  record = {
    'input_text': example.inputs,
    'input_image': images,
    'output_text': example.targets,
  }
  paste(page, json.dumps(record, ensure_ascii=False))
  sync_api.expect(page.locator('.chip')).to_have_count(len(images))
  assert json.loads(page.evaluate(RECORD)) == record
  assert page.locator('.card').count() == len(example.turns)
  code = copied(page, 'Python')
  page.get_by_role('button', name='Clear all').click()
  paste(page, code)
  sync_api.expect(page.locator('.chip')).to_have_count(len(images))
  assert json.loads(page.evaluate(RECORD)) == record


def test_what_the_demonstrations_did(page):
  two_shots(page)
  page.get_by_role('button', name='Use the demonstrations').click()
  page.get_by_role('tab', name='Candidates').click()
  bars = page.locator('#pane-candidates .bar-value')
  sync_api.expect(bars).to_have_count(2)
  shares = [float(text.strip(' %')) for text in bars.all_inner_texts()]
  assert sum(shares) == pytest.approx(100, abs=0.11)
  assert shares == sorted(shares, reverse=True)
  page.get_by_role('tab', name='Shots').click()
  page.locator('#pane-shots').get_by_role('button').first.click()
  sync_api.expect(page.locator('#pane-shots .curve')).to_have_count(2)
  page.get_by_text('As a table').click()
  rows = page.locator('#pane-shots tbody tr')
  sync_api.expect(rows).to_have_count(3)  # none, one and two demonstrations
  page.get_by_role('tab', name='What mattered').click()
  page.locator('#pane-mattered').get_by_role('button').first.click()
  left_out = page.locator('#pane-mattered .bar-value')
  sync_api.expect(left_out).to_have_count(3)
  # The last demonstration alone is what is left without the first one.
  strong = page.locator('#pane-shots .curve.strong title').all_text_contents()
  percents = [text.rpartition(': ')[2] for text in strong]
  found = left_out.all_inner_texts()
  assert (found[0], found[1]) == (percents[2], percents[1])


def test_what_does_not_fit_is_red_and_what_is_wrong_says_where(page):
  two_shots(page)
  write(page, 'Demonstration 1', ' what is it?' * 9)
  sync_api.expect(page.locator('.card.dropped')).to_have_count(1)
  sync_api.expect(page.locator('.prompt-text del')).to_contain_text('a dog')
  page.get_by_role('button', name='Leave out the oldest').click()
  assert run(page) is not None
  figures = page.locator('#pane-answer .figures')
  sync_api.expect(figures).to_contain_text('1 demonstration left out')
  write(page, 'Demonstration 2', ' <image7>')
  problem = page.locator('.card:nth-of-type(2) .problem')
  sync_api.expect(problem).to_contain_text('reserved')
  # The browser itself names answers of 400 in its console.
  assert all('status of 400' in fault for fault in page.faults)
  page.faults.clear()


def test_twenty_images_stay_usable(page):
  drop(page, [picture(i, f'{i}.png') for i in range(20)])
  write(page, 'Query', 'which is image 19?')
  page.locator('#candidates').focus()  # what was typed becomes a mention
  sync_api.expect(page.locator('.mention')).to_have_text('19')
  page.locator('.chip').last.press('Alt+ArrowLeft')
  sync_api.expect(page.locator('.mention')).to_have_text('18')
  page.locator('.chip').first.press('Delete')
  sync_api.expect(page.locator('.mention')).to_have_text('17')
  sync_api.expect(page.locator('.prompt-note .bad')).to_be_visible()
  page.faults.clear()  # twenty images are too long a prompt for this model


def test_strangers_texts_are_never_markup(page, served):
  headers = served.ask('GET', '/')[1]
  assert 'unsafe' not in headers['content-security-policy']
  evil = '<img src=x onerror="window.evil=1"><script>window.evil=1</script>'
  record = {
    'input_text': f'{evil} 图',
    'input_image': [evil],
    'output_text': evil,
  }
  paste(page, json.dumps(record))
  page.locator('#candidates').fill(f'{evil}\nno')
  sync_api.expect(page.locator('.chip.missing')).to_have_count(1)
  assert evil in page.locator('.prompt-text').inner_text()
  page.evaluate("""() => {
    const script = document.createElement('script');
    script.textContent = 'window.evil = 1';
    document.body.append(script);
  }""")
  assert page.evaluate('window.evil') is None
  [blocked] = page.faults
  assert 'Content Security Policy' in blocked
  page.faults.clear()


@pytest.mark.parametrize('width, scheme', [(1280, 'dark'), (390, 'light')])
def test_nothing_is_hidden_from_a_screen_reader_or_cut(
  browser, ready, width, scheme
):
  axe = pytest.importorskip(
    'axe_playwright_python.sync_playwright', reason='no axe-playwright-python'
  ).Axe()

  def check(page, where):
    found = axe.run(page).response['violations']
    assert not found, (where, [(v['id'], v['nodes'][0]['html']) for v in found])
    wide = 'document.documentElement.scrollWidth'
    assert page.evaluate(wide) <= width, where

  with opened(browser, ready, width, scheme) as page:
    check(page, 'empty')
    two_shots(page)
    page.get_by_role('button', name='Use the demonstrations').click()
    run(page)
    for tab in page.get_by_role('tab').all():
      tab.click()
      check(page, tab.inner_text())
    page.locator('.chip').first.press('Enter')
    check(page, 'menu')
    page.keyboard.press('Escape')
    page.get_by_role('button', name='Examples').click()
    check(page, 'examples')

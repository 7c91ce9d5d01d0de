"""The page in Chromium: prompts are made, run, kept and copied."""

import base64
import contextlib
import io
import json

import numpy as np
import pytest
import served_model
from browsing import (
  COLOUR,
  DROP,
  MARKS,
  RECORD,
  answer,
  copied,
  opened,
  paste,
  picture,
  prompt,
  run,
  sync_api,
  text_of,
  two_shots,
  write,
)

import mmicl_jax
from mmicl_jax.context.turns import Turn, assemble

pytestmark = MARKS

# What the page asks about an answer.
ATTENTION = """async (answer) => {
  const {state} = await import('/page/store.js');
  const {attentionBody} = await import('/page/request.js');
  return attentionBody(state.cards, state.settings, answer);
}"""


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


def test_who_chose_an_image_goes_on_writing_behind_it(page, tmp_path):
  file = tmp_path / 'a.png'
  file.write_bytes(served_model.picture(0, 24))
  write(page, 'Query', 'this dog?')
  for _ in range(4):
    page.keyboard.press('ArrowLeft')
  button = page.get_by_role('button', name='Add images to Query')
  with page.expect_file_chooser() as chooser:
    button.press('Enter')
  chooser.value.set_files(file)
  sync_api.expect(page.locator('.chip')).to_have_count(1)
  sync_api.expect(text_of(page, 'Query')).to_be_focused()
  page.keyboard.type(' is a ')
  assert prompt(page) == 'this <image0>图 is a dog?'
  with page.expect_file_chooser() as chooser:
    button.press('Enter')
  chooser.value.element.dispatch_event('cancel')
  sync_api.expect(button).to_be_focused()


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


def test_where_the_answer_looked_is_drawn_over_the_pictures(page, served):
  two_shots(page)
  page.get_by_role('tab', name='Where it looked').click()
  pane = page.locator('#pane-looked')
  sync_api.expect(pane).to_contain_text('Run the prompt first')
  said = run(page)
  page.get_by_role('tab', name='Where it looked').click()
  pane.get_by_role('button', name='Show the attention').click()
  sync_api.expect(pane.locator('canvas')).to_have_count(3)
  sync_api.expect(pane).to_contain_text('Attention, not an explanation')
  everything, *tokens = pane.get_by_role('group').get_by_role('button').all()
  assert everything.get_attribute('aria-pressed') == 'true'
  shown = ''.join(token.text_content() for token in tokens).replace('·', '')
  assert shown == said
  body = page.evaluate(ATTENTION, said)
  found = served.post('/v1/attention', body)[2]

  def check(told):
    for i, share in enumerate(told['images']):
      percent = f'{100 * share:.1f} %' if share >= 0.0005 else '< 0.1 %'
      label = f'Image {i}: {percent}'
      sync_api.expect(pane.get_by_role('img', name=label)).to_be_visible()
    # The strongest patch of all pictures has the most colour.
    most = np.unravel_index(np.argmax(told['patches']), (3, 2, 2))
    place = [(most[2] + 0.5) / 2, (most[1] + 0.5) / 2]
    canvas = pane.locator('canvas').nth(most[0])
    largest = max(*told['demonstrations'], told['query'])
    colour = 0.85 * (max(told['images']) / largest) ** 0.5
    # Over a picture without colours that is a little transparent.
    share = colour / (colour + 0.65 * (1 - colour))
    assert canvas.evaluate(COLOUR, place) == pytest.approx(share, abs=0.03)

  check(found['mean'])
  tokens[0].hover()
  sync_api.expect(tokens[0]).to_have_attribute('aria-pressed', 'true')
  check(found['tokens'][0])
  tokens[-1].focus()
  sync_api.expect(tokens[-1]).to_have_attribute('aria-pressed', 'true')
  check(found['tokens'][-1])

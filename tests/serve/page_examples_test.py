"""The page in Chromium offers each model its own examples, in its own form."""

import http_running
import pytest
import served_model
from browsing import MARKS, drop, picture, prompt, sync_api, write

pytestmark = MARKS

FORMAT = """async () => {
  const {state} = await import('/page/store.js');
  return state.settings.format;
}"""
CHOOSE = """async (format) => {
  const {changed, state} = await import('/page/store.js');
  state.settings.format = format;
  changed('settings');
}"""
KINDS = """async (kinds) => {
  const {TEXT} = await import('/page/texts.js');
  return kinds.map(TEXT.examples.kind);
}"""
FIVE = 'icl_5_words_15'


def example(kind, model, text):
  image = {
    'name': 'a.png',
    'data': served_model.url_of(served_model.picture(0)),
  }
  turns = [
    {'text': text, 'images': [image], 'answer': answer}
    for answer in ('dax', 'wug')
  ]
  return {
    'id': f'{kind}-0',
    'kind': kind,
    'style': 'plain',
    'turns': turns,
    'models': [model],
  }


@pytest.fixture
def two(page):
  """The page of a server that has another model beside the tiny one."""
  models = [
    {'id': name, 'mmicl': {'max_tokens': 8}} for name in ('tiny', 'other')
  ]
  examples = [
    example('caption', 'other', 'image {0} is {image}.\ncaption:'),
    example(FIVE, 'tiny', '{image} is'),
  ]
  listed = {'object': 'list', 'data': models}
  page.route('**/v1/models', lambda route: route.fulfill(json=listed))
  offered = {'examples': examples}
  page.route('**/page/examples.json', lambda route: route.fulfill(json=offered))
  page.reload()
  sync_api.expect(page.locator('.top .model option')).to_have_count(2)
  sync_api.expect(page.locator('.suggestions')).to_contain_text('5 new words')
  return page


def choose(page, model):
  page.locator('.top .model').select_option(model)


def test_a_model_is_offered_its_own_examples(two):
  offered = two.locator('.suggestions .example')
  sync_api.expect(offered).to_have_text(['5 new words, 15 shots'])
  choose(two, 'other')
  sync_api.expect(offered).to_have_text(['Caption'])
  two.get_by_role('button', name='Examples').click()
  listed = two.locator('dialog .example-grid').first.locator('.example')
  sync_api.expect(listed).to_have_text(['Caption'])


def test_an_address_names_an_example_with_its_model(two):
  choose(two, 'other')
  two.evaluate(f'() => (location.hash = "#example={FIVE}-0")')
  sync_api.expect(two.locator('.chip')).to_have_count(2)
  sync_api.expect(two.locator('.top .model')).to_have_value('tiny')


def test_a_prompt_has_images_as_the_examples_of_its_model(two):
  assert two.evaluate(FORMAT) == 'inline'
  choose(two, 'other')
  assert two.evaluate(FORMAT) == 'auto'
  choose(two, 'tiny')
  drop(two, [picture(0, 'a.png')])
  write(two, 'Query', ' is')
  assert prompt(two) == '<image0>图 is'


def test_a_form_that_someone_chose_stays(two):
  two.evaluate(CHOOSE, 'declare')
  for model in ('other', 'tiny'):
    choose(two, model)
    assert two.evaluate(FORMAT) == 'declare'


def test_a_reload_keeps_a_prompt_in_that_form(two):
  """The form of the model's examples is not taken for someone's choice."""
  alone = {'examples': [example(FIVE, 'tiny', '{image} is')]}
  two.route('**/page/examples.json', lambda route: route.fulfill(json=alone))
  drop(two, [picture(0, 'a.png')])
  write(two, 'Query', ' is')
  kept = 'sessionStorage.getItem("mmicl-session")?.includes(" is")'
  http_running.eventually(lambda: two.evaluate(kept))
  two.reload()
  sync_api.expect(two.locator('.chip')).to_have_count(1)
  assert prompt(two) == '<image0>图 is'


def test_kinds_have_names(page):
  names = {
    FIVE: '5 new words, 15 shots',
    'icl_words_1': 'New words, 1 shot',
    'odd_one_out': 'Odd one out',
  }
  assert page.evaluate(KINDS, list(names)) == list(names.values())

"""The page's settings in Chromium: limits, what is typed, and two sides."""

import contextlib
import io

import pytest
from browsing import MARKS, copied, run, sync_api, two_shots, write

import mmicl_jax

pytestmark = MARKS

# Sets some, as the forms do.
SET = """async (settings) => {
  const {changed, state} = await import('/page/store.js');
  Object.assign(state.settings, settings);
  changed('settings');
}"""
# As when the server's models become known, after the page was opened.
KNOWN = """async () => {
  const {setModels, state} = await import('/page/store.js');
  setModels(state.models);
}"""
# As at the page's start, when a former prompt is in this tab.
KEPT = """async () => {
  const {snapshot, state} = await import('/page/store.js');
  const {saved} = await import('/page/session.js');
  const {openKept} = await import('/page/kept.js');
  sessionStorage.setItem('mmicl-session', saved().replace('0.7', '0.9'));
  const seen = [];
  for (const temperature of [0.7, 1.5]) {
    state.settings.temperature = temperature;
    await openKept();
    seen.push(state.settings.temperature);
  }
  return seen;
}"""


def most_tokens(page):
  page.locator('.settings-box summary').click()
  return page.locator('.runbar').get_by_label('Most tokens')


def test_an_answer_is_as_long_as_the_server_allows(page):
  """Which is 8 tokens here, and not the page's 50."""
  write(page, 'Query', 'what is it?')
  sync_api.expect(page.locator('.runbar .summary')).to_have_text(
    'Greedy, up to 8 tokens'
  )
  run(page)
  field = most_tokens(page)
  field.fill('60')
  field.press('Enter')
  sync_api.expect(field).to_have_value('8')
  page.evaluate(SET, {'maxTokens': 50})
  page.evaluate(KNOWN)
  sync_api.expect(field).to_have_value('8')


def test_what_is_typed_stays_when_the_models_become_known(page):
  field = most_tokens(page)
  field.fill('5')
  page.evaluate(KNOWN)
  sync_api.expect(field).to_have_value('5')
  page.keyboard.press('Escape')
  sync_api.expect(page.locator('.runbar .summary')).to_have_text(
    'Greedy, up to 5 tokens'
  )


def test_a_former_prompt_replaces_no_settings(page):
  assert page.evaluate(KEPT) == [0.9, 1.5]


def test_sides_differ_in_what_their_forms_set_and_in_nothing_else(page):
  write(page, 'Query', 'what is it?')
  page.evaluate(SET, {'format': 'inline', 'stop': 'dog', 'style': 'chat'})
  page.evaluate(SET, {'topK': 7, 'topP': 0.5, 'truncate': True})
  bodies = []
  page.on(
    'request',
    lambda request: (
      bodies.append(request.post_data_json)
      if request.url.endswith('/completions')
      else 0
    ),
  )
  page.get_by_role('tab', name='Compare').click()
  pane = page.locator('#pane-compare')
  style = pane.get_by_label('Prompt style')
  sync_api.expect(style.nth(0)).to_have_value('chat')
  style.nth(1).select_option('plain')
  pane.locator('.pane-head').get_by_role('button').click()
  sync_api.expect(pane.locator('.side .said')).to_have_count(2)
  greedy, sampled = sorted(bodies, key=lambda body: 'top_p' in body)
  ours = {'image_format': 'inline', 'truncate': True}
  assert greedy['mmicl'] == {**ours, 'style': 'chat'}
  assert sampled['mmicl'] == ours
  assert greedy['stop'] == sampled['stop'] == ['dog']
  assert (sampled['top_k'], sampled['top_p']) == (7, 0.5)


@pytest.mark.parametrize('mode', ['sample', 'greedy'])
def test_copied_python_says_the_same_with_samples_and_stops(
  page, served, monkeypatch, mode
):
  two_shots(page)
  for seed in range(9):
    page.evaluate(SET, {'mode': mode, 'seed': seed, 'temperature': 2})
    whole = run(page)
    letter = whole[len(whole) // 2]
    if 0 < whole.find(letter):
      break
  # At the letter the answer is cut, though the longer text is first.
  stops = [whole[len(whole) // 2 :], letter]
  page.evaluate(SET, {'stop': '\n'.join(stops)})
  said = run(page)
  assert said != whole
  monkeypatch.setattr(mmicl_jax, 'load', lambda root: served.predictor)
  out = io.StringIO()
  with contextlib.redirect_stdout(out):
    exec(copied(page, 'Python'), {})
  assert out.getvalue().rstrip('\n') == said

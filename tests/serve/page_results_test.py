"""The page's tabs in Chromium: what they show can be seen, and says no more."""

import math

import pytest
from browsing import COLOUR, MARKS, opened, run, sync_api, two_shots, write

pytestmark = MARKS

SHARES = {'dog': 0.97, 'cat': 0.012, 'fox': 0.008, 'owl': 0.006, 'bee': 0.004}
PLACES = """(texts) => texts.map((text) => ({
  name: text.textContent,
  at: Number(text.getAttribute('y')) - 4,
}))"""


def press(page, name):
  """Presses the button of a tab; returns the tab's pane."""
  page.get_by_role('tab', name=name).click()
  pane = page.get_by_role('tabpanel', name=name)
  pane.get_by_role('button').first.click()
  return pane


@pytest.mark.parametrize('width', [1280, 390])
def test_only_crowded_names_of_curves_move(browser, served, width):
  ranked = [
    {'index': i, 'sum': math.log(p), 'mean': math.log(p), 'tokens': 1}
    for i, p in enumerate(SHARES.values())
  ]
  with opened(browser, served, width) as page:
    page.route(
      '**/v1/rank', lambda route: route.fulfill(json={'candidates': ranked})
    )
    two_shots(page)
    page.locator('#candidates').fill('\n'.join(SHARES))
    pane = press(page, 'Shots')
    sync_api.expect(pane.locator('.curve')).to_have_count(5)
    names = pane.locator('.chart .name').evaluate_all(PLACES)
    assert [one['name'] for one in names] == list(SHARES)
    places = [one['at'] for one in names]
    end = pane.locator('.curve.strong circle').last.get_attribute('cy')
    assert places[0] == pytest.approx(float(end))
    steps = [b - a for a, b in zip(places, places[1:], strict=False)]
    assert min(steps) == pytest.approx(15) and places[-1] < 230
    axes = pane.locator('.chart .axis')
    sync_api.expect(axes).to_have_text(
      ['share among the candidates', 'demonstrations']
    )


def test_pictures_that_were_hardly_read_have_hardly_any_colour(browser, served):
  """On a phone two are side by side, below what the colours say."""
  found = {
    'demonstrations': [0.9, 0.05],
    'query': 0.05,
    'images': [0.001, 0.0005, 0.0005],
    'patches': [[[0.001]], [[0.0005]], [[0.0005]]],
  }
  told = {
    'tokens': [{'token': 'dog', **found}],
    'mean': found,
    'mmicl': {'dropped_demonstrations': 0},
  }
  with opened(browser, served, 390) as page:
    page.route('**/v1/attention', lambda route: route.fulfill(json=told))
    two_shots(page)
    run(page)
    pane = press(page, 'Where it looked')
    pictures = pane.locator('canvas')
    sync_api.expect(pictures).to_have_count(3)
    assert 0 < pictures.first.evaluate(COLOUR, [0.5, 0.5]) < 0.1
    first, second, third = (one.bounding_box() for one in pictures.all())
    assert first['y'] == second['y'] < third['y']
    said = pane.get_by_text('Attention, not an explanation').bounding_box()
    assert said['y'] < pane.locator('.bars').bounding_box()['y'] < first['y']


def test_what_a_tab_lacks_is_said_once(page):
  pane = press(page, 'Where it looked')
  alert = pane.get_by_role('alert')
  sync_api.expect(alert).to_contain_text('Run the prompt first')
  sync_api.expect(pane.get_by_text('Run the prompt first')).to_have_count(1)
  write(page, 'Query', 'what is it?')
  run(page)
  page.get_by_role('tab', name='Where it looked').click()
  sync_api.expect(pane).to_contain_text('Shows which parts')
  sync_api.expect(alert).to_have_count(0)
  sync_api.expect(pane.get_by_text('Run the prompt first')).to_have_count(0)


@pytest.mark.parametrize('width, rows', [(1280, 1), (390, 2)])
def test_all_tabs_are_in_sight(browser, served, width, rows):
  with opened(browser, served, width) as page:
    panel = page.locator('#results').bounding_box()
    for tab in page.get_by_role('tab').all():
      tab.click()  # the chosen one is the widest
      boxes = [one.bounding_box() for one in page.get_by_role('tab').all()]
      assert len(boxes) == 7 and len({box['y'] for box in boxes}) <= rows
      assert all(
        panel['x'] <= box['x']
        and box['x'] + box['width'] <= panel['x'] + panel['width']
        for box in boxes
      )

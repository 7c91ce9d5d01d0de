"""The page in Chromium stays usable, readable and safe."""

import json

import pytest
from browsing import (
  MARKS,
  drop,
  opened,
  paste,
  picture,
  run,
  sync_api,
  two_shots,
  write,
)

pytestmark = MARKS


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
  browser, served, width, scheme
):
  axe = pytest.importorskip(
    'axe_playwright_python.sync_playwright', reason='no axe-playwright-python'
  ).Axe()

  def check(page, where):
    found = axe.run(page).response['violations']
    assert not found, (where, [(v['id'], v['nodes'][0]['html']) for v in found])
    wide = 'document.documentElement.scrollWidth'
    assert page.evaluate(wide) <= width, where

  with opened(browser, served, width, scheme) as page:
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

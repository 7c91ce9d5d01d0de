"""The page in Chromium names examples."""

from browsing import MARKS

pytestmark = MARKS

KINDS = """async (kinds) => {
  const {TEXT} = await import('/page/texts.js');
  return kinds.map(TEXT.examples.kind);
}"""
FIVE = 'icl_5_words_15'


def test_kinds_have_names(page):
  names = {
    FIVE: '5 new words, 15 shots',
    'icl_words_1': 'New words, 1 shot',
    'odd_one_out': 'Odd one out',
  }
  assert page.evaluate(KINDS, list(names)) == list(names.values())

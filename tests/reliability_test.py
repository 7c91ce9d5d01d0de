"""What docs/reliability.md names exists."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / 'docs' / 'reliability.md').read_text('utf-8')


def test_each_rule_names_code_and_tests():
  rows = re.findall(r'^\| (\d+)\. (.*) \| (.*) \| (.*) \|$', TEXT, re.M)
  assert [int(number) for number, *_ in rows] == list(range(1, 24))
  for number, _, rule, tests in rows:
    assert re.search(r'`mmicl_jax/\S+\.py`', rule), number
    assert re.fullmatch(r'`tests/\S+`(, `tests/\S+`)*', tests), number


def test_every_file_and_test_that_is_named_exists():
  named = re.findall(r'((?:mmicl_jax|tests)/[\w/]+\.py)(?:::(\w+))?', TEXT)
  assert len(named) > 80
  for path, test in named:
    source = (ROOT / path).read_text('utf-8')
    assert not test or f'\ndef {test}(' in source, f'{path}::{test}'


def test_the_readme_leads_there():
  assert 'docs/reliability.md' in (ROOT / 'README.md').read_text('utf-8')

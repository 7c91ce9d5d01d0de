"""Intervals and text tables."""

import pytest

from mmicl_jax.runtime import show


def test_wilson_is_the_published_interval():
  # Newcombe 1998, table I: 81 of 263 is 0.2553 to 0.3662.
  low, high = show.wilson(81, 263)
  assert low == pytest.approx(0.2553, abs=1e-4)
  assert high == pytest.approx(0.3662, abs=1e-4)


def test_wilson_is_not_empty_at_the_ends():
  assert show.wilson(0, 0) == (0.0, 1.0)
  low, high = show.wilson(500, 500)
  assert high == 1.0 and 0.99 < low < 0.993
  low, high = show.wilson(0, 500)
  assert low == 0.0 and 0.007 < high < 0.01


def test_wilson_refuses_more_right_than_asked():
  with pytest.raises(ValueError, match='3 right of 2'):
    show.wilson(3, 2)


def test_table_aligns_numbers_right_and_words_left():
  rows = [
    {'task': 'a', 'items': 1000, 'right': '98.1 %', 'ok': True},
    {'task': 'longer', 'items': 7, 'right': '5.0 %', 'ok': False},
  ]
  assert show.table(rows).splitlines() == [
    'task    items   right  ok',
    '──────  ─────  ──────  ───',
    'a       1,000  98.1 %  yes',
    'longer      7   5.0 %  no',
  ]


def test_table_keeps_one_line_a_row_and_blanks_for_none():
  text = show.table([{'a': 'x\n\x1b[31my', 'b': None}, {'a': 'z', 'b': 0.5}])
  assert len(text.splitlines()) == 4
  assert '\x1b' not in text and 'None' not in text
  assert show.table([]) == ''


def test_percent():
  assert show.percent(0.98125) == '98.1 %'
  assert show.percent(1 / 3, 0) == '33 %'

"""Intervals and text tables."""

import io
import sys

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
    '──────────────────────────',
    'a       1,000  98.1 %  yes',
    'longer      7   5.0 %  no',
  ]


def test_table_keeps_one_line_a_row_and_blanks_for_none():
  text = show.table([{'a': 'x\n\x1b[31my', 'b': None}, {'a': 'z', 'b': 0.5}])
  assert len(text.splitlines()) == 4
  assert '\x1b' not in text and 'None' not in text
  assert show.table([]) == ''


def test_a_table_in_a_file_is_never_folded(monkeypatch):
  monkeypatch.setattr(sys, 'stdout', io.TextIOWrapper(io.BytesIO(), 'ascii'))
  monkeypatch.setenv('COLUMNS', '80')
  place = 'decoder/layers_0/self_attention/query/kernel ' * 4
  text = show.table([{'place': place, 'difference': 1e-7}])
  assert text.splitlines()[2].endswith(f'{place}       1e-07')
  assert text.isascii()


def test_a_narrow_terminal_folds_words_and_keeps_numbers(monkeypatch):
  screen = io.StringIO()
  screen.isatty = lambda: True
  monkeypatch.setattr(sys, 'stdout', screen)
  monkeypatch.setenv('COLUMNS', '40')
  lines = show.table([{'place': 'a/b/c ' * 12, 'n': 1234567}]).splitlines()
  assert max(map(len, lines)) <= 40
  assert lines[2].endswith('1,234,567')
  assert ' '.join(lines[2:]).count('a/b/c') == 12


def test_markdown():
  rows = [{'a': 'x|y\nz', 'n': 1000}, {'a': None, 'n': 0.5}]
  assert show.markdown(rows).splitlines() == [
    '| a | n |',
    '| --- | --- |',
    '| x&#124;y z | 1,000 |',
    '|  | 0.5 |',
  ]
  assert show.markdown([]) == ''


def test_size():
  assert [show.size(n) for n in (999, 1000, 2_500_000, 47 * 10**9)] == [
    '999 B',
    '1.0 kB',
    '2.5 MB',
    '47.0 GB',
  ]


def test_percent():
  assert show.percent(0.98125) == '98.1 %'
  assert show.percent(1 / 3, 0) == '33 %'

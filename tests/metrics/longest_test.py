"""The scanner takes the longest match, and of equal ones the earlier rule."""

import pytest

from mmicl_jax.metrics.longest import CharSet, Scanner, ScanRule

NAMED = {'L': str.isalpha}


def scan(rules, text):
  return list(Scanner([ScanRule(*rule) for rule in rules], NAMED).scan(text))


def test_the_longest_match_wins_wherever_it_stands():
  rules = [('a', 'ab|a'), ('b', 'abc?|a(b|bcd)'), ('other', '[^]')]
  assert scan(rules, 'abcde') == [('b', 'abcd'), ('other', 'e')]


def test_of_equal_matches_the_earlier_rule_wins():
  assert scan([('first', 'ab'), ('second', '[ab]+')], 'ab') == [('first', 'ab')]


def test_what_must_follow_counts_but_is_left():
  rules = [('word', '\\L+'), ('name', 'ab', '\\.c'), ('other', '[^]')]
  assert scan(rules, 'ab.c') == [('name', 'ab'), ('other', '.'), ('word', 'c')]
  assert scan(rules, 'ab.') == [('word', 'ab'), ('other', '.')]
  # As late as it can: the last of the letters is enough for it.
  assert scan([('x', 'a+', 'a*b'), ('b', 'b')], 'aaab')[0] == ('x', 'aaa')


def test_characters_are_given_back():
  rules = [('cut', 'cannot', '', 3), ('word', '\\L+')]
  assert scan(rules, 'cannot') == [('cut', 'can'), ('word', 'not')]


def test_literals_ignore_case_and_sets_do_not():
  rules = [('k', 'k[a]{2,3}'), ('other', '[^]')]
  assert scan(rules, 'KaaakaAKaa') == [
    ('k', 'Kaaa'),
    *[('other', char) for char in 'kaA'],
    ('k', 'Kaa'),
  ]


def test_sets():
  chars = CharSet('[^,-9\\]\\L]', NAMED)
  assert [char for char in ' +,.59]aé_' if char in chars] == [' ', '+', '_']
  assert '-' in CharSet('[-a]', {}) and ',' not in CharSet('[+-]', {})


@pytest.mark.parametrize('pattern', ['(a', 'a)', 'a|(b'])
def test_a_parenthesis_needs_a_partner(pattern):
  with pytest.raises(ValueError, match='open|partner'):
    scan([('x', pattern)], 'a')


def test_a_character_without_a_rule():
  with pytest.raises(ValueError, match="No rule for 'b'"):
    scan([('a', 'a')], 'ab')

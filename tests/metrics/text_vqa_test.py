"""ANLS: its distance, its threshold, and texts that are empty."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmicl_jax.metrics.edit_distance import edit_distance
from mmicl_jax.metrics.scorer import Annotations
from mmicl_jax.metrics.text_vqa import SCORERS

STVQA = SCORERS[1]


def by_table(a, b):
  """The same distance, row by row."""
  row = list(range(len(b) + 1))
  for i, one in enumerate(a, 1):
    before, row = row, [i]
    for j, other in enumerate(b, 1):
      row.append(
        min(before[j] + 1, row[-1] + 1, before[j - 1] + (one != other))
      )
  return row[-1]


@settings(max_examples=200, deadline=None)
@given(st.text('ab图', max_size=12), st.text('ab图', max_size=12))
def test_the_distance_is_that_of_the_table(a, b):
  assert edit_distance(a, b) == by_table(a, b)


def test_the_distance_of_long_texts():
  assert edit_distance('a' * 10_000, 'b' + 'a' * 9_000) == 1_000


def anls(output, answers, mode):
  annotations = Annotations(['7'], {'7': answers})
  return STVQA.score(annotations, {'7': output}, mode)


@pytest.mark.parametrize(
  'output, answers, official, harness',
  [
    ('abcd', ['abxy'], 0.5, 0.5),
    ('abcd', ['axyz'], 0, 0),
    ('STOP ', ['sign', 'stop'], 1, 1),
    ('a  b', ['a b'], 0.75, 1),
    ('ß', ['b'], 0, 0.5),  # 'ß' is two letters long in capitals
    ('', ['stop'], 0, 0),
    ('', [''], 1, 1),
    (' ', [''], 1, 1),
  ],
)
def test_anls_by_hand(output, answers, official, harness):
  scored = anls(output, answers, 'official')
  assert scored.metrics['anls'] == official
  assert len(scored.notes) == (answers == [''])
  for mode in ('lmms-eval', 'vlmevalkit'):
    assert anls(output, answers, mode).metrics == {'anls': harness}

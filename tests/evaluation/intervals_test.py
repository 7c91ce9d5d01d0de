"""Intervals and paired tests, beside what theory says of them."""

import numpy as np
import pytest

from mmicl_jax.evaluation import intervals

RNG = np.random.default_rng(3)
HITS = (RNG.random(400) < 0.3).astype(float).tolist()
ALONE = [str(i) for i in range(400)]
NORMAL = 2 * 1.96 * (np.mean(HITS) * (1 - np.mean(HITS)) / 400) ** 0.5


def width(interval):
  return interval[1] - interval[0]


def test_the_bootstrap_of_a_share_is_as_wide_as_the_normal_interval():
  found = intervals.bootstrap(HITS, ALONE)
  assert found[0] < np.mean(HITS) < found[1]
  assert width(found) == pytest.approx(NORMAL, rel=0.15)
  assert found == intervals.bootstrap(HITS, ALONE)


def test_items_of_one_group_are_no_more_than_one():
  """Each hit four times, under one official item: no surer than once."""
  four = [hit for hit in HITS for _ in range(4)]
  groups = [name for name in ALONE for _ in range(4)]
  assert width(intervals.bootstrap(four, groups)) == pytest.approx(
    NORMAL, rel=0.15
  )


def test_half_samples_agree_with_the_bootstrap_where_both_can_be_used():
  score = dict(zip(ALONE, HITS, strict=True))

  def metric(ids):
    return float(np.mean([score[one] for one in ids]))

  same = dict(zip(ALONE, ALONE, strict=True))
  strata = {one: str(int(one) % 3) for one in ALONE}
  found = intervals.half_samples(ALONE, same, strata, metric)
  assert width(found) == pytest.approx(NORMAL, rel=0.25)
  assert intervals.half_samples(ALONE, same, strata, lambda ids: None) is None


def test_halves_keep_groups_whole_and_strata_even():
  ids = [f'{s}{i}{k}' for s in 'ab' for i in range(10) for k in 'xy']
  seen = []
  intervals.half_samples(
    ids,
    {one: one[:-1] for one in ids},
    {one: one[0] for one in ids},
    lambda half: seen.append(half) or 0.0,
  )
  for half in seen:
    assert len(half) == 20
    assert sum(one[0] == 'a' for one in half) == 10
    assert {one[:-1] + 'x' for one in half} == {
      one for one in half if one.endswith('x')
    }


def test_few_items_give_no_interval():
  assert intervals.bootstrap([1.0] * 9, ALONE[:9]) is None
  assert intervals.bootstrap([1.0] * 20, ['one'] * 20) is None


def test_all_right_is_not_quite_sure():
  low, high = intervals.of_mean([1.0] * 40, ALONE[:40])
  assert 0.85 < low < 0.95 and high == 1
  assert width(intervals.of_mean(HITS, ALONE)) == pytest.approx(
    NORMAL, rel=0.05
  )
  # Items of a group and shares are left to the bootstrap.
  groups = [str(i // 2) for i in range(400)]
  assert intervals.of_mean(HITS, groups) == intervals.bootstrap(HITS, groups)
  shares = [hit / 2 for hit in HITS]
  assert intervals.of_mean(shares, ALONE) == intervals.bootstrap(shares, ALONE)
  assert intervals.of_mean([1.0] * 9, ALONE[:9]) is None


def test_paired_runs():
  same = intervals.paired_test(HITS, HITS, ALONE)
  assert (same.difference, same.p, same.better, same.worse) == (0, 1, 0, 0)
  better = [1.0] * 30 + HITS[30:]
  found = intervals.paired_test(HITS, better, ALONE)
  assert found.p < 0.001 and found.better == 30 - sum(HITS[:30])
  assert found.difference == pytest.approx(found.better / 400)
  assert found.interval[0] > 0
  back = intervals.paired_test(better, HITS, ALONE)
  assert back.difference == -found.difference and back.worse == found.better


def test_differences_that_chance_explains_are_not_found():
  """Half of the items that differ are better: p is far from small."""
  other = list(HITS)
  for i in range(40):
    other[i] = 1 - other[i]
  ups = sum(b > a for a, b in zip(HITS, other, strict=True))
  flips = list(HITS)
  for i in range(200, 400):  # as many downs as ups
    if ups and flips[i] == 1.0:
      other[i], ups = 0.0, ups - 1
  assert intervals.paired_test(HITS, other, ALONE).p > 0.05

"""Which record stands at which place of the stream."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmicl_jax.data.order import RecordOrder, mixed_order

SEEDS = (0, 1, -1, 2, 2**32 - 1, 2**32, 2**32 + 1, 2**33 + 1, -(2**32) - 1)
SEEDS += (2**63, -(2**63), 2**64 + 1, 2**70, -(2**70))


def places(seed, count=60, first=0):
  order = RecordOrder([20], first, seed)
  return [order[i][1] for i in range(count)]


# By the commit before seeds of more than 32 bits: the order of runs under way.
FORMER = {
  0: [12, 2, 19, 16, 8, 18, 10, 4],
  7: [11, 9, 12, 14, 13, 4, 15, 18],
  2**32 - 1: [12, 14, 11, 5, 9, 1, 7, 13],
}


@pytest.mark.parametrize('seed', FORMER)
def test_the_order_of_runs_under_way_stays(seed):
  assert places(seed)[:8] == FORMER[seed]


def test_every_seed_has_an_order_of_its_own():
  found = {seed: tuple(places(seed)) for seed in SEEDS}
  assert len(set(found.values())) == len(SEEDS)
  for seed, order in found.items():
    assert order == tuple(places(seed))
    assert sorted(order[:20]) == list(range(20))


@given(st.integers(-(2**80), 2**80), st.integers(-(2**80), 2**80))
def test_two_seeds_are_never_taken_for_one(a, b):
  if a != b:
    first, second = (RecordOrder([500], 3, seed) for seed in (a, b))
    assert [first[i] for i in range(30)] != [second[i] for i in range(30)]


@pytest.mark.parametrize('seed', [None, *SEEDS])
def test_mixtures_take_any_seed(seed):
  order = mixed_order([3, 5], [1.0, 3.0], seed)
  found = [order[i] for i in range(40)]
  assert sum(source == 0 for source, _ in found) == 10

"""The order of the records: which record stands at which place of the stream.

A function of the sizes, the weights and the seed alone, and without end: after
the last record of an epoch the next epoch begins. A place is one number, so
that a run can go on anywhere.
"""

import bisect
import itertools
import sys
from collections.abc import Sequence
from typing import Any

import grain
import numpy as np


class RecordOrder(Sequence[tuple[int, int]]):
  """Place -> (source, record), epoch after epoch without end.

  The sources stand one after the other, the first of them with the number
  `first`. With a seed each epoch is a shuffle of all records, by numpy's frozen
  generator; 4 bytes a record, an epoch at a time. (Grain's own shuffle takes
  milliseconds a record in small datasets.)
  """

  def __init__(self, sizes: Sequence[int], first: int, seed: int | None):
    self._ends = list(itertools.accumulate(sizes))
    self._first = first
    self._seed = seed
    self._epoch: tuple[int, np.ndarray] | None = None

  def __len__(self) -> int:
    return sys.maxsize

  def __getitem__(self, place):
    epoch, i = divmod(int(place), self._ends[-1])
    if self._seed is not None:
      i = int(self._permutation(self._seed, epoch)[i])
    source = bisect.bisect_right(self._ends, i)
    start = self._ends[source - 1] if source else 0
    return self._first + source, i - start

  def _permutation(self, seed: int, epoch: int) -> np.ndarray:
    if self._epoch is None or self._epoch[0] != epoch:
      order = np.arange(self._ends[-1], dtype=np.uint32)
      words = _seed_words(seed)
      key = [words[0], self._first, epoch, *words[1:]]
      np.random.RandomState(key).shuffle(order)
      self._epoch = epoch, order
    return self._epoch[1]


def _seed_words(seed: int) -> list[int]:
  """A seed of any size as words of 32 bits; other seeds have other words.

  [seed] for 0 <= seed < 2**32, which is the order of runs of former versions.
  Above follow the higher words, none of which is a last 0, and a last 0 says
  that the seed is below 0: 2**32 + 5 -> [5, 1], -5 -> [5, 0].
  """
  rest, words = abs(seed) >> 32, [abs(seed) % 2**32]
  while rest:
    words.append(rest % 2**32)
    rest >>= 32
  return words if seed >= 0 else [*words, 0]


def mixed_order(
  sizes: Sequence[int], weights: Sequence[float], seed: int | None
) -> Any:
  """Place -> (source, record): each source in an endless order of its own.

  A source has a share of the places in proportion to its weight.
  """
  orders = [RecordOrder([size], i, seed) for i, size in enumerate(sizes)]
  if len(orders) == 1:
    return orders[0]
  shares = [weight / sum(weights) for weight in weights]
  return grain.MapDataset.mix(
    [grain.MapDataset.source(order) for order in orders], shares
  )

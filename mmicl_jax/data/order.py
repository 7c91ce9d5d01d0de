"""The order of records: which record is at which position of the stream.

It depends only on the sizes, the weights and the seed, and has no end: after
the last record of an epoch the next epoch begins. A position is one number, so
a run can resume anywhere.
"""

import bisect
import itertools
import sys
from collections.abc import Sequence
from typing import Any

import grain
import numpy as np


class RecordOrder(Sequence[tuple[int, int]]):
  """position -> (source, record), epoch after epoch without end.

  The sources come one after the other; the first has the number `first`. With a
  seed each epoch shuffles all records by numpy's RandomState, which never
  changes. That takes 4 bytes for each record, since only one epoch is kept.
  (Grain's own shuffle takes milliseconds for each record of small datasets.)
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
  """A seed of any size as words of 32 bits, different for different seeds.

  The lowest word comes first: 2**32 + 5 -> [5, 1]. A negative seed is marked by
  a last 0, which is never the highest word of a large one: -5 -> [5, 0]. Seeds
  from 0 to 2**32 - 1 give [seed], as in former versions.
  """
  rest, words = abs(seed) >> 32, [abs(seed) % 2**32]
  while rest:
    words.append(rest % 2**32)
    rest >>= 32
  return words if seed >= 0 else [*words, 0]


def mixed_order(
  sizes: Sequence[int], weights: Sequence[float], seed: int | None
) -> Any:
  """position -> (source, record); each source has its own endless order.

  A source gets positions in proportion to its weight.
  """
  orders = [RecordOrder([size], i, seed) for i, size in enumerate(sizes)]
  if len(orders) == 1:
    return orders[0]
  shares = [weight / sum(weights) for weight in weights]
  return grain.MapDataset.mix(
    [grain.MapDataset.source(order) for order in orders], shares
  )

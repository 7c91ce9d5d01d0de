"""The order of records: which record is at which position of the stream.

It depends only on the sizes, the weights and the seed, and has no end: after
the last record of an epoch the next epoch begins. A position is one number, so
a run can resume anywhere.
"""

import bisect
import itertools
import math
import sys
from collections.abc import Sequence
from fractions import Fraction

import numpy as np


class RecordOrder(Sequence[tuple[int, int]]):
  """position -> (source, record), epoch after epoch without end.

  The sources come one after the other; the first has the number `first`. With a
  seed each epoch shuffles all records by numpy's RandomState, which never
  changes. That takes 8 bytes for each record, since two epochs are kept: near
  the end of one, grouped examples come from both.
  (Grain's own shuffle takes milliseconds for each record of small datasets.)
  """

  def __init__(self, sizes: Sequence[int], first: int, seed: int | None):
    self._ends = list(itertools.accumulate(sizes))
    self._first = first
    self._seed = seed
    self._epochs: dict[int, np.ndarray] = {}

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
    if epoch not in self._epochs:
      order = np.arange(self._ends[-1], dtype=np.uint32)
      words = seed_words(seed)
      key = [words[0], self._first, epoch, *words[1:]]
      np.random.RandomState(key).shuffle(order)
      if len(self._epochs) == 2:
        del self._epochs[min(self._epochs)]
      self._epochs[epoch] = order
    return self._epochs[epoch]


def seed_words(seed: int) -> list[int]:
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


class MixedOrder(Sequence[tuple[int, int]]):
  """position -> (source, record); each source has its own endless order.

  Rates are kept exactly: of as many positions as the sum of `proportions`, in
  lowest terms, each source gets its own number, and it is never far from its
  share on the way. The sources' turns do not depend on the seed. It is Grain's
  rule for mixtures, which first rounds the proportions.
  """

  def __init__(
    self, sizes: Sequence[int], weights: Sequence[float | int], seed: int | None
  ):
    self._orders = [
      RecordOrder([size], i, seed) for i, size in enumerate(sizes)
    ]
    self._proportions = proportions(weights)

  def __len__(self) -> int:
    return sys.maxsize

  def __getitem__(self, place):
    source, turn = whose_turn(int(place), self._proportions)
    return self._orders[source][turn]


def proportions(weights: Sequence[float | int]) -> tuple[int, ...]:
  """Weights as whole numbers in lowest terms: (0.5, 2) -> (1, 4).

  A float stands for the decimal number that Python prints for it.
  """
  exact = [Fraction(str(float(weight))) for weight in weights]
  scale = math.lcm(*(weight.denominator for weight in exact))
  whole = [int(weight * scale) for weight in exact]
  divisor = math.gcd(*whole)
  return tuple(number // divisor for number in whole)


def whose_turn(position: int, shares: Sequence[int]) -> tuple[int, int]:
  """Whose turn a position is: (source, how many turns it has had before).

  shares: whole numbers. Before position p, source 0 has had p - floor(p x
  (W - w_0) / W) turns; the rest are divided among the others in the same way.
  """
  rest, here, after = sum(shares), position, position + 1
  for source, share in enumerate(shares):
    others_here = here * (rest - share) // rest
    others_after = after * (rest - share) // rest
    if here - others_here != after - others_after:
      return source, here - others_here
    rest, here, after = rest - share, others_here, others_after
  raise ValueError(f'no share of {shares} is above 0')


def mixed_order(
  sizes: Sequence[int], weights: Sequence[float | int], seed: int | None
) -> Sequence[tuple[int, int]]:
  """position -> (source, record), in exact proportion to the weights."""
  if len(sizes) == 1:
    return RecordOrder(sizes, 0, seed)
  return MixedOrder(sizes, weights, seed)

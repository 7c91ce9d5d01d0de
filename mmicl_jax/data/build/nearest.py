"""The items that are most like an item: `--retrieve question` or `image`.

By words, similarity is the cosine of their counts, weighted by how rare a word
is, as in most searches of texts; by pictures, the cosine of their features.
"""

import collections
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from mmicl_jax.data.build.items import Skip, SourceItem

_WORD = re.compile(r'\w+')
# How many places of words one search looks at, rare words first: common ones
# say little, and take longest.
_PLACES = 1 << 17
_FIRST = 256  # the likest items, which are put in order before the others
_BLOCK = 64  # queries whose similarities are computed at once
# Of similarities, in float64 and in float32: so that equal texts and pictures
# are equal, whatever the order of sums.
_DIGITS, _FEW_DIGITS = 9, 5


@runtime_checkable
class PictureVectors(Protocol):
  """Unit vectors of picture files; name: of what model."""

  name: str

  def __call__(
    self, paths: Sequence[str], folder: str | os.PathLike
  ) -> Float[np.ndarray, 'N E']:
    """The files' vectors; `folder` may keep them for a build that goes on."""
    ...


@runtime_checkable
class Nearest(Protocol):
  """Orders the items of a pool by their likeness to an item."""

  def order(self, item: SourceItem) -> Iterator[SourceItem]:
    """All items, the likest first, equal ones by their ids."""
    ...


def by_id(pool: Sequence[SourceItem | Skip]) -> list[SourceItem]:
  """The items of a pool, in the order of their ids."""
  items = [item for item in pool if isinstance(item, SourceItem)]
  return sorted(items, key=lambda item: item.id)


class NearestWords:
  """As Nearest, by the words of what is asked."""

  def __init__(self, pool: Sequence[SourceItem | Skip]):
    self._items = by_id(pool)
    counts = [_counted(item) for item in self._items]
    having = collections.Counter(word for count in counts for word in count)
    self._rare = {
      word: math.log((1 + len(counts)) / (1 + number)) + 1
      for word, number in having.items()
    }
    found: dict[str, tuple[list[int], list[float]]] = {}
    for i, count in enumerate(counts):
      for word, weight in self._weighted(count).items():
        places, weights = found.setdefault(word, ([], []))
        places.append(i)
        weights.append(weight)
    self._places = {
      word: (np.array(places), np.array(weights))
      for word, (places, weights) in found.items()
    }

  def order(self, item: SourceItem) -> Iterator[SourceItem]:
    """All items, the likest first, equal ones by their ids."""
    for i in ranked(self._scores(item)):
      yield self._items[i]

  def _scores(self, item: SourceItem) -> Float[np.ndarray, 'n']:
    weights = self._weighted(_counted(item))
    known = [word for word in weights if word in self._places]
    known.sort(key=lambda word: (len(self._places[word][0]), word))
    places, scores, total = [], [], 0
    for word in known:
      where, own = self._places[word]
      total += len(where)
      if places and total > _PLACES:
        break
      places.append(where)
      scores.append(own * weights[word])
    if not places:
      return np.zeros(len(self._items))
    return np.bincount(
      np.concatenate(places), np.concatenate(scores), len(self._items)
    )

  def _weighted(self, count: dict[str, int]) -> dict[str, float]:
    """Weights of words, of which the squares' sum is 1."""
    found = {w: n * self._rare.get(w, 1.0) for w, n in sorted(count.items())}
    length = math.sqrt(sum(x * x for x in found.values())) or 1.0
    return {word: x / length for word, x in found.items()}


class NearestPictures:
  """As Nearest, by the features of pictures; items without any are last.

  vector: of an item, a vector of length 1, or of zeros if it shows nothing.
  """

  def __init__(
    self,
    pool: Sequence[SourceItem | Skip],
    vector: Callable[[SourceItem], Float[np.ndarray, 'E']],
  ):
    self._items = by_id(pool)
    self._vector = vector
    self._rows = np.stack([vector(item) for item in self._items])
    self._rows = self._rows.astype(np.float32)
    asked = [item for item in pool if isinstance(item, SourceItem)]
    self._asked, self._turn = asked, {x.id: i for i, x in enumerate(asked)}
    self._start, self._block = -1, np.zeros((0, 0))

  def order(self, item: SourceItem) -> Iterator[SourceItem]:
    """All items, the likest first, equal ones by their ids."""
    for i in ranked(self._scores(item), _FEW_DIGITS):
      yield self._items[i]

  def _scores(self, item: SourceItem) -> Float[np.ndarray, 'n']:
    turn = self._turn.get(item.id, -1)
    if turn < 0 or self._asked[turn] is not item:
      return self._rows @ self._vector(item).astype(np.float32)
    start = turn - turn % _BLOCK
    if start != self._start:  # items are asked for in their order
      asked = self._asked[start : start + _BLOCK]
      vectors = np.stack([self._vector(x) for x in asked])
      self._block = vectors.astype(np.float32) @ self._rows.T
      self._start = start
    return self._block[turn - start]


def ranked(
  scores: Float[np.ndarray, 'n'], digits: int = _DIGITS
) -> Iterator[int]:
  """Indices by falling scores, equal ones rising; few are usually asked for."""
  scores = np.round(scores, digits)
  least = -np.inf
  if len(scores) > _FIRST:
    least = np.partition(scores, -_FIRST)[-_FIRST]
  yield from map(int, _sorted(scores, np.flatnonzero(scores >= least)))
  yield from map(int, _sorted(scores, np.flatnonzero(scores < least)))


def _sorted(
  scores: Float[np.ndarray, 'n'], chosen: Int[np.ndarray, 'm']
) -> Int[np.ndarray, 'm']:
  return chosen[np.argsort(-scores[chosen], kind='stable')]


def _counted(item: SourceItem) -> dict[str, int]:
  """How often each word stands in what is asked, without the answer."""
  text = ' '.join(item.fields.values()) if item.text is None else item.text
  return collections.Counter(_WORD.findall(text.lower()))

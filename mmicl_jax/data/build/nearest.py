"""The items whose words are most like an item's: `--retrieve question`.

Similarity is the cosine of counts of words, weighted by how rare a word is, as
in most searches of texts.
"""

import collections
import math
import re
from collections.abc import Iterator, Sequence

from mmicl_jax.data.build.items import Skip, SourceItem

_WORD = re.compile(r'\w+')
# A word of more items says little, and takes longest to look up.
_COMMON = 2000


class Nearest:
  """Orders the items of a pool by the likeness of their words to an item's."""

  def __init__(self, pool: Sequence[SourceItem | Skip]):
    items = [item for item in pool if isinstance(item, SourceItem)]
    self._items = sorted(items, key=lambda item: item.id)
    counts = [_counted(item) for item in self._items]
    having = collections.Counter(word for count in counts for word in count)
    self._rare = {
      word: math.log((1 + len(counts)) / (1 + number)) + 1
      for word, number in having.items()
    }
    self._places: dict[str, list[tuple[int, float]]] = {}
    for i, count in enumerate(counts):
      for word, weight in self._weighted(count).items():
        self._places.setdefault(word, []).append((i, weight))

  def order(self, item: SourceItem) -> Iterator[SourceItem]:
    """All items, the likest first, equal ones by their ids."""
    scores: dict[int, float] = {}
    for word, weight in self._weighted(_counted(item)).items():
      places = self._places.get(word, [])
      if len(places) <= _COMMON:
        for i, other in places:
          scores[i] = scores.get(i, 0.0) + weight * other
    # Rounded, so that equal texts are equal whatever their order of words.
    for i in sorted(scores, key=lambda i: (-round(scores[i], 9), i)):
      yield self._items[i]
    for i, other in enumerate(self._items):
      if i not in scores:
        yield other

  def _weighted(self, count: dict[str, int]) -> dict[str, float]:
    """Weights of words, of which the squares' sum is 1."""
    found = {w: n * self._rare.get(w, 1.0) for w, n in sorted(count.items())}
    length = math.sqrt(sum(x * x for x in found.values())) or 1.0
    return {word: x / length for word, x in found.items()}


def _counted(item: SourceItem) -> dict[str, int]:
  """How often each word stands in what is asked, without the answer."""
  text = ' '.join(item.fields.values()) if item.text is None else item.text
  return collections.Counter(_WORD.findall(text.lower()))

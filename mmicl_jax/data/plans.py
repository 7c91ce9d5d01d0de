"""The batches of a stream, window after window, from any place on.

What a batch holds depends on the windows before it, which leave examples over.
So a place in the stream is the number of a window, the batches taken from it,
and what the window before left over.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from mmicl_jax.data.grouping import (
  GroupedBatch,
  Grouping,
  RowSize,
  group_window,
)
from mmicl_jax.data.order import seed_words


@dataclasses.dataclass(frozen=True)
class StreamPlace:
  """A place between two batches.

  inside: how many batches of the window come before it. carried: positions of
  the examples that the window before left over.
  """

  window: int = 0
  inside: int = 0
  carried: tuple[int, ...] = ()

  def to_json(self) -> dict[str, Any]:
    """The place as JSON's types."""
    return {**dataclasses.asdict(self), 'carried': list(self.carried)}

  @classmethod
  def from_json(cls, value: dict[str, Any]) -> 'StreamPlace':
    """The inverse of `to_json`."""
    return cls(value['window'], value['inside'], tuple(value['carried']))


class Plans:
  """step -> (its batch, the place after it); None after the end.

  size_of: the size of the example at a position. size: the length of the
  stream, None if it has no end. seed: of the order of a window's batches; None
  leaves them by bucket. step, place: where this stream begins; earlier steps
  cannot be asked for. Only the present window is kept, so steps should come in
  order.
  """

  def __init__(
    self,
    grouping: Grouping,
    size_of: Callable[[int], RowSize],
    size: int | None,
    seed: int | None,
    step: int = 0,
    place: StreamPlace | None = None,
  ):
    self._grouping, self._size_of = grouping, size_of
    self._size, self._seed = size, seed
    self._start = step, place or StreamPlace()
    self._open()

  def _open(self) -> None:
    """Goes back to the start, without reading anything."""
    step, place = self._start
    self._first, self._window = step - place.inside, place.window
    self._carried = place.carried
    self._batches: list[GroupedBatch] | None = None
    self._rest: list[int] = []

  def __call__(self, step: int) -> tuple[GroupedBatch, StreamPlace] | None:
    if step < self._first:
      self._open()
    while True:
      if self._batches is None:
        if self._ended():
          return None
        self._batches, self._rest = self._plan()
      inside = step - self._first
      if inside < len(self._batches):
        break
      self._first += len(self._batches)
      self._window, self._carried = self._window + 1, tuple(self._rest)
      self._batches = None
    found = self._batches[inside]
    if inside + 1 == len(self._batches):
      return found, StreamPlace(self._window + 1, 0, tuple(self._rest))
    return found, StreamPlace(self._window, inside + 1, self._carried)

  def _ended(self) -> bool:
    start = self._window * self._grouping.window
    return self._size is not None and start >= self._size

  def _plan(self) -> tuple[list[GroupedBatch], list[int]]:
    """The batches of the present window in their order, and what is left."""
    start = self._window * self._grouping.window
    stop = start + self._grouping.window
    last = self._size is not None and stop >= self._size
    if self._size is not None:
      stop = min(stop, self._size)
    batches, rest = group_window(
      [self._size_of(position) for position in self._carried],
      [self._size_of(position) for position in range(start, stop)],
      self._grouping,
      last,
    )
    if self._seed is not None:
      # 2**32 - 1 keeps these numbers apart from those of the records' order.
      words = seed_words(self._seed)
      key = [words[0], 2**32 - 1, self._window % 2**32, *words[1:]]
      order = np.random.RandomState(key).permutation(len(batches))
      batches = [batches[i] for i in order]
    return batches, rest

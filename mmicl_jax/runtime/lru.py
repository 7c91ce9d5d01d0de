"""A memory of results by content, bounded in bytes; the oldest use goes."""

import collections
import hashlib
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

import numpy as np

Key = TypeVar('Key', bound=Hashable)
Value = TypeVar('Value')


class Lru(Generic[Key, Value]):
  """Values by key; storing more than `max_bytes` forgets the least used."""

  def __init__(self, max_bytes: int):
    self._max_bytes = max_bytes
    self._values: collections.OrderedDict[Key, tuple[Value, int]] = (
      collections.OrderedDict()
    )
    self.num_bytes = 0

  def __contains__(self, key: Key) -> bool:
    return key in self._values

  def __iter__(self) -> Iterator[Key]:
    """The keys, the last used one first."""
    return reversed(self._values)

  def clear(self) -> None:
    self._values.clear()
    self.num_bytes = 0

  def get(self, key: Key) -> Value | None:
    if key not in self._values:
      return None
    self._values.move_to_end(key)
    return self._values[key][0]

  def put(self, key: Key, value: Value, num_bytes: int) -> None:
    if num_bytes > self._max_bytes:
      return
    if key in self._values:
      self.num_bytes -= self._values.pop(key)[1]
    self._values[key] = value, num_bytes
    self.num_bytes += num_bytes
    while self.num_bytes > self._max_bytes:
      self.num_bytes -= self._values.popitem(last=False)[1][1]


def digest(*arrays: np.ndarray | None) -> bytes:
  """16 bytes that stand for the arrays' contents, shapes and dtypes."""
  result = hashlib.blake2b(digest_size=16)
  for array in arrays:
    if array is None:
      result.update(b'none')
      continue
    result.update(f'{array.dtype}{array.shape}'.encode())
    result.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
  return result.digest()

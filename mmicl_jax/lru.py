"""A memory of results by content, bounded in bytes; the oldest use goes."""

import collections
import hashlib
from collections.abc import Hashable

import numpy as np


class Lru:
  """Arrays by key; storing more than `max_bytes` forgets the least used."""

  def __init__(self, max_bytes: int):
    self._max_bytes = max_bytes
    self._arrays: collections.OrderedDict[Hashable, np.ndarray] = (
      collections.OrderedDict()
    )
    self.num_bytes = self.hits = self.misses = 0

  def __contains__(self, key: Hashable) -> bool:
    return key in self._arrays

  def clear(self) -> None:
    self._arrays.clear()
    self.num_bytes = 0

  def get(self, key: Hashable) -> np.ndarray | None:
    array = self._arrays.get(key)
    if array is None:
      self.misses += 1
      return None
    self.hits += 1
    self._arrays.move_to_end(key)
    return array

  def put(self, key: Hashable, array: np.ndarray) -> None:
    if array.nbytes > self._max_bytes:
      return
    if key in self._arrays:
      self.num_bytes -= self._arrays.pop(key).nbytes
    self._arrays[key] = array
    self.num_bytes += array.nbytes
    while self.num_bytes > self._max_bytes:
      self.num_bytes -= self._arrays.popitem(last=False)[1].nbytes


def digest(*arrays: np.ndarray | None) -> bytes:
  """16 bytes that stand for the arrays' contents, shapes and dtypes."""
  result = hashlib.blake2b(digest_size=16)
  for array in arrays:
    if array is None:
      result.update(b'none')
      continue
    result.update(f'{array.dtype}{array.shape}'.encode())
    result.update(np.ascontiguousarray(array).data)
  return result.digest()

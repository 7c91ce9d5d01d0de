"""A folder with what the frozen towers see in images, found by their content.

features-00000.npy holds an array [n, Q, E], bfloat16 as its 16 bits;
features-00000.keys.npy the n keys, each with a sum of its features' bytes;
index.json the shapes and the fingerprint of the model that wrote them. Files
appear under their names when complete.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from jaxtyping import Shaped

from mmicl_jax.data import images
from mmicl_jax.errors import UserError

INDEX = 'index.json'
DTYPES = {'bfloat16': ml_dtypes.bfloat16, 'float32': np.float32}
_KEY = np.dtype([('key', 'S32'), ('sum', '<u4')])


def key_of(source: images.ImageSource) -> bytes:
  """What an image is known by: a hash of its file's bytes or its pixels.

  Raises UserError if its file cannot be read.
  """
  return (
    hashlib.blake2b(images.content(source), digest_size=16).hexdigest().encode()
  )


class FeatureStore:
  """Reads a folder; `lookup` gives one image's features.

  Opened where it is used: it can be sent to worker processes. Raises UserError
  if the folder is no such store or a file of it is damaged.
  """

  def __init__(self, directory: str | os.PathLike):
    self.directory = Path(directory)
    index = read_index(self.directory)
    self.shape: tuple[int, int] = (index['queries'], index['width'])
    self.dtype = np.dtype(DTYPES[index['dtype']])
    self._open()

  def _open(self) -> None:
    paths = shards(self.directory)
    self._arrays, keys = [], []
    for path in paths:
      try:
        array = np.load(path, mmap_mode='r')
        own = np.load(_keys(path))
        if own.dtype != _KEY or own.ndim != 1:
          raise ValueError('its keys are none')
        if (array.dtype, array.shape) != (
          _stored(self.dtype),
          (len(own), *self.shape),
        ):
          raise ValueError(
            f'{array.dtype} {array.shape} for {len(own)} keys of '
            f'{self.dtype} {self.shape}'
          )
      except Exception as error:  # numpy evaluates what a header holds
        raise _damaged(path, str(error)) from error
      self._arrays.append(array)
      keys.append(own)
    self._paths = paths
    self._ends = np.cumsum([len(own) for own in keys])
    self._keys = np.concatenate(keys) if keys else np.zeros(0, _KEY)
    self._order = np.argsort(self._keys['key'])
    self._sorted = self._keys['key'][self._order]

  def __getstate__(self) -> Path:
    return self.directory

  def __setstate__(self, directory: Path) -> None:
    self.__init__(directory)

  def __len__(self) -> int:
    return len(self._sorted)

  def __contains__(self, key: bytes) -> bool:
    i = np.searchsorted(self._sorted, key)
    return bool(i < len(self) and self._sorted[i] == key)

  def lookup(self, source: images.ImageSource) -> Shaped[np.ndarray, 'Q E']:
    """Raises UserError if the image is not in the store or its row damaged."""
    key = key_of(source)
    if key not in self:
      shown = source if isinstance(source, str) and len(source) < 200 else key
      raise UserError(
        f'{shown}: not among the {len(self)} images of {self.directory}: run '
        'mmicl data cache-features on its records too'
      )
    row = int(self._order[np.searchsorted(self._sorted, key)])
    shard = int(np.searchsorted(self._ends, row, side='right'))
    start = self._ends[shard - 1] if shard else 0
    found = self._arrays[shard][row - start]
    if _sum(found) != self._keys['sum'][row]:
      raise _damaged(self._paths[shard], f'row {row - start} has other bits')
    return found.view(self.dtype)


def read_index(directory: Path) -> dict[str, Any]:
  """Raises UserError if there is none."""
  path = directory / INDEX
  try:
    index = json.loads(path.read_text())
  except FileNotFoundError as error:
    raise UserError(
      f'{directory} holds no features of images: write them by mmicl data '
      'cache-features'
    ) from error
  except (OSError, ValueError) as error:
    raise _no_index(path, str(error)) from error
  names = {'fingerprint': str, 'queries': int, 'width': int, 'dtype': str}
  for name, kind in names.items():
    if not isinstance(index, dict) or not isinstance(index.get(name), kind):
      raise _no_index(path, f'it has no {name}')
  if index['dtype'] not in DTYPES:
    raise _no_index(path, f'the dtype {index["dtype"]!r}')
  return index


def write_index(directory: Path, index: dict[str, Any]) -> None:
  """Raises UserError if the folder holds the features of another model.

  Also if it does not say whose it holds, or cannot be written.
  """
  path = directory / INDEX
  if path.exists():
    if read_index(directory) != index:
      raise UserError(
        f'{directory} holds the features of another model: choose another '
        'folder, or delete it'
      )
    return
  if shards(directory):
    raise _no_index(path, 'it is gone')
  temporary = directory / f'.{INDEX}.{os.getpid()}.tmp'
  try:
    directory.mkdir(parents=True, exist_ok=True)
    try:
      temporary.write_text(json.dumps(index, indent=1) + '\n')
      temporary.replace(path)
    except OSError:
      temporary.unlink()
      raise
  except OSError as error:
    raise UserError(
      f'{path} could not be written ({error.strerror}): make room or choose '
      'another folder'
    ) from error


def write_shard(
  directory: Path,
  keys: Sequence[bytes],
  features: Shaped[np.ndarray, 'N Q E'],
) -> None:
  """Adds a shard; raises UserError, leaving nothing, where it does not fit."""
  number = len(shards(directory))
  while (directory / f'features-{number:05}.npy').exists():
    number += 1
  path = directory / f'features-{number:05}.npy'
  bits = features.view(_stored(features.dtype))
  named = np.array(
    [(key, _sum(row)) for key, row in zip(keys, bits, strict=True)], _KEY
  )
  made = []
  try:
    # The keys first: a shard counts from when its features are there.
    for place, array in (
      (_keys(path), named),
      (path, bits),
    ):
      temporary = place.with_name(f'.{place.name}.{os.getpid()}.tmp')
      made.append(temporary)
      with temporary.open('wb') as file:
        np.save(file, array)
      temporary.replace(place)
  except OSError as error:
    for temporary in made:
      temporary.unlink(missing_ok=True)
    raise UserError(
      f'{path} could not be written ({error.strerror}): make room and run the '
      'same command again, which goes on behind the shards that are complete'
    ) from error


def shards(directory: Path) -> list[Path]:
  return sorted(
    path
    for path in directory.glob('features-*.npy')
    if not path.name.endswith('.keys.npy')
  )


def _stored(dtype: np.dtype) -> np.dtype:
  """numpy's files know no bfloat16."""
  return np.dtype(np.uint16) if dtype == ml_dtypes.bfloat16 else dtype


def _sum(row: Shaped[np.ndarray, 'Q E']) -> int:
  return zlib.crc32(np.ascontiguousarray(row))


def _damaged(path: Path, why: str) -> UserError:
  return UserError(
    f'{path} is damaged ({why}): delete it and run mmicl data cache-features '
    'again, which fills the gap'
  )


def _no_index(path: Path, why: str) -> UserError:
  return UserError(
    f'{path} does not say whose features stand beside it ({why}): delete the '
    'folder and run mmicl data cache-features again'
  )


def _keys(path: Path) -> Path:
  return path.with_suffix('.keys.npy')

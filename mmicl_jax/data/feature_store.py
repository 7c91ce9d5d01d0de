"""A folder of what the Q-Former reads in images, found by their content.

`features-00000.npy` holds an array [n, Q, E]; bfloat16 is stored as uint16,
since numpy's files cannot hold it. `features-00000.keys.npy` holds the n keys
and a checksum of each one's features. `index.json` holds the shapes, and the
fingerprint of the model that wrote them. A file gets its name only when it is
complete, and shards are only added. So any number of processes may read a
folder; those that write take turns.

`mmicl data cache-features` fills such a folder for FEATURE_CACHE, and
`mmicl generate --cache_dir` keeps one for each model that answers. Each can
read what the other wrote.
"""

import hashlib
import json
import os
import re
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from jaxtyping import Int, Shaped

from mmicl_jax.data import images
from mmicl_jax.errors import UserError
from mmicl_jax.runtime.files import write_json, writing
from mmicl_jax.runtime.lock import in_turn
from mmicl_jax.runtime.mirror import Mirror, local_file
from mmicl_jax.runtime.remote import address

INDEX = 'index.json'
PER_FILE = 4096  # images; 200 MB of 32 x 768 bfloat16
DTYPES = {'bfloat16': ml_dtypes.bfloat16, 'float32': np.float32}
_ROOM = 'make room or choose another folder; what was complete before is intact'
_KEY = np.dtype([('key', 'S32'), ('sum', '<u4')])


def key_of(
  source: images.ImageSource, instruction: Int[np.ndarray, 'S'] | None = None
) -> bytes:
  """The key of an image's features: 32 hexadecimal digits.

  It is a hash of the image file's bytes or of an array's pixels, and of the
  instruction's token ids if the Q-Former reads those with the image. Raises
  UserError if the image's file cannot be read.
  """
  found = hashlib.blake2b(images.content(source), digest_size=16)
  if instruction is not None:
    found.update(b'instruction' + instruction.astype('<i4').tobytes())
  return found.hexdigest().encode()


def _refuse(problem: UserError) -> None:
  raise problem


class FeatureStore:
  """Reads the features in a folder, and adds more.

  shape: (Q, E), that of one image's features. dtype: theirs. A store can be
  pickled for worker processes, which open the folder themselves.

  on_damage: called with a UserError that names a damaged file; by default it
  raises the error. If it returns, the images in that file count as unknown;
  their features can be added again, and then win over the damaged ones. Raises
  UserError if the folder is no such store.
  """

  def __init__(
    self,
    directory: str | os.PathLike,
    on_damage: Callable[[UserError], None] = _refuse,
  ):
    self._mirror = Mirror(directory)
    self._mirror.pull()
    self._begin(on_damage)

  def _begin(self, on_damage: Callable[[UserError], None]) -> None:
    index = read_index(self.directory)
    self.shape: tuple[int, int] = (index['queries'], index['width'])
    self.dtype = np.dtype(DTYPES[index['dtype']])
    self._on_damage = on_damage
    self._seen: set[Path] = set()
    self._paths: list[Path] = []
    self._arrays: list[np.ndarray] = []
    self._ends = np.zeros(0, np.int64)
    self._keys = self._sorted = np.zeros(0, _KEY)
    self._open_added()

  def __getstate__(self) -> tuple[Mirror, Callable[[UserError], None]]:
    return self._mirror, self._on_damage

  def __setstate__(
    self, state: tuple[Mirror, Callable[[UserError], None]]
  ) -> None:
    self._mirror, on_damage = state
    self._begin(on_damage)

  @property
  def directory(self) -> Path:
    """The folder, or the local copy of a remote one."""
    return self._mirror.local

  def __len__(self) -> int:
    return len(self._keys)

  def __contains__(self, key: bytes) -> bool:
    return self._row(key) is not None

  def keys(self) -> list[bytes]:
    """The keys in the order in which they were added."""
    return self._keys['key'].tolist()

  def refresh(self) -> None:
    """Opens the shards that this process or others added in the meantime."""
    self._mirror.pull()
    self._open_added()

  def _open_added(self) -> None:
    """Opens the local shards that are not open yet."""
    added = [path for path in shards(self.directory) if path not in self._seen]
    keys = [self._keys]
    for path in added:
      self._seen.add(path)
      try:
        array, own = self._open(path)
      except UserError as damage:
        self._on_damage(damage)
        continue
      self._paths.append(path)
      self._arrays.append(array)
      keys.append(own)
    if len(keys) > 1:
      ends = np.cumsum([len(own) for own in keys[1:]]) + len(self._keys)
      self._ends = np.concatenate([self._ends, ends])
      self._keys = np.concatenate(keys)
      # A stable sort keeps the newest row of a key behind its older ones.
      self._order = np.argsort(self._keys['key'], kind='stable')
      self._sorted = self._keys['key'][self._order]

  def get(self, key: bytes) -> Shaped[np.ndarray, 'Q E'] | None:
    """The features of a key, or None if they are unknown or damaged."""
    row = self._row(key)
    if row is None:
      return None
    shard = int(np.searchsorted(self._ends, row, side='right'))
    start = self._ends[shard - 1] if shard else 0
    found = self._arrays[shard][row - start]
    if _sum(found) != self._keys['sum'][row]:
      path = self._paths[shard]
      self._on_damage(_damaged(path, f'row {row - start} has other bits'))
      return None
    return found.view(self.dtype)

  def lookup(self, source: images.ImageSource) -> Shaped[np.ndarray, 'Q E']:
    """The features of an image; raises UserError if the store lacks them."""
    key = key_of(source)
    found = self.get(key)
    if found is None:
      shown = source if isinstance(source, str) and len(source) < 200 else key
      raise UserError(
        f'{shown}: not among the {len(self)} images of {self.directory}: run '
        'mmicl data cache-features on its records too'
      )
    return found

  def add(
    self, keys: Sequence[bytes], features: Shaped[np.ndarray, 'N Q E']
  ) -> None:
    """Adds a shard of features; raises UserError if it cannot be written.

    After an error nothing of the shard is left.
    """
    bits = features.astype(self.dtype).view(_stored(self.dtype))
    named = np.array(
      [(key, _sum(row)) for key, row in zip(keys, bits, strict=True)], _KEY
    )
    with in_turn(self.directory / INDEX):
      self._mirror.pull()
      path = _next_shard(self.directory)
      # `with` renames the keys before the features: a shard exists from the
      # moment when its features do, so its keys must be there by then.
      with (
        writing(path, 'wb', _ROOM) as array,
        writing(_keys(path), 'wb', _ROOM) as own,
      ):
        np.save(array, bits)
        np.save(own, named)
      self._mirror.push([_keys(path).name])
      self._mirror.push([path.name])
    self._open_added()

  def _row(self, key: bytes) -> int | None:
    i = int(np.searchsorted(self._sorted, key, side='right')) - 1
    if i < 0 or self._sorted[i] != key:
      return None
    return int(self._order[i])

  def _open(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
      array = np.load(path, mmap_mode='r')
      own = np.load(_keys(path))
      if own.dtype != _KEY or own.ndim != 1:
        raise ValueError('its keys are none')
      wanted = _stored(self.dtype), (len(own), *self.shape)
      if (array.dtype, array.shape) != wanted:
        raise ValueError(
          f'{array.dtype} {array.shape} for {len(own)} keys of '
          f'{self.dtype} {self.shape}'
        )
    except Exception as error:  # numpy may raise anything for a bad header
      raise _damaged(path, str(error)) from error
    return array, own


def read_index(directory: str | os.PathLike) -> dict[str, Any]:
  """Reads a store's index.json; raises UserError if missing or damaged."""
  path = local_file(os.path.join(address(directory), INDEX))
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


def write_index(directory: str | os.PathLike, index: dict[str, Any]) -> None:
  """Makes a folder a store, unless it is the same one already.

  Raises UserError if the folder holds another model's features, does not say
  whose features it holds, or cannot be written.
  """
  mirror = Mirror(directory)
  mirror.pull_file(INDEX)
  path = mirror.local / INDEX
  if path.exists():
    if read_index(directory) != index:
      raise UserError(
        f'{directory} holds the features of another model: choose another '
        'folder, or delete it'
      )
    return
  found = mirror.listing() if mirror.is_remote else shards(mirror.local)
  if any(_number(Path(path)) >= 0 for path in found):
    raise _no_index(path, 'it is gone')
  write_json(path, index, _ROOM)
  mirror.push([INDEX])


def cache_store(
  cache_dir: str | os.PathLike, index: dict[str, Any], name: str
) -> FeatureStore:
  """Opens the store of one model in a folder of several; makes it if absent.

  index: what its index.json must hold. name: the store's folder in cache_dir. A
  cache_dir that is itself the store with this index is used as it is. Damaged
  features count as absent. Raises UserError if the folder cannot be written.
  """
  folder = address(cache_dir)
  if not _is_store(folder, index):
    folder = os.path.join(folder, name)
  if not _is_store(folder, index):
    remedy = 'choose another cache_dir'
    write_json(os.path.join(folder, INDEX), index, remedy)
  return FeatureStore(folder, on_damage=lambda damage: None)


def _is_store(directory: str, index: dict[str, Any]) -> bool:
  try:
    return read_index(directory) == index
  except UserError:
    return False


def shards(directory: Path) -> list[Path]:
  """The paths of a store's arrays, in the order in which they were added."""
  return sorted(
    (path for path in directory.glob('features-*.npy') if _number(path) >= 0),
    key=_number,
  )


def _number(path: Path) -> int:
  """The number of a shard: 7 for features-00007.npy, -1 for other files."""
  match = re.fullmatch(r'features-(\d+)\.npy', path.name)
  return int(match[1]) if match else -1


def _next_shard(directory: Path) -> Path:
  """The name of a new shard, after all others: later rows of a key win."""
  last = max(map(_number, shards(directory)), default=-1)
  return directory / f'features-{last + 1:05}.npy'


def _stored(dtype: np.dtype) -> np.dtype:
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

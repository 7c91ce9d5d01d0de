"""Visual tokens by image content: in memory and, if wished, on disk.

A file holds the tokens of one image behind a checksum. Its name is the image's
digest, in a folder named after the weights that made it, so that another model
never reads it and several processes may share the folder.
"""

import io
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from mmicl_jax.errors import UserError
from mmicl_jax.models.configs import MMICLConfig
from mmicl_jax.runtime.lru import Lru, digest

CHECKSUM = 16  # bytes in front of each file


class VisualCache:
  """At most `max_bytes` in memory; in `folder` everything, without limit.

  Raises UserError if the folder cannot be written.
  """

  def __init__(
    self, max_bytes: int, folder: str | os.PathLike[str] | None = None
  ):
    self.memory: Lru[bytes, np.ndarray] = Lru(max_bytes)
    self._folder = None if folder is None else Path(folder)
    if self._folder is not None:
      try:
        self._folder.mkdir(parents=True, exist_ok=True)
      except OSError as error:
        raise _unwritable(self._folder, error) from error

  def clear(self) -> None:
    """Forgets what is in memory; files stay."""
    self.memory.clear()

  def get(self, key: bytes) -> Float[np.ndarray, 'Q D'] | None:
    found = self.memory.get(key)
    if found is None and self._folder is not None:
      found = _read(self._folder / key.hex())
      if found is not None:
        self.memory.put(key, found, found.nbytes)
    return found

  def put(self, key: bytes, tokens: Float[np.ndarray, 'Q D']) -> None:
    self.memory.put(key, tokens, tokens.nbytes)
    if self._folder is not None:
      _write(self._folder / key.hex(), tokens)


def visual_fingerprint(config: MMICLConfig, params: Any) -> str:
  """A folder's name for the weights and arithmetic behind visual tokens.

  Raises UserError for weights of which this process has only a part.
  """
  parts = {
    n: params[n] for n in ('vit', 'qformer', 'query_tokens', 'projector')
  }
  leaves = jax.tree.leaves_with_path(parts)
  if not all(getattr(x, 'is_fully_addressable', True) for _, x in leaves):
    raise UserError('cache_dir works in one process: leave it out in several.')
  setting = f'{config.vit}{config.qformer}{config.execution.dtype}'
  text = setting + jax.default_backend()
  names = text + ''.join(jax.tree_util.keystr(path) for path, _ in leaves)
  sums = [np.frombuffer(digest(np.asarray(x)), np.uint8) for _, x in leaves]
  return digest(np.frombuffer(names.encode(), np.uint8), *sums).hex()


def _read(path: Path) -> np.ndarray | None:
  """None if the file is missing, torn or damaged: it is written anew then."""
  try:
    content = path.read_bytes()
  except OSError:
    return None
  data = content[CHECKSUM:]
  if digest(np.frombuffer(data, np.uint8)) != content[:CHECKSUM]:
    return None
  return np.load(io.BytesIO(data), allow_pickle=False)


def _write(path: Path, tokens: np.ndarray) -> None:
  buffer = io.BytesIO()
  np.save(buffer, tokens, allow_pickle=False)
  data = buffer.getvalue()
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  try:
    temporary.write_bytes(digest(np.frombuffer(data, np.uint8)) + data)
    temporary.replace(path)
  except OSError as error:
    raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> UserError:
  return UserError(
    f'{path}: cannot keep visual tokens there ({error.strerror}); choose '
    'another cache_dir or leave it out.'
  )

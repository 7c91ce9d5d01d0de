"""A directory that appears complete or not at all."""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from mmicl_jax.errors import UserError


@contextlib.contextmanager
def new_directory(path: str | os.PathLike) -> Iterator[Path]:
  """Gives a temporary directory that becomes `path` at the end of the block.

  On an error nothing is left behind. Raises UserError if `path` holds
  something already, which is never overwritten.
  """
  path = Path(path)
  if path.exists() and (not path.is_dir() or any(path.iterdir())):
    raise UserError(
      f'{path} exists and is not empty: name a new directory for the output'
    )
  temporary = path.parent / f'.{path.name}.{os.getpid()}.tmp'
  try:
    temporary.mkdir(parents=True)
  except OSError as error:
    raise UserError(
      f'cannot make the directory {path}: {error.strerror}; name another one'
    ) from error
  try:
    yield temporary
    if path.exists():
      path.rmdir()
    temporary.rename(path)
  finally:
    _remove(temporary)


def _remove(path: Path) -> None:
  """Removes a directory that a thread may still be writing to."""
  for _ in range(20):
    shutil.rmtree(path, ignore_errors=True)
    if not path.exists():
      return
    time.sleep(0.1)

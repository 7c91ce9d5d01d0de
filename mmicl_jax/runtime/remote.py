"""Paths with '://', which stand for files of another machine.

Google's, Amazon's and Azure's storage and the Hugging Face hub are reached
through etils.epath, by whichever package for them is installed; other kinds of
addresses through fsspec.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import IO, Any

import fsspec
from etils import epath

from mmicl_jax.errors import UserError

# The kinds of addresses that epath knows, and a package that reaches them.
PACKAGES = {
  'gs': 'gcsfs',
  's3': 's3fs',
  'az': 'adlfs',
  'hf': 'huggingface_hub',
}
CHUNK = 2**24  # bytes that are copied at once


def is_remote(path: str | os.PathLike) -> bool:
  return '://' in os.fspath(path)


def absolute_path(path: str | os.PathLike) -> str:
  """An absolute path of what the system opens by this one; remote ones stay.

  Orbax and TensorStore cut 'link/..' away as text, though the folder above a
  link's target need not be the one above the link. So links before the last
  '..' are followed here; the rest of the path stays as it is.
  """
  path = os.fspath(path)
  if is_remote(path):
    return path
  parts = os.path.join(os.getcwd(), path).split(os.sep)
  if '..' not in parts:
    return os.sep.join(parts)
  end = len(parts) - parts[::-1].index('..')
  return os.path.join(os.path.realpath(os.sep.join(parts[:end])), *parts[end:])


def kind(path: str) -> str:
  """'gs://bucket/name' -> 'gs'."""
  return path.partition('://')[0]


@contextlib.contextmanager
def needing_packages(path: str) -> Iterator[None]:
  """UserError where the package is missing that the path needs."""
  try:
    yield
  except ImportError as error:
    package = PACKAGES.get(kind(path))
    raise UserError(
      f'{path} needs a package that is not installed: '
      + (f'pip install {package}' if package else str(error))
    ) from error


def open_bytes(path: str | os.PathLike, mode: str) -> Any:
  """Opens a file, here or remote. mode: 'rb' or 'wb'; gives a context manager.

  Raises OSError, or what the package behind a remote path raises; UserError if
  that package is missing or nobody knows that kind of address.
  """
  path = os.fspath(path)
  if not is_remote(path):
    return open(path, mode)
  if kind(path) not in {*PACKAGES, *fsspec.available_protocols()}:
    kinds = ', '.join(f'{name}://' for name in PACKAGES)
    raise UserError(
      f'{path} is an address of an unknown kind: {kinds} and local paths work'
    )
  with needing_packages(path):
    if kind(path) in PACKAGES:
      return epath.Path(path).open(mode)
    return fsspec.open(path, mode)


def send(source: IO[bytes], path: str) -> None:
  """Writes what `source` holds to a remote file, all of it or nothing.

  Raises what `open_bytes` and the package behind the path raise.
  """
  with open_bytes(path, 'wb') as target:
    try:
      shutil.copyfileobj(source, target, CHUNK)
    except BaseException:
      # Closed as usual, the file would appear with what arrived so far.
      with contextlib.suppress(Exception):
        target.discard()
      with contextlib.suppress(AttributeError):
        target.closed = True
      raise

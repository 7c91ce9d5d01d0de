"""Opens files of other machines, whose paths contain '://'.

etils.epath reaches the storage of Google, Amazon and Azure and the Hugging Face
hub, if the package for it is installed; fsspec reaches other kinds of
addresses.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import IO, Any

import fsspec
from etils import epath

from mmicl_jax.errors import UserError

# The kinds of addresses that epath knows, and the package that each needs.
PACKAGES = {
  'gs': 'gcsfs',
  's3': 's3fs',
  'az': 'adlfs',
  'hf': 'huggingface_hub',
}
CHUNK = 2**24  # bytes that are copied at once


def is_remote(path: str | os.PathLike) -> bool:
  """Whether a path is an address such as 'gs://bucket/name'."""
  return '://' in os.fspath(path)


def absolute_path(path: str | os.PathLike) -> str:
  """An absolute path to what the system opens; remote paths do not change.

  Orbax and TensorStore remove 'link/..' from a path as text, although the
  folder above a link's target may be another one than that above the link. So
  links before the last '..' are followed here; the rest of the path stays.
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
  """The kind of an address: 'gs://bucket/name' -> 'gs'."""
  return path.partition('://')[0]


@contextlib.contextmanager
def needing_packages(path: str) -> Iterator[None]:
  """Turns a missing package that the path needs into a UserError."""
  try:
    yield
  except ImportError as error:
    package = PACKAGES.get(kind(path))
    raise UserError(
      f'{path} needs a package that is not installed: '
      + (f'pip install {package}' if package else str(error))
    ) from error


def open_bytes(path: str | os.PathLike, mode: str) -> Any:
  """Opens a local or remote file, as a context manager.

  mode: 'rb' or 'wb'. Raises OSError, or what the package behind a remote path
  raises, and UserError if that package is missing or the kind of address is
  unknown.
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
  """Copies `source` to a remote file, completely or not at all.

  Raises what `open_bytes` and the package behind the path raise.
  """
  with open_bytes(path, 'wb') as target:
    try:
      shutil.copyfileobj(source, target, CHUNK)
    except BaseException:
      # If it were closed as usual, the file would appear incomplete.
      with contextlib.suppress(Exception):
        target.discard()
      with contextlib.suppress(AttributeError):
        target.closed = True
      raise

"""Opens files of other machines, whose paths contain '://'.

fsspec reaches them, if the package for their kind of address is installed. A
call that fails is made again after a pause, unless its error shows that it
would fail again.
"""

import contextlib
import datetime
import errno
import functools
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from typing import IO, Any, TypeVar

import fsspec

from mmicl_jax.errors import UserError, explained

T = TypeVar('T')
log = logging.getLogger(__name__)

# The kinds of addresses that errors name, and the package that each needs.
PACKAGES = {
  'gs': 'gcsfs',
  's3': 's3fs',
  'az': 'adlfs',
  'hf': 'huggingface_hub',
}
CHUNK = 2**24  # bytes that are copied at a time
PAUSES = (0.5, 2.0, 8.0)  # seconds between the attempts of a call
_REMOTE = re.compile(r'[A-Za-z][A-Za-z0-9+.-]+://')
_SHORTENED = re.compile(r'([A-Za-z][A-Za-z0-9+.-]+):/(?!/)')
# Errors that stay the same: a file is missing, or something is not allowed.
_LASTING = (
  FileNotFoundError,
  FileExistsError,
  IsADirectoryError,
  NotADirectoryError,
  PermissionError,
  ImportError,
  TypeError,
  ValueError,
  UserError,
)


def is_remote(path: str | os.PathLike) -> bool:
  """Whether a path is an address such as 'gs://bucket/name'."""
  return _REMOTE.match(address(path)) is not None


def address(path: str | os.PathLike) -> str:
  """A path as text; a remote one gets back the '//' that pathlib drops."""
  text = os.fspath(path)
  match = _SHORTENED.match(text)
  if match and _known(match[1]):
    return f'{match[1]}://{text[match.end() :]}'
  return text


def absolute_path(path: str | os.PathLike) -> str:
  """An absolute path to what the system opens; remote paths do not change.

  Orbax and TensorStore remove 'link/..' from a path as text, although the
  folder above a link's target may be another one than that above the link. So
  links before the last '..' are followed here; the rest of the path stays.
  """
  path = address(path)
  if is_remote(path):
    return path
  parts = os.path.join(os.getcwd(), path).split(os.sep)
  if '..' not in parts:
    return os.sep.join(parts)
  end = len(parts) - parts[::-1].index('..')
  return os.path.join(os.path.realpath(os.sep.join(parts[:end])), *parts[end:])


def real_path(path: str | os.PathLike) -> str:
  """A path with all links followed; a remote path does not change."""
  return address(path) if is_remote(path) else os.path.realpath(path)


def kind(path: str) -> str:
  """The kind of an address: 'gs://bucket/name' -> 'gs'."""
  return path.partition('://')[0]


def only_here(path: str | os.PathLike, name: str) -> None:
  """Raises UserError for a remote path; name: what the path is, in messages."""
  if is_remote(path):
    raise UserError(
      f'{name} is {address(path)}, but is kept on this machine: name a local '
      'folder'
    )


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


def file_system(path: str | os.PathLike) -> tuple[Any, str]:
  """Returns (fsspec's file system of a remote path, the path's name in it).

  Raises UserError if a package is missing, or if the kind of address is
  unknown.
  """
  path = address(path)
  if not _known(kind(path)):
    kinds = ', '.join(f'{name}://' for name in PACKAGES)
    raise UserError(
      f'{path} is an address of an unknown kind: {kinds} and local paths work'
    )
  with needing_packages(path):
    system = _system(kind(path), path.split('/')[2], os.getpid())
    return system, system._strip_protocol(path)


def retried(call: Callable[[], T]) -> T:
  """Returns call(); tries again, with PAUSES, then raises the last error."""
  for pause in PAUSES:
    try:
      return call()
    except _LASTING:
      raise
    except Exception as error:
      log.info('%s; trying again', error)
      time.sleep(pause)
  return call()


@contextlib.contextmanager
def explaining(path: str | os.PathLike, remedy: str, what: str) -> Iterator:
  """Turns what the package behind a path raises into a UserError."""
  try:
    yield
  except UserError:
    raise
  except Exception as error:
    if isinstance(error, FileNotFoundError) and not error.strerror:
      # s3fs gives only the path.
      error = FileNotFoundError(None, 'it does not exist')
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
      remedy = 'make room for temporary files, or name another TMPDIR'
    raise explained(error, address(path), remedy, what) from error


def open_bytes(path: str | os.PathLike, mode: str) -> Any:
  """Opens a local or remote file, as a context manager.

  mode: 'rb' or 'wb'. Raises OSError, or what the package behind a remote path
  raises, and UserError if that package is missing or the kind of address is
  unknown.
  """
  if not is_remote(path):
    return open(path, mode)
  system, name = file_system(path)
  return system.open(name, mode)


def read_bytes(path: str | os.PathLike, most: int | None = None) -> bytes:
  """Reads a remote file.

  most: how many bytes it may have. Raises ValueError if it has more, and what
  the package behind the path raises.
  """
  system, name = file_system(path)

  def read() -> bytes:
    end = None if most is None else most + 1
    data = system.cat_file(name, end=end)
    if most is not None and len(data) > most:
      raise ValueError(f'it has more than {most} bytes')
    return data

  return retried(read)


def mark(path: str | os.PathLike) -> str | None:
  """A text that changes when a remote file does; None if there is no file.

  Raises what the package behind the path raises.
  """
  system, name = file_system(path)

  def ask() -> str | None:
    system.invalidate_cache()
    try:
      info = system.info(name)
    except FileNotFoundError:
      return None
    return _mark(info) if info['type'] == 'file' else None

  return retried(ask)


def is_file(path: str | os.PathLike) -> bool:
  """Whether a local or remote file exists.

  Raises UserError if the remote storage does not answer.
  """
  if not is_remote(path):
    return os.path.isfile(path)
  with explaining(path, 'look at the storage', 'could not be looked for'):
    return mark(path) is not None


def listing(path: str | os.PathLike) -> dict[str, str]:
  """The files below a remote folder: {name in the folder: mark}.

  A mark changes when the file does. A missing folder has no files. Raises what
  the package behind the path raises.
  """
  system, name = file_system(path)
  root = name.rstrip('/') + '/'

  def look() -> dict[str, str]:
    system.invalidate_cache()
    found = system.find(name, detail=True)
    return {
      where.removeprefix(root): _mark(info)
      for where, info in found.items()
      if where.startswith(root)
    }

  return retried(look)


def fetch(path: str, target: str | os.PathLike) -> None:
  """Copies a remote file to a local path, completely or not at all."""
  system, name = file_system(path)
  part = f'{os.fspath(target)}.{os.getpid()}.part'

  def get() -> None:
    system.get_file(name, part)
    wanted = system.info(name)['size']
    if wanted is not None and os.path.getsize(part) != wanted:
      raise ConnectionError(f'{path} was cut short')

  try:
    retried(get)
    os.replace(part, target)
  finally:
    with contextlib.suppress(FileNotFoundError):
      os.unlink(part)


def send(source: IO[bytes], path: str) -> None:
  """Copies `source` to a remote file, completely or not at all.

  Raises what `open_bytes` and the package behind the path raise.
  """
  start = source.tell()

  def put() -> None:
    source.seek(start)
    target = open_bytes(path, 'wb')
    try:
      shutil.copyfileobj(source, target, CHUNK)
      target.close()
    except BaseException:
      # If it were closed as usual, the file would appear incomplete.
      with contextlib.suppress(Exception):
        target.discard()
      with contextlib.suppress(AttributeError):
        target.closed = True
      raise

  retried(put)


def put_bytes(path: str, data: bytes) -> None:
  """Writes a small remote file. Raises what the package behind it raises."""
  system, name = file_system(path)
  retried(lambda: system.pipe_file(name, data))


def remove(path: str) -> None:
  """Removes a remote file if it exists."""
  system, name = file_system(path)
  with contextlib.suppress(FileNotFoundError):
    retried(lambda: system.rm_file(name))


def move(path: str, target: str) -> None:
  """Renames a remote file within its storage."""
  system, name = file_system(path)
  _, other = file_system(target)
  with contextlib.suppress(FileNotFoundError):
    retried(lambda: system.cp_file(name, other))
    remove(path)


@functools.cache
def _system(kind: str, host: str, process: int) -> Any:
  # fsspec would make one for each thread, which asks about the bucket again. In
  # a forked process the parent's does not work.
  return fsspec.core.url_to_fs(f'{kind}://{host}')[0]


def _known(name: str) -> bool:
  return name in fsspec.available_protocols()


def _mark(info: dict[str, Any]) -> str:
  names = ('ETag', 'etag', 'md5Hash', 'LastModified', 'mtime', 'created')
  best = next((name for name in names if info.get(name)), 'name')
  value = info[best]
  if isinstance(value, datetime.datetime):
    value = value.timestamp()  # memory:// has datetimes and numbers
  return f'{info["size"]} {value}'

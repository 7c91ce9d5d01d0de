"""Writes files and folders that appear complete or not at all.

Local ones are made under another name in the same folder and then renamed. A
remote file (a path with '://') is collected on this machine and then sent as a
whole; it appears when it is closed.
"""

import contextlib
import io
import json
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from mmicl_jax.errors import UserError, explained
from mmicl_jax.runtime import remote
from mmicl_jax.runtime.lease import leased

REMEDY = 'make room or choose another place'
# These files make a folder a checkpoint or a model, so they are sent last.
LAST = ('config.json', '_CHECKPOINT_METADATA', 'commit_success.txt')
_IN_MEMORY = 2**26  # bytes; larger remote files are collected on disk


@contextlib.contextmanager
def writing(
  path: str | os.PathLike, mode: str = 'w', remedy: str = REMEDY
) -> Iterator[IO[Any]]:
  """Gives a file to write to, which appears at `path` at the block's end.

  mode: 'w' for text in UTF-8, 'wb' for bytes. Missing folders are made. If
  `path` exists, the new file replaces it and keeps its permissions; after an
  error in the block the old file is still there and nothing else. Raises
  UserError with this remedy if the file cannot be written.
  """
  if mode not in ('w', 'wb'):
    raise ValueError(f'the mode {mode!r} is neither w nor wb')
  make = _sent if remote.is_remote(path) else _renamed
  with make(remote.address(path), remedy) as file:
    if mode == 'wb':
      yield file
      return
    text = io.TextIOWrapper(file, encoding='utf-8', newline='\n')
    yield text
    text.detach()


def write_text(
  path: str | os.PathLike, text: str, remedy: str = REMEDY
) -> None:
  """Writes text in UTF-8, as `writing` does."""
  with writing(path, 'w', remedy) as file:
    file.write(text)


def write_bytes(
  path: str | os.PathLike, data: bytes, remedy: str = REMEDY
) -> None:
  """Writes bytes, as `writing` does."""
  with writing(path, 'wb', remedy) as file:
    file.write(data)


def write_json(
  path: str | os.PathLike, value: Any, remedy: str = REMEDY
) -> None:
  """Writes indented JSON, as `writing` does.

  Raises ValueError for NaN and infinities, which JSON does not have.
  """
  with writing(path, 'w', remedy) as file:
    json.dump(value, file, ensure_ascii=False, indent=2, allow_nan=False)
    file.write('\n')


def copy_file(
  source: str | os.PathLike, target: str | os.PathLike, remedy: str = REMEDY
) -> None:
  """Copies the bytes of a file; either may be remote.

  Raises UserError if the source cannot be read or the target not be written.
  """
  with writing(target, 'wb', remedy) as copy:
    for chunk in _chunks(source):
      copy.write(chunk)


@contextlib.contextmanager
def new_directory(path: str | os.PathLike) -> Iterator[Path]:
  """Gives a folder to fill, which becomes `path` at the block's end.

  After an error nothing is left. The files of a remote folder are collected in
  a temporary one and sent at the end. Raises UserError if `path` is a file, a
  folder that is not empty (it is never overwritten), or cannot be made.
  """
  make = _sent_directory if remote.is_remote(path) else _renamed_directory
  with make(remote.address(path)) as directory:
    yield directory


def _chunks(path: str | os.PathLike) -> Iterator[bytes]:
  """Yields the bytes of a local or remote file in chunks."""
  remedy, what = 'name a file that can be read', 'could not be read'
  with (
    remote.explaining(path, remedy, what),
    remote.open_bytes(path, 'rb') as file,
  ):
    while chunk := file.read(remote.CHUNK):
      yield chunk


@contextlib.contextmanager
def _renamed(path: str, remedy: str) -> Iterator[IO[bytes]]:
  """`writing` on this machine."""
  place = os.path.realpath(path)  # a link stays; its target is replaced
  folder, name = os.path.split(place)
  unique = f'.{name[:50]}.{os.getpid()}-{secrets.token_hex(4)}.tmp'
  temporary = os.path.join(folder, unique)
  try:
    try:
      before = _status(path)
      if before and not stat.S_ISREG(before.st_mode):
        with open(path, 'wb') as file:  # a device such as /dev/stdout
          yield file
        return
      os.makedirs(folder, exist_ok=True)
      with open(temporary, 'xb') as file:
        yield file
      if before:
        os.chmod(temporary, stat.S_IMODE(before.st_mode))
      os.replace(temporary, place)
    finally:
      with contextlib.suppress(OSError):  # usually it has been renamed
        os.unlink(temporary)
  except OSError as error:
    name = error.filename
    ours = name is None or name in (path, temporary)
    if ours or f'{place}/'.startswith(f'{name}/'):
      raise explained(error, path, remedy) from error
    raise  # an error of the block, about another file


def _status(path: str) -> os.stat_result | None:
  try:
    return os.stat(path)
  except FileNotFoundError:
    return None


@contextlib.contextmanager
def _sent(path: str, remedy: str) -> Iterator[IO[bytes]]:
  """`writing` for a remote path."""
  with tempfile.SpooledTemporaryFile(_IN_MEMORY) as file:
    yield file
    file.seek(0)
    with remote.explaining(path, remedy, 'could not be written'):
      remote.send(file, path)


@contextlib.contextmanager
def _renamed_directory(path: str) -> Iterator[Path]:
  """`new_directory` on this machine."""
  target = Path(path)
  temporary = target.parent / f'.{target.name}.{os.getpid()}.tmp'
  with _making(path):
    _check_empty(target)
    temporary.mkdir(parents=True)
  try:
    yield temporary
    with _making(path):
      if target.exists():
        target.rmdir()
      temporary.rename(target)
  finally:
    _remove(temporary)


@contextlib.contextmanager
def _sent_directory(path: str) -> Iterator[Path]:
  """`new_directory` for a remote path."""
  with contextlib.ExitStack() as stack:
    # Of two that fill it at once, each would find it empty.
    stack.enter_context(leased(path))
    with _making(path):
      if remote.listing(path) or remote.mark(path) is not None:
        raise _not_empty(path)
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    yield Path(folder)
    try:
      files = [f for f in Path(folder).rglob('*') if f.is_file()]
      for file in sorted(files, key=lambda f: (f.name in LAST, f)):
        copy_file(file, f'{path}/{file.relative_to(folder).as_posix()}')
    except BaseException:
      with contextlib.suppress(Exception):
        for name in remote.listing(path):
          remote.remove(f'{path}/{name}')
      raise


@contextlib.contextmanager
def _making(path: str) -> Iterator[None]:
  with remote.explaining(path, 'name another one', 'cannot be made'):
    yield


def _check_empty(path: Path) -> None:
  if path.exists() and (not path.is_dir() or any(path.iterdir())):
    raise _not_empty(path)


def _not_empty(path: str | os.PathLike) -> UserError:
  return UserError(
    f'{path} exists and is not empty: name a new directory for the output'
  )


def _remove(path: Path) -> None:
  """Removes a directory that a thread may still be writing to."""
  for _ in range(20):
    shutil.rmtree(path, ignore_errors=True)
    if not path.exists():
      return
    time.sleep(0.1)

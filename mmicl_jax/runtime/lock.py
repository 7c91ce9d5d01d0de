"""Locks an output while it is written, so that it has one writer at a time.

A lock is a hidden file beside the output, held by flock(2), so that it ends
with its process, however that ends. It works between processes of one machine
and on network file systems that support it. Remote paths are leased instead.
File systems without locks, and files on Windows, are written without one.
"""

import atexit
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmicl_jax.errors import UserError
from mmicl_jax.runtime import remote
from mmicl_jax.runtime.lease import leased

fcntl: Any = None
with contextlib.suppress(ImportError):  # Windows has none
  import fcntl


@contextlib.contextmanager
def only_writer(path: str | os.PathLike) -> Iterator[None]:
  """Locks a file or folder during a block; only this process may write it.

  Raises UserError if another process holds the lock: at once, or for a remote
  path when the other one has shown that it is alive.
  """
  remotely = remote.is_remote(path)
  with leased(path) if remotely else _locked(path, '.lock', wait=False):
    yield


def hold(path: str | os.PathLike) -> None:
  """Locks a file or folder as `only_writer` does, until this process ends.

  For programs that are not ours to wrap. Once a process holds a path, it may
  ask again.
  """
  place = path if remote.is_remote(path) else os.path.realpath(path)
  if place not in _held:
    stack = contextlib.ExitStack()
    stack.enter_context(only_writer(path))
    _held[place] = stack
    atexit.register(stack.close)


_held: dict[Any, contextlib.ExitStack] = {}


@contextlib.contextmanager
def in_turn(path: str | os.PathLike) -> Iterator[None]:
  """Locks `path` during a block, waiting for its turn; for short additions.

  Remote paths are not locked.
  """
  with _locked(path, '.turn', wait=True):
    yield


@contextlib.contextmanager
def _locked(path: str | os.PathLike, ending: str, wait: bool) -> Iterator[None]:
  if fcntl is None or remote.is_remote(path):
    yield
    return
  descriptor = None
  try:
    place = Path(os.path.realpath(path))  # a link shares its target's lock
    lock = place.with_name(f'.{place.name}{ending}')
    descriptor = _acquire(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
  except BlockingIOError as error:
    raise UserError(
      f'{path} is being written by another process: wait for its end, or '
      'choose another place'
    ) from error
  except (OSError, ValueError):
    pass  # no lock is possible; writing the output raises the reason, if any
  try:
    yield
  finally:
    if descriptor is not None:
      with contextlib.suppress(OSError):
        lock.unlink()  # while it is held: _acquire checks that it still exists
      os.close(descriptor)


def _acquire(lock: Path, kind: int) -> int:
  """Opens and locks the file, and makes sure that it is still at its path."""
  while True:
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
      fcntl.flock(descriptor, kind)
      if os.path.samestat(os.fstat(descriptor), os.stat(lock)):
        return descriptor
    except FileNotFoundError:
      pass  # the former holder has just removed it
    except BaseException:
      os.close(descriptor)
      raise
    os.close(descriptor)

"""One writer at a time: an output is locked while it is written.

A lock is a hidden file beside the output, held by flock(2), so that it ends
with the process that holds it, however that ends. It works between processes of
one machine, and on network file systems that pass it on; remote paths, and file
systems that know no locks, are written without one.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from mmicl_jax.errors import UserError
from mmicl_jax.runtime import remote


@contextlib.contextmanager
def only_writer(path: str | os.PathLike) -> Iterator[None]:
  """Holds the lock of a file or folder that this process alone may write.

  Raises UserError at once if another process holds it.
  """
  with _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB, '.lock'):
    yield


@contextlib.contextmanager
def in_turn(path: str | os.PathLike) -> Iterator[None]:
  """Waits until no other process writes; for short additions to `path`."""
  with _locked(path, fcntl.LOCK_EX, '.turn'):
    yield


@contextlib.contextmanager
def _locked(path: str | os.PathLike, kind: int, ending: str) -> Iterator[None]:
  if remote.is_remote(path):
    yield
    return
  place = Path(os.path.realpath(path))  # a link and what it names are one
  lock = place.with_name(f'.{place.name}{ending}')
  descriptor = None
  try:
    descriptor = _acquire(lock, kind)
  except BlockingIOError as error:
    raise UserError(
      f'{path} is being written by another process: wait for its end, or '
      'choose another place'
    ) from error
  except OSError:
    pass  # nowhere to keep a lock: whoever writes the output names the reason
  try:
    yield
  finally:
    if descriptor is not None:
      with contextlib.suppress(OSError):
        lock.unlink()  # while it is held: _acquire looks whether it still is
      os.close(descriptor)


def _acquire(lock: Path, kind: int) -> int:
  """Opens and locks the file; it is the one that others find there."""
  while True:
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
      fcntl.flock(descriptor, kind)
      if os.path.samestat(os.fstat(descriptor), os.stat(lock)):
        return descriptor
    except FileNotFoundError:
      pass  # its holder has just removed it
    except BaseException:
      os.close(descriptor)
      raise
    os.close(descriptor)

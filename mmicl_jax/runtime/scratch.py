"""A folder for this process's temporary files, which goes when it ends."""

import atexit
import contextlib
import fcntl
import functools
import os
import shutil
import tempfile
from pathlib import Path

_NAME = 'mmicl-remote-'
_LOCK = '.lock'


@functools.cache
def folder() -> Path:
  """Makes the folder, and removes those of processes that were killed.

  It is in Python's folder for temporary files, which TMPDIR can name. A process
  holds the lock of its folder as long as it lives.
  """
  root = Path(tempfile.gettempdir())
  for other in root.glob(f'{_NAME}*'):
    _remove_if_left(other)
  made = Path(tempfile.mkdtemp(prefix='mmicl-new-'))
  descriptor = os.open(made / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
  fcntl.flock(descriptor, fcntl.LOCK_EX)
  final = root / made.name.replace('mmicl-new-', _NAME)
  made.rename(final)  # from now on other processes look at its lock
  owner = os.getpid()

  def remove() -> None:
    if os.getpid() == owner:
      shutil.rmtree(final, ignore_errors=True)

  atexit.register(remove)
  return final


def _remove_if_left(other: Path) -> None:
  with contextlib.suppress(OSError):  # it is another user's, in use, or gone
    descriptor = os.open(other / _LOCK, os.O_RDWR)
    try:
      fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
      shutil.rmtree(other, ignore_errors=True)
    finally:
      os.close(descriptor)

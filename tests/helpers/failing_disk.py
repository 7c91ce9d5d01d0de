"""A disk that fails at a chosen call: what Python calls, not TensorStore."""

import builtins
import io
import os
import threading

NAMES = (
  *('stat', 'lstat', 'listdir', 'scandir', 'mkdir', 'open', 'rename'),
  *('replace', 'rmdir', 'unlink', 'chmod', 'utime', 'link', 'symlink'),
)
CALLS = [*((os, name) for name in NAMES), (io, 'open'), (builtins, 'open')]


class Disk:
  """Counts the calls to files below a folder, and lets some of them fail.

  calls: how many there were since `fail`. failed: the last one that failed.
  """

  def __init__(self, folder, monkeypatch):
    self.folder, self._lock = folder, threading.Lock()
    self.fail(1, 0)
    for module, name in CALLS:
      monkeypatch.setattr(module, name, self._wrap(getattr(module, name)))

  def fail(self, first, last, number=0):
    """Lets the calls from `first` to `last` fail by the error `number`."""
    self.calls, self._first, self._last, self._number = 0, first, last, number
    self.failed = ''

  def _wrap(self, real):
    def call(path, *args, **options):
      if isinstance(path, str | os.PathLike):
        if os.fspath(path).startswith(f'{self.folder}'):
          with self._lock:
            self.calls += 1
            fails = self._first <= self.calls <= self._last
          if fails:
            self.failed = f'{real.__name__} {os.fspath(path)}'
            text = os.strerror(self._number)
            raise OSError(self._number, text, os.fspath(path))
      return real(path, *args, **options)

    return call

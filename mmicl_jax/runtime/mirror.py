"""Files of a remote folder, kept on this machine while a process works on them.

Whoever reads or writes a folder in more ways than file by file (maps its files
into memory, appends, hands it to Orbax) does so in a mirror's `local` folder,
after `pull` and before `push`. For a folder of this machine that is the folder
itself, and nothing is copied.
"""

import concurrent.futures
import itertools
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mmicl_jax.runtime import remote, scratch

EVERY = 60  # seconds between the copies of a file that grows
AT_ONCE = 8  # files that are copied at the same time
_READ = 'look at the storage, then start again; nothing was changed'
_WRITTEN = 'look at the storage; what was complete there is intact'
_count = itertools.count()
_urls: dict[str, str] = {}  # of local folders
_shared: dict[str, 'Mirror'] = {}
_lock = threading.Lock()


class Mirror:
  """A folder, here or remote. It can be sent to processes of this machine.

  local: where its files are on this machine. Raises UserError, in all methods,
  where the storage does not answer, or a package for it is missing.
  """

  def __init__(self, folder: str | os.PathLike):
    self.url = remote.address(folder).rstrip('/')
    self.is_remote = remote.is_remote(folder)
    self._marks: dict[str, str] = {}
    self._due: dict[str, float] = {}
    if not self.is_remote:
      self.local = Path(folder)
      return
    remote.file_system(folder)
    name = self.url.rpartition('/')[2]
    self.local = scratch.folder() / str(next(_count)) / (name or 'root')
    self.local.mkdir(parents=True)
    _urls[str(self.local)] = self.url

  def listing(self) -> dict[str, str]:
    """Names of all files that are there, with a mark of each."""
    with remote.explaining(self.url, _READ, 'cannot be listed at present'):
      return remote.listing(self.url)

  def pull(self, wanted: Callable[[str], Any] = lambda name: True) -> None:
    """Brings the files of wanted names here to what they are there."""
    if not self.is_remote:
      return
    found = self.listing()
    for name in [n for n in self._marks if wanted(n) and n not in found]:
      self.drop(name)
      del self._marks[name]
    at_once(lambda name: self._copy(name, found[name]), filter(wanted, found))

  def pull_file(self, name: str) -> None:
    """Copies one file here, unless it is absent there; lists nothing."""
    if not self.is_remote:
      return
    path = f'{self.url}/{name}'
    with remote.explaining(path, _READ, 'cannot be read at present'):
      mark = remote.mark(path)
    if mark is None:
      self.drop(name)
    else:
      self._copy(name, mark)

  def push(self, names: Iterable[str]) -> None:
    """Copies files from here; each appears there when it is whole."""
    if self.is_remote:
      at_once(self._send, names)

  def push_sometimes(self, name: str) -> None:
    """`push` of a file that grows: at once the first time, later now and then.

    No store can append, so all of it is sent each time, but so seldom that
    this takes a tenth of the time at most.
    """
    start = time.monotonic()
    if self.is_remote and start >= self._due.get(name, start):
      self.push([name])
      end = time.monotonic()
      self._due[name] = end + max(EVERY, 10 * (end - start))

  def remove(self, names: Iterable[str]) -> None:
    """Removes files there; their copies here stay."""

    def one(name: str) -> None:
      path = f'{self.url}/{name}'
      with remote.explaining(path, _WRITTEN, 'could not be removed'):
        remote.remove(path)

    if self.is_remote:
      at_once(one, names)

  def drop(self, name: str) -> None:
    """Removes a file or folder here, though not there."""
    place = self.local / name
    if place.is_dir():
      shutil.rmtree(place)
    else:
      place.unlink(missing_ok=True)

  def _copy(self, name: str, mark: str) -> None:
    place = self.local / name
    if self._marks.get(name) == mark and place.exists():
      return
    place.parent.mkdir(parents=True, exist_ok=True)
    path = f'{self.url}/{name}'
    with remote.explaining(path, _READ, 'cannot be read at present'):
      remote.fetch(path, place)
    self._marks[name] = mark

  def _send(self, name: str) -> None:
    path = f'{self.url}/{name}'
    with remote.explaining(path, _WRITTEN, 'could not be written'):
      with open(self.local / name, 'rb') as file:
        remote.send(file, path)
      self._marks[name] = remote.mark(path) or ''


def at_once(call: Callable[[str], Any], names: Iterable[str]) -> None:
  """Calls with each name, some at a time; raises the first error."""
  with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
    for _ in pool.map(call, names):
      pass


def local_folder(
  path: str | os.PathLike, wanted: Callable[[str], Any] = lambda name: True
) -> Path:
  """A folder to read: the path itself, or the copy of a remote one.

  wanted: says of each name in it whether its file is needed. Copies stay until
  the process ends, and each call looks whether they are still the same.
  """
  with _lock:
    mirror = _mirror(path)
    mirror.pull(wanted)
  return mirror.local


def local_file(path: str | os.PathLike) -> Path:
  """A file to read: the path itself, or the copy of a remote one.

  A remote file that is absent is absent here, too.
  """
  if not remote.is_remote(path):
    return Path(path)
  folder, _, name = remote.address(path).rpartition('/')
  with _lock:
    mirror = _mirror(folder)
    mirror.pull_file(name)
  return mirror.local / name


def _mirror(folder: str | os.PathLike) -> Mirror:
  key = remote.address(folder).rstrip('/')
  if key not in _shared:
    _shared[key] = Mirror(folder)
  return _shared[key]


def named(text: str) -> str:
  """A text for people: copies in it are called as what they are copies of."""
  for local, url in _urls.items():
    text = text.replace(local, url)
  return text

"""Copies of a remote folder's files on this machine, while a process uses them.

Some code cannot work on remote files one by one: it maps them into memory,
appends to them, or gives their folder to Orbax. It works in a mirror's `local`
folder instead, after `pull` and before `push`. For a folder of this machine
`local` is that folder, and nothing is copied.
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

EVERY = 60  # seconds between two copies of a file that grows
AT_ONCE = 8  # files that are copied at the same time
_READ = 'look at the storage, then start again; nothing was changed'
_WRITTEN = 'look at the storage; what was complete there is intact'
_count = itertools.count()
_urls: dict[str, str] = {}  # the address that each local folder mirrors
_shared: dict[str, 'Mirror'] = {}
_lock = threading.Lock()


class Mirror:
  """A local or remote folder; it can be pickled for processes of this machine.

  local: the folder with its files on this machine. All methods raise UserError
  if the storage does not answer, or if a package for it is missing.
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
    """The names of all remote files, each with a mark: see remote.mark."""
    with remote.explaining(self.url, _READ, 'cannot be listed at present'):
      return remote.listing(self.url)

  def pull(self, wanted: Callable[[str], Any] = lambda name: True) -> None:
    """Makes the local files with wanted names the same as the remote ones."""
    if not self.is_remote:
      return
    found = self.listing()
    for name in [n for n in self._marks if wanted(n) and n not in found]:
      self.drop(name)
      del self._marks[name]
    at_once(lambda name: self._copy(name, found[name]), filter(wanted, found))

  def pull_file(self, name: str) -> None:
    """Copies one file from the remote folder, without listing that folder.

    If it is missing there, it is removed here.
    """
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
    """Copies files to the remote folder; each appears there when complete."""
    if self.is_remote:
      at_once(self._send, names)

  def push_sometimes(self, name: str) -> None:
    """Does `push` with a file that grows, but only now and then.

    No storage can append, so the whole file is sent each time. It is sent at
    the first call, and then so seldom that this takes at most a tenth of the
    time.
    """
    start = time.monotonic()
    if self.is_remote and start >= self._due.get(name, start):
      self.push([name])
      end = time.monotonic()
      self._due[name] = end + max(EVERY, 10 * (end - start))

  def remove(self, names: Iterable[str]) -> None:
    """Removes files from the remote folder; their local copies stay."""

    def one(name: str) -> None:
      path = f'{self.url}/{name}'
      with remote.explaining(path, _WRITTEN, 'could not be removed'):
        remote.remove(path)

    if self.is_remote:
      at_once(one, names)

  def drop(self, name: str) -> None:
    """Removes the local copy of a file or folder; the remote one stays."""
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
  """Calls `call` with each name, AT_ONCE at a time; raises the first error."""
  with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
    for _ in pool.map(call, names):
      pass


def local_folder(
  path: str | os.PathLike, wanted: Callable[[str], Any] = lambda name: True
) -> Path:
  """A folder to read: the path itself, or a copy of the remote folder.

  wanted: tells by its name whether a file is needed. Copies stay until the
  process ends; each call copies again what has changed.
  """
  with _lock:
    mirror = _mirror(path)
    mirror.pull(wanted)
  return mirror.local


def local_file(path: str | os.PathLike) -> Path:
  """A file to read: the path itself, or a copy of the remote file.

  If the remote file is missing, the copy is missing, too.
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
  """Replaces the paths of copies in a message by the remote addresses."""
  for local, url in _urls.items():
    text = text.replace(local, url)
  return text

"""A remote MODEL_DIR, which Orbax writes and reads in a folder of this machine.

A checkpoint is saved here first and then copied there, the files that say that
it is complete last: there is no moment at which a part of one could be taken
for the whole. The folder here keeps the small files of all checkpoints, so that
Orbax knows which to keep, but arrays only as long as they are written or read.
"""

import concurrent.futures
import json
import logging
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import jax

from mmicl_jax.errors import UserError
from mmicl_jax.runtime import remote
from mmicl_jax.runtime.mirror import Mirror, local_folder

log = logging.getLogger(__name__)

# What Orbax writes last.
METADATA, COMMITTED = '_CHECKPOINT_METADATA', 'commit_success.txt'
_REMEDY = 'look at the storage, then start again'
_STEP = re.compile(r'checkpoint_(\d+)/(.+)')


def complete_steps(url: str, names: Iterable[str]) -> set[int]:
  """The steps of a remote MODEL_DIR, of whose files these are the names."""
  steps: dict[int, set[str]] = {}
  for name in names:
    if match := _STEP.fullmatch(name):
      steps.setdefault(int(match[1]), set()).add(match[2])
  return {
    step
    for step, inner in steps.items()
    if COMMITTED in inner
    or (METADATA in inner and _committed(f'{url}/checkpoint_{step}'))
  }


def local_checkpoint(path: str) -> Path | None:
  """A copy here of a remote checkpoint_<step>, or of a MODEL_DIR's newest.

  The files beside it are copied too. None if the MODEL_DIR has no checkpoint.
  """
  url = path.rstrip('/')
  folder, _, step = url.rpartition('/')
  if not re.fullmatch(r'checkpoint_\d+', step):
    with remote.explaining(url, _REMEDY, 'cannot be listed at present'):
      steps = complete_steps(url, remote.listing(url))
    if not steps:
      return None
    folder, step = url, f'checkpoint_{max(steps)}'

  def wanted(name: str) -> bool:
    beside = '/' not in name and not name.startswith('events.')
    return beside or name.startswith(f'{step}/')

  return local_folder(folder, wanted) / step


def _committed(checkpoint: str) -> bool:
  """Whether the folder was complete before somebody copied it there."""
  path = f'{checkpoint}/{METADATA}'
  with remote.explaining(path, _REMEDY, 'cannot be read at present'):
    text = remote.read_bytes(path)
  try:
    return json.loads(text)['commit_timestamp_nsecs'] is not None
  except (ValueError, KeyError, TypeError):
    return False


def stage_of(model_dir: str | os.PathLike) -> 'Stage | None':
  """A stage for a remote MODEL_DIR; None for one that Orbax writes itself.

  That is one on this machine, and one on gs:// for several processes: their
  parts of a checkpoint have to come together, and Orbax can do so on gs://, as
  on a disk that they share, but not on other storage. Raises UserError for
  several processes there.
  """
  if not remote.is_remote(model_dir):
    return None
  if jax.process_count() == 1:
    return Stage(model_dir)
  url = remote.address(model_dir)
  if remote.kind(url) != 'gs':
    raise UserError(
      f'MODEL_DIR is {url}, which one process can write to, not '
      f'{jax.process_count()}: name gs://, or a folder that all hosts share'
    )
  remote.file_system(url)  # or a package is missing
  return None


class Stage:
  """The copy here of one remote MODEL_DIR to write to.

  local: Orbax's folder. Raises UserError, in all methods, if the storage does
  not answer.
  """

  def __init__(self, model_dir: str | os.PathLike):
    self._mirror = Mirror(model_dir)
    self.local = self._mirror.local
    self._sent: dict[str, tuple[int, int]] = {}
    self._sender = concurrent.futures.ThreadPoolExecutor(1)
    self._sending: concurrent.futures.Future[None] | None = None
    names = self._mirror.listing()
    steps = complete_steps(self._mirror.url, names)
    for step in sorted(_steps(names) - steps):
      log.warning(
        '%s/checkpoint_%s is of a save that was interrupted: ignored',
        self._mirror.url,
        step,
      )

    def small(name: str) -> bool:
      match = _STEP.fullmatch(name)
      return bool(
        match and int(match[1]) in steps and not match[2].startswith('state/')
      )

    self._mirror.pull(small)

  def fetch(self, step: int) -> None:
    """Brings a checkpoint's arrays here, to be read."""
    folder = f'checkpoint_{step}/'
    self._mirror.pull(lambda name: name.startswith(folder))

  def forget(self, step: int) -> None:
    """Removes a checkpoint's arrays here, after they were read or sent."""
    self._mirror.drop(f'checkpoint_{step}/state')

  def send_after(self, step: int, saved: Callable[[], None]) -> None:
    """Calls `saved`, which waits for Orbax, then `send`, in the background."""

    def job() -> None:
      saved()
      self.send(step)

    self._sending = self._sender.submit(job)

  def wait(self) -> None:
    """Waits for what is sent in the background; raises its error."""
    sending, self._sending = self._sending, None
    if sending is not None:
      sending.result()

  def send(self, step: int) -> None:
    """Copies a complete checkpoint there, and removes those that Orbax removed.

    What else is new in the folder, such as summaries, is copied first.
    """
    self.send_rest()
    folder = f'checkpoint_{step}'
    self._remove(folder)  # parts of a save that was interrupted
    names = [
      path.relative_to(self.local).as_posix()
      for path in (self.local / folder).rglob('*')
      if path.is_file()
    ]
    last = [f'{folder}/{METADATA}', f'{folder}/{COMMITTED}']
    self._mirror.push(name for name in names if name not in last)
    for name in last:
      self._mirror.push([name])
    self.forget(step)
    for gone in complete_steps(self._mirror.url, self._mirror.listing()):
      if not (self.local / f'checkpoint_{gone}').exists():
        self._remove(f'checkpoint_{gone}')

  def send_rest(self) -> None:
    """Copies what is new in the folder outside of checkpoints."""
    changed: dict[str, tuple[int, int]] = {}
    for path in self._rest():
      status = path.stat()
      name = path.relative_to(self.local).as_posix()
      changed[name] = status.st_mtime_ns, status.st_size
    new = {n: s for n, s in changed.items() if self._sent.get(n) != s}
    self._mirror.push(new)
    self._sent |= new

  def set_aside(self, step: int) -> str:
    """Gives a damaged checkpoint another name there; returns it."""
    folder, names = f'checkpoint_{step}/', self._mirror.listing()
    name, again = f'torn_checkpoint_{step}', 1
    while any(each.startswith(f'{name}/') for each in names):
      again += 1
      name = f'torn_checkpoint_{step}_{again}'
    for each in _marks_first(names, folder):
      path = f'{self._mirror.url}/{each}'
      target = f'{self._mirror.url}/{name}/{each.removeprefix(folder)}'
      with remote.explaining(path, _REMEDY, 'cannot be moved'):
        remote.move(path, target)
    return name

  def _remove(self, folder: str) -> None:
    """Removes a folder there; a checkpoint stops being one first."""
    names = _marks_first(self._mirror.listing(), f'{folder}/')
    self._mirror.remove(names[:2])
    self._mirror.remove(names[2:])

  def _rest(self) -> list[Path]:
    return [
      path
      for each in self.local.iterdir()
      if not re.match(r'(torn_)?checkpoint_\d+', each.name)
      for path in ([each] if each.is_file() else each.rglob('*'))
      if path.is_file()
    ]


def _steps(names: Iterable[str]) -> set[int]:
  found = map(_STEP.fullmatch, names)
  return {int(match[1]) for match in found if match}


def _marks_first(names: Iterable[str], folder: str) -> list[str]:
  """The files of a checkpoint, first what says that it is complete."""
  marks = [f'{folder}{COMMITTED}', f'{folder}{METADATA}']
  inner = [name for name in names if name.startswith(folder)]
  return sorted(inner, key=lambda name: (name not in marks, name))

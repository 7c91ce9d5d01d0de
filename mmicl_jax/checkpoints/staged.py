"""Lets Orbax write and read a remote MODEL_DIR in a folder of this machine.

A checkpoint is saved to the local folder and then copied to the remote one. The
files that mark it as complete are copied last, so that nobody ever takes a part
of a checkpoint for the whole. The local folder keeps the small files of all
checkpoints, so that Orbax knows which to keep, but has arrays only while they
are written or read.
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

# The files that Orbax writes last.
METADATA, COMMITTED = '_CHECKPOINT_METADATA', 'commit_success.txt'
_REMEDY = 'look at the storage, then start again'
_STEP = re.compile(r'checkpoint_(\d+)/(.+)')


def complete_steps(url: str, names: Iterable[str]) -> set[int]:
  """The steps of a remote MODEL_DIR's complete checkpoints.

  names: of all its files.
  """
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
  """Copies a remote checkpoint_<step>, or a remote MODEL_DIR's newest.

  The files beside the checkpoint are copied, too. Returns the copy's path; None
  if the MODEL_DIR has no checkpoint.
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
  """Whether a checkpoint was complete before somebody copied it there."""
  path = f'{checkpoint}/{METADATA}'
  with remote.explaining(path, _REMEDY, 'cannot be read at present'):
    text = remote.read_bytes(path)
  try:
    return json.loads(text)['commit_timestamp_nsecs'] is not None
  except (ValueError, KeyError, TypeError):
    return False


def stage_of(model_dir: str | os.PathLike) -> 'Stage | None':
  """A stage for a remote MODEL_DIR; None if Orbax can write to it itself.

  It can on this machine, and on gs:// for several processes, whose parts of a
  checkpoint it joins there as on a shared disk. Raises UserError for several
  processes and another remote storage.
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
  remote.file_system(url)  # raises if a package is missing
  return None


class Stage:
  """The local copy of a remote MODEL_DIR that a run writes to.

  local: Orbax's folder. All methods raise UserError if the storage does not
  answer.
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
    """Copies a checkpoint's arrays to the local folder, to be read."""
    folder = f'checkpoint_{step}/'
    self._mirror.pull(lambda name: name.startswith(folder))

  def forget(self, step: int) -> None:
    """Removes the local copy of a checkpoint's arrays."""
    self._mirror.drop(f'checkpoint_{step}/state')

  def send_after(self, step: int, saved: Callable[[], None]) -> None:
    """Calls `saved`, which waits for Orbax, and then `send`, in a thread."""

    def job() -> None:
      saved()
      self.send(step)

    self._sending = self._sender.submit(job)

  def wait(self) -> None:
    """Waits for the thread of `send_after`; raises its error."""
    sending, self._sending = self._sending, None
    if sending is not None:
      sending.result()

  def send(self, step: int) -> None:
    """Copies a complete checkpoint to the remote MODEL_DIR.

    Before it copies other new files, such as summaries. Afterwards it removes
    the checkpoints that Orbax has removed here.
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
    self._remove_gone()

  def send_metrics(self, step: int) -> None:
    """Copies the metrics of a checkpoint that was sent before."""
    self._mirror.push([f'checkpoint_{step}/metrics/metrics'])
    self._remove_gone()

  def send_rest(self) -> None:
    """Copies new files outside of checkpoints to the remote MODEL_DIR."""
    changed: dict[str, tuple[int, int]] = {}
    for path in self._rest():
      status = path.stat()
      name = path.relative_to(self.local).as_posix()
      changed[name] = status.st_mtime_ns, status.st_size
    new = {n: s for n, s in changed.items() if self._sent.get(n) != s}
    self._mirror.push(new)
    self._sent |= new

  def set_aside(self, step: int) -> str:
    """Renames a damaged remote checkpoint; returns its new name."""
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

  def _remove_gone(self) -> None:
    for step in complete_steps(self._mirror.url, self._mirror.listing()):
      if not (self.local / f'checkpoint_{step}').exists():
        self._remove(f'checkpoint_{step}')

  def _remove(self, folder: str) -> None:
    """Removes a remote folder, beginning with what marks it as complete."""
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
  """The files of a checkpoint; those that mark it as complete come first."""
  marks = [f'{folder}{COMMITTED}', f'{folder}{METADATA}']
  inner = [name for name in names if name.startswith(folder)]
  return sorted(inner, key=lambda name: (name not in marks, name))

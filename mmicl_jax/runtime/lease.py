"""Leases: one process at a time writes an output on a bucket.

A bucket has no locks that end with their process. So the writer keeps a small
file beside its output, `.NAME.lock`, which says who writes, and writes it anew
every BEAT seconds. Who finds such a file looks at it for QUIET seconds. If it
changes, somebody writes. If not, its process is gone, and the lease is taken
over. No two clocks are compared.
"""

import contextlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

from mmicl_jax.errors import UserError
from mmicl_jax.runtime import remote

log = logging.getLogger(__name__)

BEAT = 10.0  # seconds between two signs of life
QUIET = 60.0  # seconds without one, after which a holder is taken for gone
SETTLE = 1.0  # seconds in which another process may have begun, too


@contextlib.contextmanager
def leased(path: str | os.PathLike) -> Iterator[None]:
  """Holds the lease of a remote output during a block.

  Raises UserError if another process writes the output, and at the end if
  another one has taken over meanwhile. If the storage does not let the lease be
  kept, the block runs without; writing the output raises the reason, if any.
  """
  remote.file_system(path)  # names the output if a package is missing
  lease = _Lease(remote.address(path).rstrip('/'))
  try:
    lease.take()
  except UserError:
    raise
  except Exception as error:
    log.info('%s is written without a lease: %s', lease.path, error)
    yield
    return
  try:
    yield
  finally:
    lease.give_back()
  lease.check()


class _Lease:
  """What one process writes to the file of a lease; path: of the output."""

  def __init__(self, path: str):
    folder, _, name = path.rpartition('/')
    self.path, self._file = path, f'{folder}/.{name}.lock'
    self._content = {
      'token': uuid.uuid4().hex,
      'host': socket.gethostname(),
      'process': os.getpid(),
      'processes_of': _machine(),
      'began': time.strftime('%Y-%m-%d %H:%M:%S %Z'),
      'beat': 0,
    }
    self._end = threading.Event()
    self._thread = threading.Thread(target=self._live, daemon=True)
    self._lost: dict[str, Any] | None = None

  def take(self) -> None:
    found = self._read()
    if found is not None and not self._is_gone(found):
      raise self._taken(found)
    self._write()
    time.sleep(SETTLE)
    if found := self._other():
      raise self._taken(found)
    self._thread.start()

  def give_back(self) -> None:
    self._end.set()
    self._thread.join()
    # What cannot be removed is found to be of a process that is gone.
    with contextlib.suppress(Exception):
      if self._lost is None and not self._other():
        remote.remove(self._file)

  def check(self) -> None:
    if self._lost is not None:
      raise UserError(
        f'{self.path}: another process{_who(self._lost)} took it over while '
        'this one wrote it without a sign of life: look at what is there'
      )

  def _live(self) -> None:
    while not self._end.wait(BEAT):
      with contextlib.suppress(Exception):  # it is tried again
        self._lost = self._other()
        if self._lost is not None:
          log.warning('%s is now written by another process, too', self.path)
          return
        self._write()

  def _is_gone(self, found: dict[str, Any]) -> bool:
    """Whether the holder has ended; waits to see it where that is needed."""
    if found.get('processes_of') == _machine() and not _lives(found):
      return True
    log.warning(
      '%s was written by another process%s; waiting for up to %.0f s to see '
      'whether it still is',
      self.path,
      _who(found),
      QUIET,
    )
    end = time.monotonic() + QUIET
    while time.monotonic() < end:
      time.sleep(BEAT / 5)
      now = self._read()
      if now != found:
        return now is None
    return True

  def _other(self) -> dict[str, Any] | None:
    """What another process has written to the file, if it has."""
    found = self._read()
    if found is None or found.get('token') == self._content['token']:
      return None
    return found

  def _read(self) -> dict[str, Any] | None:
    try:
      data = remote.read_bytes(self._file)
    except FileNotFoundError:
      return None
    try:
      return dict(json.loads(data))
    except (ValueError, TypeError):
      return {'token': repr(data)}

  def _write(self) -> None:
    self._content['beat'] += 1
    remote.put_bytes(self._file, json.dumps(self._content).encode())

  def _taken(self, found: dict[str, Any]) -> UserError:
    return UserError(
      f'{self.path} is being written by another process{_who(found)}: wait for '
      'its end, or choose another place'
    )


def _who(found: dict[str, Any]) -> str:
  if 'host' not in found:
    return ''
  return f' ({found["host"]}, since {found.get("began")})'


def _machine() -> str:
  """Names what numbers this process: a start of a machine or container."""
  parts = [socket.gethostname()]
  with contextlib.suppress(OSError):  # Linux only
    with open('/proc/sys/kernel/random/boot_id') as file:
      parts.append(file.read().strip())
    parts.append(os.readlink('/proc/self/ns/pid'))
  return ' '.join(parts)


def _lives(found: dict[str, Any]) -> bool:
  try:
    os.kill(int(found['process']), 0)
  except (ProcessLookupError, OverflowError):
    return False
  except (PermissionError, KeyError, ValueError, TypeError):
    pass
  return True

"""Tells what an error of reading a checkpoint means, and tries again.

Damage is a checksum that differs, or a file that is missing or cut short at
every attempt; then a run takes the checkpoint before. All other errors of files
may pass, or somebody can mend them: reading is tried again for some seconds,
then the run ends with one sentence and nothing is moved. A lack of memory ends
it, too.
"""

import enum
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from etils import epath

from mmicl_jax.errors import UserError

T = TypeVar('T')
log = logging.getLogger(__name__)

PAUSES = (0.5, 2.0, 8.0)  # seconds between the attempts to read

# The beginnings of the error texts of TensorStore, XLA and gRPC.
_STATUS = re.compile(
  r'(?:\w+: )?(CANCELLED|UNKNOWN|INVALID_ARGUMENT|DEADLINE_EXCEEDED|NOT_FOUND|'
  r'PERMISSION_DENIED|RESOURCE_EXHAUSTED|FAILED_PRECONDITION|ABORTED|'
  r'OUT_OF_RANGE|INTERNAL|UNAVAILABLE|DATA_LOSS|UNAUTHENTICATED):'
)
_LOST = {
  'NOT_FOUND',
  'OUT_OF_RANGE',  # the file is too short
  'DATA_LOSS',  # a checksum in the file differs
  'FAILED_PRECONDITION',  # a file that should hold JSON does not
  'INVALID_ARGUMENT',
}


class Damage(Exception):
  """What was saved is missing, cut short or changed."""


class Fault(enum.Enum):
  """What an error of reading a checkpoint means."""

  DAMAGE = enum.auto()
  PASSING = enum.auto()
  MEMORY = enum.auto()
  UNKNOWN = enum.auto()  # not about files; a bug, for instance


def fault_of(error: BaseException) -> Fault:
  """Judges an error by its type or status, or by those of its causes."""
  for each in _causes(error):
    text = str(each)
    if isinstance(each, Damage | EOFError):
      return Fault.DAMAGE
    if isinstance(each, UnicodeDecodeError | json.JSONDecodeError):
      return Fault.DAMAGE
    if isinstance(each, MemoryError):
      return Fault.MEMORY
    if isinstance(each, OSError):
      absent = FileNotFoundError | NotADirectoryError | IsADirectoryError
      return Fault.DAMAGE if isinstance(each, absent) else Fault.PASSING
    if status := _STATUS.match(text):
      # With an errno the system lacks something else, such as open files.
      if status[1] == 'RESOURCE_EXHAUSTED' and 'os_error_code' not in text:
        return Fault.MEMORY
      return Fault.DAMAGE if status[1] in _LOST else Fault.PASSING
    if 'out of memory' in text.lower():
      return Fault.MEMORY
  return Fault.UNKNOWN


def patiently(path: str | os.PathLike, call: Callable[[], T]) -> T:
  """Returns call(), which reads `path`; tries again, with PAUSES, if it fails.

  Raises Damage if every attempt finds damage, UserError for faults that do not
  pass and for too little memory, and errors that are not about files unchanged.
  """
  lost, passing, odd = None, None, None
  for pause in (*PAUSES, None):
    try:
      return call()
    except UserError:
      raise
    except Exception as error:
      fault = fault_of(error)
      if fault is Fault.MEMORY:
        raise no_memory(path, error) from error
      # Orbax takes a file that the disk fails to show for missing, and then
      # raises odd errors. So the disk is checked here.
      if fault is not Fault.PASSING and (hidden := _hidden(path)):
        fault, error = Fault.PASSING, hidden
      if fault is Fault.DAMAGE:
        lost = error
      elif fault is Fault.PASSING:
        passing = error
      else:
        odd = error
      if pause is not None:
        log.info('%s: %s; trying again', path, reason(error))
        time.sleep(pause)
  if passing is None and odd is not None:
    raise odd
  if passing is None:
    raise Damage(reason(lost)) from lost
  raise UserError(
    f'{os.fspath(path)} cannot be read at present ({reason(passing)}), in '
    f'{len(PAUSES) + 1} attempts: nothing was moved or changed; look at the '
    'storage, then start again'
  ) from passing


def _hidden(path: str | os.PathLike) -> OSError | None:
  """An error of the storage below `path`, except a missing file, or None."""
  try:
    _look(epath.Path(path))
  except OSError as error:
    return error if fault_of(error) is Fault.PASSING else None
  return None


def _look(path: epath.Path) -> None:
  if path.stat().is_directory:
    for inner in path.iterdir():
      _look(inner)


def no_memory(path: str | os.PathLike, error: BaseException) -> UserError:
  """The UserError for too little memory to read `path`."""
  return UserError(
    f'there is not enough memory for {os.fspath(path)} ({reason(error)}): the '
    'checkpoint is untouched; use more devices or a smaller model, or end '
    'what else holds memory'
  )


def reason(error: BaseException | None) -> str:
  """An error's first telling line, without TensorStore's details."""
  for each in _causes(error):
    if isinstance(each, OSError) and each.strerror:
      return each.strerror
    text = str(each).split('[tensorstore_spec=')[0].strip()
    if text and 'See full TensorStore details' not in text:
      line = text.splitlines()[0]
      return line if len(line) <= 200 else f'{line[:90]} ... {line[-90:]}'
  return repr(error)[:200]


def _causes(error: BaseException | None) -> Iterator[BaseException]:
  while error is not None:
    yield error
    error = error.__cause__

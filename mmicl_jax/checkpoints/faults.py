"""What an error of reading a checkpoint means, and trying again.

Damage is a sum that differs, or a file that is absent or cut short however
often it is read: then a run takes the checkpoint before. All other errors of
files pass, or are somebody's to mend: they are waited for, then end the run in
one sentence, and nothing is moved. Too little memory is called that.
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

# How TensorStore, XLA and gRPC begin the texts of their errors.
_STATUS = re.compile(
  r'(?:\w+: )?(CANCELLED|UNKNOWN|INVALID_ARGUMENT|DEADLINE_EXCEEDED|NOT_FOUND|'
  r'PERMISSION_DENIED|RESOURCE_EXHAUSTED|FAILED_PRECONDITION|ABORTED|'
  r'OUT_OF_RANGE|INTERNAL|UNAVAILABLE|DATA_LOSS|UNAUTHENTICATED):'
)
_LOST = {
  'NOT_FOUND',
  'OUT_OF_RANGE',  # the file is too short
  'DATA_LOSS',  # a sum in the file differs
  'FAILED_PRECONDITION',  # what should be JSON is none
  'INVALID_ARGUMENT',
}


class Damage(Exception):
  """What was saved is gone, cut short or other than it was."""


class Fault(enum.Enum):
  """What an error means."""

  DAMAGE = enum.auto()
  PASSING = enum.auto()
  MEMORY = enum.auto()
  UNKNOWN = enum.auto()  # no error of files: a bug, for instance


def fault_of(error: BaseException) -> Fault:
  """By type, errno or status of an error, or of the first cause that tells."""
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
      # The system, too, runs out of things: open files, for instance.
      if status[1] == 'RESOURCE_EXHAUSTED' and 'os_error_code' not in text:
        return Fault.MEMORY
      return Fault.DAMAGE if status[1] in _LOST else Fault.PASSING
    if 'out of memory' in text.lower():
      return Fault.MEMORY
  return Fault.UNKNOWN


def patiently(path: str | os.PathLike, call: Callable[[], T]) -> T:
  """call(), which reads `path`, again and again while files fail.

  Raises Damage if each attempt finds some; UserError for faults that do not
  pass and for too little memory; errors that have nothing to do with files,
  if they last, as they are.
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
      # Orbax asks whether files exist, where an error of the disk counts as no,
      # and then fails in odd ways: we look ourselves.
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
  """An error of the storage, other than absence, below `path`."""
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
  return UserError(
    f'there is not enough memory for {os.fspath(path)} ({reason(error)}): the '
    'checkpoint is untouched; use more devices or a smaller model, or end '
    'what else holds memory'
  )


def reason(error: BaseException | None) -> str:
  """An error's first telling line, without what TensorStore adds to it."""
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

"""Errors that a user can mend: one sentence, exit status 2, no traceback."""

import numbers
import os
from typing import Any


class UserError(Exception):
  """A wrong input, not a bug; names the file, line or field and the remedy.

  The command line prints the message to stderr and exits with status 2. Library
  callers can catch it like any exception.
  """


def check_type(
  name: str, value: Any, kinds: type | tuple[type, ...], what: str
) -> None:
  """Raises UserError unless a value is of a kind: 'NAME is a list: give WHAT.'

  True and False are no numbers here.
  """
  truth = isinstance(value, bool) and kinds is numbers.Integral
  if truth or not isinstance(value, kinds):
    raise UserError(f'{name} is a {type(value).__name__}: give {what}.')


def explained(
  error: BaseException,
  path: str | os.PathLike,
  remedy: str,
  what: str = 'could not be written',
) -> UserError:
  """Makes a UserError of an error about a file: 'PATH WHAT (reason): REMEDY'.

  error: an OSError, or what the package behind a remote path raises.
  """
  reason = (getattr(error, 'strerror', None) or str(error)).strip()
  reason = reason.splitlines()[0] if reason else type(error).__name__
  return UserError(f'{os.fspath(path)} {what} ({reason}): {remedy}')

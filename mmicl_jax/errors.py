"""Errors a person can act on: one sentence, exit status 2, no traceback."""

import os


class UserError(Exception):
  """Wrong input, not a bug: names the file, line or field and the remedy.

  The command line prints the message on stderr and exits with 2. Library
  callers catch it like any exception.
  """


def explained(
  error: BaseException,
  path: str | os.PathLike,
  remedy: str,
  what: str = 'could not be written',
) -> UserError:
  """What to raise for the error of a file: file, what, reason, remedy.

  error: an OSError, or what the package behind a remote path raises.
  """
  reason = (getattr(error, 'strerror', None) or str(error)).strip()
  reason = reason.splitlines()[0] if reason else type(error).__name__
  return UserError(f'{os.fspath(path)} {what} ({reason}): {remedy}')

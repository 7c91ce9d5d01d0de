"""Errors that a user can mend: one sentence, exit status 2, no traceback."""

import os


class UserError(Exception):
  """A wrong input, not a bug; names the file, line or field and the remedy.

  The command line prints the message to stderr and exits with status 2. Library
  callers can catch it like any exception.
  """


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

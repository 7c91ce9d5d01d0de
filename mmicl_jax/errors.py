"""Errors a person can act on: one sentence, exit status 2, no traceback."""


class UserError(Exception):
  """Wrong input, not a bug: names the file, line or field and the remedy.

  The command line prints the message on stderr and exits with 2. Library
  callers catch it like any exception.
  """

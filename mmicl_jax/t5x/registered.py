"""Registers SeqIO tasks from gin files, for commands that read none."""

import os

from mmicl_jax.configure import gin_files
from mmicl_jax.errors import UserError
from mmicl_jax.t5x import seqio_data

VARIABLE = 'MMICL_TASK'
TASK_FILE = 'tasks/mic_records.gin'


def register_from_gin(*files: str) -> str:
  """Registers what `files` and those named in MMICL_TASK declare.

  Returns the name of the task or mixture. A run under gin that imports a module
  which calls this keeps its own configuration. Raises UserError if MMICL_TASK
  names no file.
  """
  own = [name for name in os.environ.get(VARIABLE, '').split(',') if name]
  if not own:
    raise UserError(
      f'set {VARIABLE} to the gin files of a model and of your data, with a '
      'comma between them'
    )
  with gin_files.apart():
    gin_files.parse_gin([TASK_FILE, *files, *own])  # what is the user's wins
    return gin_files.call_configured(seqio_data.mic_records)

"""Registers `mic_records`, as the gin files named in MMICL_TASK declare it.

T5X's runs need no such module: gin_configs/t5x declares the task itself. This
one is for commands without gin:

    MMICL_TASK=models/tiny.gin,my_data.gin seqio_cache_tasks \\
      --module_import=tasks.mic_records --tasks=mic_records \\
      --output_cache_dir=cache

where my_data.gin sets DATA, VOCABULARY and the lengths.
"""

import os

from mmicl_jax.configure import gin_files
from mmicl_jax.errors import UserError
from mmicl_jax.t5x import seqio_data

VARIABLE = 'MMICL_TASK'
RUN = 'tasks/mic_records.gin'


def register_records() -> str:
  """Registers the task and returns its name.

  A run under gin that imports this module keeps its own configuration.
  """
  files = [name for name in os.environ.get(VARIABLE, '').split(',') if name]
  if not files:
    raise UserError(
      f'set {VARIABLE} to the gin files of a model and of your data, with a '
      'comma between them'
    )
  with gin_files.apart():
    gin_files.parse_gin([RUN, *files])  # what is the user's wins
    return gin_files.call_configured(seqio_data.mic_records)


register_records()

"""Registers `mic_records`, as the gin files named in MMICL_TASK declare it.

T5X's runs need no such module: gin_configs/t5x declares the task itself. This
one is for commands without gin:

    MMICL_TASK=models/tiny.gin,my_data.gin seqio_cache_tasks \\
      --module_import=tasks.mic_records --tasks=mic_records \\
      --output_cache_dir=cache

where my_data.gin sets DATA, VOCABULARY and the lengths.
"""

from mmicl_jax.t5x.registered import register_from_gin

register_from_gin()

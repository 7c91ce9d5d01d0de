"""Registers the mixture `mic` and its tasks, `mic_<set>`, for SeqIO.

The gin files named in MMICL_TASK set SETS_DIR, VOCABULARY, the model and the
lengths: see tasks/mic_records.py.
"""

from mmicl_jax.t5x.registered import register_from_gin

register_from_gin('data/mic.gin')

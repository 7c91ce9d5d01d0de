"""Weights from PyTorch and back, exactly, and the proof.

`load_pretrained` and `save_pretrained` work in memory; `to_jax` and
`to_pytorch` from disk to disk, one parameter at a time; `check` compares both
models layer by layer.
"""

from mmicl_jax.convert.checking import check
from mmicl_jax.convert.disk import to_jax, to_pytorch
from mmicl_jax.convert.loading import load_pretrained
from mmicl_jax.convert.saving import save_pretrained

__all__ = [
  'check',
  'load_pretrained',
  'save_pretrained',
  'to_jax',
  'to_pytorch',
]

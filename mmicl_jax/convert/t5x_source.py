"""Reads T5X's own checkpoints of FLAN-T5, scanned or not.

Its tensors get Hugging Face's names, which the table of rules.py knows. It
reads both of T5X's formats: Orbax, and the former one with a folder for each
array (`target.encoder.layers_0.mlp.wi_0.kernel`). In scanned checkpoints the
second axis of each array is that of layers.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorstore

from mmicl_jax.convert.streaming import CheckpointReader
from mmicl_jax.convert.tensors import Tensor
from mmicl_jax.errors import UserError
from mmicl_jax.models.configs import T5Config
from mmicl_jax.runtime.remote import absolute_path

# T5X's names within a layer -> Hugging Face's within a block. All kernels of
# T5X are [in, out]; Hugging Face's are [out, in].
ATTENTION = {'query': 'q', 'key': 'k', 'value': 'v', 'out': 'o'}
ENCODER = {
  'pre_attention_layer_norm/scale': 'layer.0.layer_norm.weight',
  'pre_mlp_layer_norm/scale': 'layer.1.layer_norm.weight',
}
DECODER = {
  'pre_self_attention_layer_norm/scale': 'layer.0.layer_norm.weight',
  'pre_cross_attention_layer_norm/scale': 'layer.1.layer_norm.weight',
  'pre_mlp_layer_norm/scale': 'layer.2.layer_norm.weight',
}
for _theirs, _ours in ATTENTION.items():
  ENCODER[f'attention/{_theirs}/kernel'] = (
    f'layer.0.SelfAttention.{_ours}.weight'
  )
  DECODER[f'self_attention/{_theirs}/kernel'] = (
    f'layer.0.SelfAttention.{_ours}.weight'
  )
  DECODER[f'encoder_decoder_attention/{_theirs}/kernel'] = (
    f'layer.1.EncDecAttention.{_ours}.weight'
  )
for _name in ('wi_0', 'wi_1', 'wo'):
  ENCODER[f'mlp/{_name}/kernel'] = f'layer.1.DenseReluDense.{_name}.weight'
  DECODER[f'mlp/{_name}/kernel'] = f'layer.2.DenseReluDense.{_name}.weight'
BIAS = 'block.0.layer.0.SelfAttention.relative_attention_bias.weight'
OTHERS = {
  'token_embedder/embedding': ('shared.weight', False),
  'decoder/logits_dense/kernel': ('lm_head.weight', True),
  'encoder/encoder_norm/scale': ('encoder.final_layer_norm.weight', False),
  'decoder/decoder_norm/scale': ('decoder.final_layer_norm.weight', False),
  'encoder/relpos_bias/rel_embedding': (f'encoder.{BIAS}', True),
  'decoder/relpos_bias/rel_embedding': (f'decoder.{BIAS}', True),
}
_LAYER = re.compile(r'(encoder|decoder)/layers_(\d+)/(.+)')
_SCANNED = re.compile(r'(encoder|decoder)/(?:\1|layers)/(.+)')

# (shape, dtype, reader); the reader takes a layer's number, or nothing for all.
Array = tuple[tuple[int, ...], np.dtype, Callable[..., np.ndarray]]


def open_t5x(
  path: str | os.PathLike,
) -> tuple[T5Config, dict[str, Tensor]]:
  """Returns (T5Config, tensors by Hugging Face's names).

  Raises UserError if the checkpoint is not a T5 1.1 of T5X.
  """
  arrays = _arrays(Path(path))
  tensors: dict[str, Tensor] = {}
  for name, array in arrays.items():
    _translate(str(path), name, array, tensors)
  return _config(path, tensors), tensors


def _translate(
  where: str, name: str, array: Array, tensors: dict[str, Tensor]
) -> None:
  prefix = 'language_model.'
  shape, dtype, read = array
  if name in OTHERS:
    torch, turned = OTHERS[name]
    tensors[prefix + torch] = _tensor(where, shape, dtype, read, turned)
    return
  if match := _LAYER.fullmatch(name):
    stack, i, inner = match[1], int(match[2]), match[3]
    if block := _block(stack, inner):
      torch = f'{prefix}{stack}.block.{i}.{block}'
      turned = len(shape) == 2
      tensors[torch] = _tensor(where, shape, dtype, read, turned)
      return
  if match := _SCANNED.fullmatch(name):
    stack, inner = match[1], match[2]
    if (block := _block(stack, inner)) and len(shape) > 1:
      for i in range(shape[1]):
        torch = f'{prefix}{stack}.block.{i}.{block}'
        one = (shape[0], *shape[2:])
        tensors[torch] = _tensor(
          where, one, dtype, lambda i=i: read(i), len(one) == 2
        )
      return
  raise UserError(
    f'{where} holds {name} {shape}, which T5 1.1 does not have: name a T5X '
    'checkpoint of FLAN-T5 or T5 1.1'
  )


def _block(stack: str, inner: str) -> str | None:
  return (ENCODER if stack == 'encoder' else DECODER).get(inner)


def _tensor(where, shape, dtype, read, turned: bool) -> Tensor:
  if not turned:
    return Tensor(where, shape, dtype, read)
  return Tensor(where, shape[::-1], dtype, lambda: read().T)


def _arrays(path: Path) -> dict[str, Array]:
  """All parameters by names whose parts are joined by '/'."""
  folders = [p for p in path.glob('target.*') if (p / '.zarray').is_file()]
  if folders:
    return {
      p.name.removeprefix('target.').replace('.', '/'): _zarr(p)
      for p in folders
    }
  reader = CheckpointReader(path)
  last: dict[str, np.ndarray] = {}  # the layers of a stack are read in turn

  def array(name: str) -> Array:
    like = reader.shapes[name]

    def read(layer: int | None = None) -> np.ndarray:
      if name not in last:
        last.clear()
        last[name] = reader.read(name)
      return last[name] if layer is None else last[name][:, layer]

    return tuple(like.shape), np.dtype(like.dtype), read

  return {name: array(name) for name in reader.shapes}


def _zarr(folder: Path) -> Array:
  try:
    store = tensorstore.open(
      {
        'driver': 'zarr',
        'kvstore': {'driver': 'file', 'path': absolute_path(folder)},
      }
    ).result()
  except ValueError as error:
    raise UserError(
      f'{folder} is damaged ({str(error)[:150]}): copy the checkpoint again'
    ) from error

  def read(layer: int | None = None) -> np.ndarray:
    part = store if layer is None else store[:, layer]
    return np.asarray(part.read().result())

  return tuple(store.shape), store.dtype.numpy_dtype, read


def _config(path: str | os.PathLike, tensors: dict[str, Tensor]) -> T5Config:
  """The configuration, from the shapes; T5X's GELU is the tanh form."""
  prefix = 'language_model.'
  try:
    rows, width = tensors[f'{prefix}shared.weight'].shape
    buckets, heads = tensors[f'{prefix}encoder.{BIAS}'].shape
    block = f'{prefix}encoder.block.0'
    inner = tensors[f'{block}.layer.0.SelfAttention.q.weight'].shape[0]
    mlp = tensors[f'{block}.layer.1.DenseReluDense.wi_0.weight'].shape[0]
  except KeyError as error:
    raise UserError(
      f'{path} lacks {error}: name a T5X checkpoint of FLAN-T5 or T5 1.1'
    ) from error
  layers = [
    sum(
      name.startswith(f'{prefix}{stack}.block.')
      and name.endswith('.layer.0.layer_norm.weight')
      for name in tensors
    )
    for stack in ('encoder', 'decoder')
  ]
  return T5Config(
    hidden_size=width,
    num_encoder_layers=layers[0],
    num_decoder_layers=layers[1],
    num_heads=heads,
    head_dim=inner // heads,
    mlp_dim=mlp,
    vocab_size=rows,
    relative_buckets=buckets,
    activation='gelu_new',
  )

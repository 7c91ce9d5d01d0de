"""Reads EVA's ViT-g/14 as LAVIS publishes it (eva_vit_g.pth).

Its tensors get Hugging Face's names, which the table of rules.py knows. BLIP-2
uses all blocks but the last, and its own layer norm after them.
"""

import os

import numpy as np

from mmicl_jax.convert.tensors import Tensor, open_file
from mmicl_jax.errors import UserError
from mmicl_jax.models.configs import ViTConfig

LAYERS = 39
NAMES = {
  'norm1': 'layer_norm1',
  'norm2': 'layer_norm2',
  'attn.proj': 'self_attn.projection',
  'mlp.fc1': 'mlp.fc1',
  'mlp.fc2': 'mlp.fc2',
}


def open_eva(
  path: str | os.PathLike, notes: list[str]
) -> tuple[ViTConfig, dict[str, Tensor]]:
  """Opens the file; returns (ViTConfig, tensors by Hugging Face's names).

  notes: gets a sentence for each decision. Raises UserError if the file is not
  EVA's.
  """
  tensors = open_file(path)
  tensors = {n.removeprefix('visual_encoder.'): t for n, t in tensors.items()}
  blocks = {int(n.split('.')[1]) for n in tensors if n.startswith('blocks.')}
  needed = ('cls_token', 'pos_embed', 'patch_embed.proj.weight')
  absent = [n for n in needed if n not in tensors]
  absent += [] if blocks else ['blocks']
  if absent:
    raise UserError(
      f'{path} is not an EVA ViT: it lacks {", ".join(absent)}; name '
      'eva_vit_g.pth, or a BLIP-2 directory'
    )
  layers = min(len(blocks), LAYERS)
  width = tensors['cls_token'].shape[-1]
  patch = tensors['patch_embed.proj.weight'].shape[-1]
  grid = round((tensors['pos_embed'].shape[1] - 1) ** 0.5)
  # The width of EVA's heads is 88 in ViT-g and 64 in smaller models.
  head = 88 if width % 88 == 0 else 64 if width % 64 == 0 else width
  config = ViTConfig(
    hidden_size=width,
    num_layers=layers,
    num_heads=width // head,
    mlp_dim=tensors['blocks.0.mlp.fc1.weight'].shape[0],
    image_size=grid * patch,
    patch_size=patch,
  )
  out = {
    'vision_model.embeddings.class_embedding': tensors['cls_token'],
    'vision_model.embeddings.position_embedding': tensors['pos_embed'],
  }
  for kind in ('weight', 'bias'):
    name = f'vision_model.embeddings.patch_embedding.{kind}'
    out[name] = tensors[f'patch_embed.proj.{kind}']
    norm = tensors.get(f'ln_vision.{kind}')
    out[f'vision_model.post_layernorm.{kind}'] = norm or _constant(
      (width,), float(kind == 'weight')
    )
  for i in range(layers):
    there, here = f'blocks.{i}', f'vision_model.encoder.layers.{i}'
    try:
      for a, b in NAMES.items():
        for kind in ('weight', 'bias'):
          out[f'{here}.{b}.{kind}'] = tensors[f'{there}.{a}.{kind}']
      qkv = tensors[f'{there}.attn.qkv.weight']
      out[f'{here}.self_attn.qkv.weight'] = qkv
      out[f'{here}.self_attn.qkv.bias'] = _qkv_bias(
        tensors[f'{there}.attn.q_bias'], tensors[f'{there}.attn.v_bias']
      )
    except KeyError as error:
      raise UserError(
        f'{path} lacks {error}: the download is incomplete'
      ) from error
  dropped = sorted(
    n
    for n in tensors
    if n.startswith('blocks.') and int(n.split('.')[1]) >= layers
  )
  if dropped:
    notes.append(
      f'of the ViT, {len(blocks)} blocks, the first {layers} are taken, as '
      'BLIP-2 does'
    )
  if 'ln_vision.weight' not in tensors:
    notes.append("the ViT's final norm is new: EVA's file has none")
  return config, out


def _constant(shape: tuple[int, ...], value: float) -> Tensor:
  dtype = np.dtype(np.float32)
  return Tensor('', shape, dtype, lambda: np.full(shape, value, dtype))


def _qkv_bias(q: Tensor, v: Tensor) -> Tensor:
  """The fused bias [q, 0, v], since EVA's keys have no bias."""

  def read() -> np.ndarray:
    queries = q.read()
    return np.concatenate([queries, np.zeros_like(queries), v.read()])

  return Tensor(q.file, (3 * q.shape[0],), q.dtype, read)

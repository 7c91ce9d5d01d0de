"""Makes a model from separately pre-trained towers, which stage 1 begins with.

T5 comes from a FLAN-T5 of Hugging Face or T5X. The ViT and the Q-Former come
from a BLIP-2 or InstructBLIP checkpoint with any language model, or from a
checkpoint of the module alone; the ViT can come from EVA's file, too. What no
part has is random.
"""

import dataclasses
import os
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from mmicl_jax.convert import eva, rules, t5x_source
from mmicl_jax.convert.hf_config import qformer_from_hf, runs_at, vit_from_hf
from mmicl_jax.convert.hf_text import head_scale, t5_from_hf
from mmicl_jax.convert.loading import find_checkpoint
from mmicl_jax.convert.source import (
  DTYPES,
  WeightSource,
  check_tensors,
  read_json,
  rename,
  resolve_ties,
)
from mmicl_jax.convert.tensors import Tensor, open_directory
from mmicl_jax.errors import UserError
from mmicl_jax.models.configs import MMICLConfig, with_execution
from mmicl_jax.runtime.mirror import local_file
from mmicl_jax.runtime.remote import is_file

Tensors = dict[str, Tensor]
IMAGE_TOKEN, VOCABULARY = 32100, 32121  # the id of 图; tokens with MIC's


class PartsSource(WeightSource):
  """A WeightSource whose missing parameters are random.

  They depend on the seed and on the parameter's path.
  """

  seed: int = 0

  def read(self, path: str) -> np.ndarray:
    if all(slot.torch in self.tensors for slot in self._slots[path]):
      return super().read(path)
    like = self.shapes[path]
    dtype = DTYPES[self.config.execution.param_dtype]
    rng = np.random.default_rng([self.seed, zlib.crc32(path.encode())])
    name = path.rsplit('/', 1)[-1]
    if name in ('scale', 'bias'):
      return np.full(like.shape, float(name == 'scale'), dtype)
    std = 0.02
    if name == 'kernel':
      slot = self._slots[path][0]
      std = slot.torch_shape[-1] ** -0.5
    values = rng.standard_normal(like.shape, np.float32)
    return (values * np.float32(std)).astype(dtype)


def open_parts(
  *,
  t5: str | os.PathLike,
  vit: str | os.PathLike | None = None,
  qformer: str | os.PathLike | None = None,
  instruction: bool = False,
  num_queries: int = 32,
  activation: str | None = None,
  dtype: str | None = None,
  vit_eps: float | None = None,
  scan_layers: bool = True,
  seed: int = 0,
) -> PartsSource:
  """Makes a whole model from parts; each is a directory, file or hub name.

  instruction: without a `qformer`, makes InstructBLIP's variant. activation:
  T5's, instead of the part's own; 'gelu' is erf, with which BLIP-2 runs
  FLAN-T5. dtype: of the parameters, by default float32. seed: of the parameters
  that no part has. Raises UserError if a part is missing, damaged or of another
  kind.
  """
  notes: list[str] = []
  t5_config, tensors, scale = _open_t5(t5, notes)
  if activation:
    t5_config = dataclasses.replace(t5_config, activation=activation)
    notes.append(f'T5 runs with {activation!r}, as you said')
  needed = IMAGE_TOKEN + 1
  if t5_config.vocab_size < needed:
    grown = -(-VOCABULARY // 128) * 128
    notes.append(
      f"T5's tables were grown from {t5_config.vocab_size} to {grown} rows"
    )
    t5_config = dataclasses.replace(t5_config, vocab_size=grown)
  config = MMICLConfig(t5=t5_config, image_token=IMAGE_TOKEN)
  if vit is not None:
    vit_config, vit_tensors = _open_vit(vit, notes)
    config = dataclasses.replace(config, vit=vit_config)
    tensors |= vit_tensors
  if vit_eps is not None:
    config = dataclasses.replace(
      config, vit=dataclasses.replace(config.vit, layer_norm_eps=vit_eps)
    )
  notes.append(
    f"the ViT's layer norm runs at eps {config.vit.layer_norm_eps:g}; "
    '--vit_eps for another'
  )
  qformer_config = dataclasses.replace(
    config.qformer, instruction=instruction, num_queries=num_queries
  )
  if qformer is not None:
    qformer_config, more = _open_qformer(qformer, num_queries, notes)
    tensors |= more
  config = dataclasses.replace(config, qformer=qformer_config)
  config = with_execution(
    runs_at(config, dtype or 'float32'), scan_layers=scan_layers
  )
  slots = rules.bind(config)
  given = [slot for slot in slots if slot.torch in tensors]
  prefixes = {_tower(name) for name in tensors}
  wanted = [slot for slot in slots if _tower(slot.torch) in prefixes]
  check_tensors('the parts', wanted, tensors)
  missing = sorted(
    {s.path.split('/')[0] for s in slots}
    - {s.path.split('/')[0] for s in given}
  )
  if missing:
    notes.append(f'random, with seed {seed}: {", ".join(missing)}')
  source = PartsSource(config, tensors, notes, scale)
  source.seed = seed
  return source


def _tower(name: str) -> str:
  return name.split('.')[0]


def _open_t5(where: str | os.PathLike, notes: list[str]):
  """Opens Hugging Face's or T5X's T5: (T5Config, tensors, head's scale)."""
  path = find_checkpoint(where)
  if not (path / 'config.json').is_file():
    config, tensors = t5x_source.open_t5x(path)
    notes.append(
      f'T5 from the T5X checkpoint {path}, whose GELU is the tanh form'
    )
    return config, tensors, 1.0
  values = read_json(path / 'config.json')
  text = values.get('text_config', values)
  if text.get('model_type') != 't5':
    raise UserError(
      f'{path} holds a {text.get("model_type")!r} language model; name a T5 '
      'such as flan-t5-xl'
    )
  config, more = t5_from_hf(text)
  tensors = rename(open_directory(path), notes)
  tensors = _only(tensors, 'language_model.', 'shared.weight', path)
  tensors = resolve_ties(tensors, notes)
  rows = tensors[rules.SHARED].shape[0] if rules.SHARED in tensors else None
  if rows:
    config = dataclasses.replace(config, vocab_size=rows)
  notes.extend(more)
  return config, tensors, head_scale(text)


def _open_vit(where: str | os.PathLike, notes: list[str]):
  """Opens a Hugging Face directory or EVA's file: (ViTConfig, tensors)."""
  if is_file(where):
    return eva.open_eva(local_file(where), notes)
  path = find_checkpoint(where)
  values = read_json(path / 'config.json')
  tensors = rename(open_directory(path), notes)
  tensors = _only(tensors, 'vision_model.', 'embeddings.class_embedding', path)
  return vit_from_hf(values.get('vision_config', values)), tensors


def _open_qformer(where: str | os.PathLike, num_queries: int, notes: list[str]):
  """Opens a Hugging Face directory: (QFormerConfig, tensors)."""
  path = find_checkpoint(where)
  values = read_json(path / 'config.json')
  everything = rename(open_directory(path), notes)
  queries = everything.get('query_tokens')
  tensors = _only(
    everything,
    'qformer.',
    'encoder.layer.0.attention.attention.query.weight',
    path,
  )
  words = 'qformer.embeddings.word_embeddings.weight'
  if queries is not None:
    tensors['query_tokens'] = queries
    num_queries = queries.shape[1]
  config = qformer_from_hf(
    values.get('qformer_config', values),
    instruction=words in tensors,
    num_queries=num_queries,
  )
  if words in tensors:
    rows = tensors[words].shape[0]
    config = dataclasses.replace(config, vocab_size=rows)
  return config, tensors


def _only(
  tensors: Mapping[str, Tensor], prefix: str, sign: str, where: Any
) -> Tensors:
  """The tensors of one part, with the names of a whole checkpoint.

  prefix: that of the part's names in a whole checkpoint. sign: a name that
  every checkpoint of the part has, without the prefix. Raises UserError if it
  is missing.
  """
  if prefix + sign in tensors:
    return {n: t for n, t in tensors.items() if n.startswith(prefix)}
  if sign in tensors:
    named = {prefix + n: t for n, t in tensors.items()}
    return {n: t for n, t in named.items() if n not in rules.UNUSED}
  raise UserError(
    f'{where} has no {sign}: it is not the part that it was named as'
  )

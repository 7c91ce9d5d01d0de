"""Writes a Hugging Face directory that `from_pretrained` can load.

All shapes are known, so the files' headers are written first. Then our
parameters are read one by one and cut into their layers, and each layer is
written at its place, so that only one parameter is in memory at a time. The
package safetensors could not do that: its `serialize_file` needs all tensors of
a file in memory. It only reads files, in tensors.py.
"""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from mmicl_jax.convert import rules
from mmicl_jax.convert.hf_config import to_hf
from mmicl_jax.convert.processor_files import write_processor
from mmicl_jax.convert.rules import Slot
from mmicl_jax.convert.source import check_finite
from mmicl_jax.convert.tensors import DTYPES
from mmicl_jax.errors import UserError
from mmicl_jax.models import trees
from mmicl_jax.models.configs import MMICLConfig
from mmicl_jax.runtime.files import new_directory, write_json
from mmicl_jax.runtime.mirror import local_file
from mmicl_jax.types import EOS, PAD, START

SHARD_BYTES = 5 * 10**9  # the former default of transformers
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def save_pretrained(
  config: MMICLConfig,
  params: Mapping[str, Any],
  out_dir: str | os.PathLike,
  tokenizer_path: str | os.PathLike | None = None,
  *,
  qformer_vocab: str | os.PathLike | None = None,
  shard_bytes: int = SHARD_BYTES,
) -> None:
  """Writes parameters to a new Hugging Face checkpoint directory.

  params: a tree as `init_params` gives it. tokenizer_path: T5's spiece.model;
  with it the directory gets tokenizer files with MIC's image tokens.
  qformer_vocab: BERT's vocab.txt, for InstructBLIP's Q-Former. shard_bytes: the
  largest file. Raises UserError if the directory is not empty, if a vocabulary
  does not fit, or if a value is not finite.
  """
  flat = trees.flatten(params)
  write_pretrained(
    config,
    {n: jax.ShapeDtypeStruct(x.shape, x.dtype) for n, x in flat.items()},
    lambda path: np.asarray(jax.device_get(flat[path])),
    out_dir,
    tokenizer_path,
    qformer_vocab=qformer_vocab,
    shard_bytes=shard_bytes,
  )


def write_pretrained(
  config: MMICLConfig,
  shapes: Mapping[str, jax.ShapeDtypeStruct],
  read: Callable[[str], np.ndarray],
  out_dir: str | os.PathLike,
  tokenizer_path: str | os.PathLike | None = None,
  *,
  qformer_vocab: str | os.PathLike | None = None,
  shard_bytes: int = SHARD_BYTES,
  done: Callable[[int], Any] = lambda size: None,
  finish: Callable[[Path], Any] = lambda directory: None,
) -> None:
  """Does `save_pretrained` with parameters that `read` returns by path.

  done: called with the bytes of each parameter after it was written. finish:
  called with the folder before it appears, to add what belongs to it.
  """
  slots = rules.bind(config)
  tokenizer_path = tokenizer_path and local_file(tokenizer_path)
  qformer_vocab = qformer_vocab and local_file(qformer_vocab)
  _check_shapes(rules.shapes(config), shapes)
  dtypes = {np.dtype(x.dtype) for x in shapes.values()}
  dtype = str(dtypes.pop()) if len(dtypes) == 1 else 'float32'
  with new_directory(out_dir) as directory:
    write_json(directory / 'config.json', to_hf(config, dtype))
    write_json(
      directory / 'generation_config.json',
      {
        'decoder_start_token_id': START,
        'eos_token_id': EOS,
        'pad_token_id': PAD,
      },
    )
    write_processor(directory, config, tokenizer_path, qformer_vocab)
    places = _write_headers(directory, slots, shapes, shard_bytes)
    by_path: dict[str, list[Slot]] = {}
    for slot in slots:
      by_path.setdefault(slot.path, []).append(slot)
    for path, members in by_path.items():
      array = read(path)
      check_finite(array, path, 'the parameters')
      for slot in members:
        layer = array if slot.index is None else array[slot.index]
        places[slot.torch].write(slot.layout.to_torch(layer, slot.torch_shape))
      done(array.nbytes)
      del array
    finish(directory)


class _Place(NamedTuple):
  """The place of a tensor's bytes."""

  file: Path
  offset: int

  def write(self, array: np.ndarray) -> None:
    with open(self.file, 'r+b') as file:
      file.seek(self.offset)
      # bfloat16 arrays do not support the buffer protocol; bytes do.
      file.write(np.ascontiguousarray(array).view(np.uint8).data)


def _write_headers(
  directory: Path,
  slots: Sequence[Slot],
  shapes: Mapping[str, jax.ShapeDtypeStruct],
  shard_bytes: int,
) -> dict[str, _Place]:
  """Writes the headers of empty shards, and their index.

  Returns each tensor's place.
  """
  shards: list[list[Slot]] = [[]]
  filled = total = 0
  for slot in slots:
    size = _size(slot, shapes)
    if shards[-1] and filled + size > shard_bytes:
      shards.append([])
      filled = 0
    shards[-1].append(slot)
    filled, total = filled + size, total + size
  places: dict[str, _Place] = {}
  for number, members in enumerate(shards, 1):
    name = 'model.safetensors'
    if len(shards) > 1:
      name = f'model-{number:05}-of-{len(shards):05}.safetensors'
    places |= _write_header(directory / name, members, shapes)
  if len(shards) > 1:
    write_json(
      directory / 'model.safetensors.index.json',
      {
        'metadata': {'total_size': total},
        'weight_map': {n: p.file.name for n, p in sorted(places.items())},
      },
    )
  return places


def _write_header(
  path: Path,
  slots: Sequence[Slot],
  shapes: Mapping[str, jax.ShapeDtypeStruct],
) -> dict[str, _Place]:
  header: dict[str, Any] = {'__metadata__': {'format': 'pt'}}
  end = 0
  for slot in slots:
    start, end = end, end + _size(slot, shapes)
    header[slot.torch] = {
      'dtype': DTYPE_NAMES[np.dtype(shapes[slot.path].dtype)],
      'shape': list(slot.torch_shape),
      'data_offsets': [start, end],
    }
  text = json.dumps(header, separators=(',', ':')).encode()
  text += b' ' * (-len(text) % 8)  # aligns the tensors' bytes
  with open(path, 'wb') as file:
    file.write(len(text).to_bytes(8, 'little') + text)
    file.truncate(8 + len(text) + end)
  return {
    slot.torch: _Place(
      path, 8 + len(text) + header[slot.torch]['data_offsets'][0]
    )
    for slot in slots
  }


def _size(slot: Slot, shapes: Mapping[str, jax.ShapeDtypeStruct]) -> int:
  return math.prod(slot.shape) * np.dtype(shapes[slot.path].dtype).itemsize


def _check_shapes(
  declared: Mapping[str, jax.ShapeDtypeStruct],
  given: Mapping[str, jax.ShapeDtypeStruct],
) -> None:
  for path in sorted(declared.keys() | given.keys()):
    here, there = (
      tuple(tree[path].shape) if path in tree else 'none'
      for tree in (declared, given)
    )
    if here != there:
      raise UserError(
        f'the parameter {path} has shape {there}, model.json asks for {here}; '
        'take both from one checkpoint'
      )
    if np.dtype(given[path].dtype) not in DTYPE_NAMES:
      raise UserError(
        f'the parameter {path} has dtype {given[path].dtype}, which '
        '.safetensors files cannot hold: convert to float32 or bfloat16'
      )

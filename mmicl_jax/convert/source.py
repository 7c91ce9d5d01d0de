"""Opens a checkpoint to convert: its configuration and parameters by path.

A `WeightSource` knows every parameter's shape and reads one at a time. Callers
put them on devices (loading.py) or into a checkpoint (disk.py).
"""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np

from mmicl_jax.convert import rules
from mmicl_jax.convert.hf_config import from_hf, runs_at
from mmicl_jax.convert.hf_text import head_scale
from mmicl_jax.convert.rules import ALIASES, HEAD, SHARED, UNUSED, Slot
from mmicl_jax.convert.tensors import Tensor, open_directory
from mmicl_jax.errors import UserError
from mmicl_jax.models.configs import MMICLConfig, with_execution

DTYPES = {
  'float32': np.dtype(np.float32),
  'bfloat16': np.dtype(ml_dtypes.bfloat16),
  'float16': np.dtype(np.float16),
}
# What wrappers put before every name.
PREFIXES = ('module.', 'model.', 'blip.')
# Tables whose rows are counted in the checkpoint, not read from config.json.
ROWS = {
  SHARED: 't5',
  HEAD: 't5',
  'qformer.embeddings.word_embeddings.weight': 'qformer',
}


@dataclasses.dataclass
class WeightSource:
  """The parameters of one model, each read when it is asked for.

  notes: a sentence for the user on each decision. head_scale: the factor that
  T5's head is stored with.
  """

  config: MMICLConfig
  tensors: dict[str, Tensor]
  notes: list[str]
  head_scale: float = 1.0

  def __post_init__(self):
    self._slots: dict[str, list[Slot]] = {}
    for slot in rules.bind(self.config):
      self._slots.setdefault(slot.path, []).append(slot)

  @property
  def shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
    """The shape and dtype of each parameter by path."""
    return rules.shapes(self.config)

  def read(self, path: str) -> np.ndarray:
    """Reads a parameter with all its layers, in the configuration's dtype.

    Raises UserError if a value is not finite.
    """
    slots = self._slots[path]
    shape = slots[0].shape
    if slots[0].index is not None:
      shape = (len(slots), *shape)
    out = np.empty(shape, DTYPES[self.config.execution.param_dtype])
    for slot in slots:
      target = out if slot.index is None else out[slot.index]
      self._fill(target, slot)
    return out

  def _fill(self, target: np.ndarray, slot: Slot) -> None:
    tensor = self.tensors[slot.torch]
    array = tensor.read()
    check_finite(array, slot.torch, tensor.file)
    if slot.torch == HEAD and self.head_scale != 1:
      array = array.astype(np.float32) * np.float32(self.head_scale)
    rows = slot.torch_shape[0]
    if slot.torch in ROWS and array.shape[0] < rows:
      # New rows are the mean of the others, as in Hugging Face's resizing.
      mean = array.astype(np.float32).mean(0, keepdims=True)
      mean = np.repeat(mean.astype(array.dtype), rows - len(array), 0)
      array = np.concatenate([array, mean])
    target[...] = slot.layout.to_jax(array, slot.shape)


def open_source(
  directory: str | os.PathLike,
  *,
  dtype: str | None = None,
  vit_eps: float | None = None,
  scan_layers: bool = True,
  vocab_size: int | None = None,
  qformer_rows: int | None = None,
  image_token: int | None = None,
) -> WeightSource:
  """Opens an InstructBLIP, BLIP-2 or MIC checkpoint directory.

  dtype: 'float32' or 'bfloat16'; None keeps the files'. vit_eps: the ViT's
  layer norm epsilon; None takes config.json's. vocab_size, qformer_rows: how
  many rows T5's tables and the Q-Former's table must at least have.
  image_token: 图's id in the vocabulary, which wins over config.json. Raises
  UserError for an unknown tensor, a missing parameter, and a shape that differs
  from config.json.
  """
  values = read_json(Path(directory) / 'config.json')
  config, notes = from_hf(values, vit_eps=vit_eps)
  if image_token is not None and image_token != config.image_token:
    notes.append(
      f'图 has id {image_token}, as in the vocabulary; config.json says '
      f'{config.image_token}'
    )
    config = dataclasses.replace(config, image_token=image_token)
  tensors = rename(open_directory(directory), notes)
  tensors = resolve_ties(tensors, notes)
  config = _with_rows(config, tensors, notes, vocab_size, qformer_rows)
  dtype = dtype or widest_dtype(tensors.values())
  config = with_execution(runs_at(config, dtype), scan_layers=scan_layers)
  check_tensors(directory, rules.bind(config), tensors)
  scale = head_scale(values.get('text_config', {}))
  if scale != 1:
    notes.append(f"the head is stored times {scale:.4g}, T5's output scale")
  return WeightSource(config, tensors, notes, scale)


def read_json(path: Path) -> dict[str, Any]:
  """Reads a JSON object; raises UserError if the file does not hold one."""
  try:
    values = json.loads(path.read_text(encoding='utf-8'))
  except OSError as error:
    raise UserError(
      f'{path} is missing: name a Hugging Face checkpoint directory'
    ) from error
  except ValueError as error:
    raise UserError(
      f'{path} is not JSON ({error}): download it again'
    ) from error
  if not isinstance(values, dict):
    raise UserError(f'{path} is not a JSON object: download it again')
  return values


def check_tensors(
  where: Any, slots: Sequence[Slot], tensors: Mapping[str, Tensor]
) -> None:
  """Raises UserError unless each slot has its tensor, of the right shape.

  where: names the checkpoint in messages.
  """
  wanted = {slot.torch: slot for slot in slots}
  if adapters := sorted(n for n in tensors if '.lora_' in n):
    raise UserError(
      f'{where} holds {adapters[0]}{_more(adapters)}, adapters of PEFT that '
      'are not merged: call merge_and_unload, save it, and name that folder'
    )
  eight_bit = ('.SCB', '.weight_format', '.absmax', '.quant_map')
  if scales := sorted(n for n in tensors if n.endswith(eight_bit)):
    raise UserError(
      f'{where} holds {scales[0]}{_more(scales)}, of a model that bitsandbytes '
      'has quantised: take a checkpoint that is not quantised'
    )
  if absent := sorted(wanted.keys() - tensors.keys()):
    raise UserError(
      f'{where} lacks {absent[0]}{_more(absent)}: the download is incomplete, '
      'or config.json is of another model'
    )
  if surplus := sorted(tensors.keys() - wanted.keys()):
    raise UserError(
      f'{where} holds {surplus[0]}{_more(surplus)}, which this model does not '
      'have: config.json is of another model'
    )
  for name, slot in wanted.items():
    tensor, expected = tensors[name], slot.torch_shape
    shape = tensor.shape
    if name in ROWS and shape[0] < expected[0]:
      shape = (expected[0], *shape[1:])  # it will be grown
    if shape != expected:
      raise UserError(
        f'{tensor.file}: {name} has shape {tensor.shape}, config.json asks '
        f'for {expected}; take both from one checkpoint'
      )
    if tensor.dtype.kind not in 'fV' and tensor.dtype != DTYPES['bfloat16']:
      raise UserError(
        f'{tensor.file}: {name} is {tensor.dtype}, not floating; take a '
        'checkpoint that is not quantised'
      )


def check_finite(array: np.ndarray, name: str, where: str) -> None:
  """Raises UserError if a value is NaN or infinite."""
  flat = array.reshape(-1)
  for start in range(0, flat.size, 1 << 22):  # no second array of that size
    if not np.isfinite(flat[start : start + (1 << 22)]).all():
      raise UserError(
        f'{where}: {name} holds NaN or infinite values; the checkpoint is '
        'damaged: download it again'
      )


def widest_dtype(tensors: Any) -> str:
  """'bfloat16' if all tensors have that dtype, otherwise 'float32'."""
  dtypes = {tensor.dtype for tensor in tensors}
  return 'bfloat16' if dtypes == {DTYPES['bfloat16']} else 'float32'


def rename(tensors: dict[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
  """Removes wrappers' prefixes from names, and tensors that nobody reads."""
  for _ in PREFIXES:
    for prefix in PREFIXES:
      if tensors and all(name.startswith(prefix) for name in tensors):
        tensors = {n.removeprefix(prefix): t for n, t in tensors.items()}
        notes.append(f'{prefix!r} was taken off all names')
  if unused := sorted(tensors.keys() & UNUSED):
    notes.append(f'left out, as no forward pass reads it: {", ".join(unused)}')
  return {n: t for n, t in tensors.items() if n not in UNUSED}


def resolve_ties(
  tensors: dict[str, Tensor], notes: list[str]
) -> dict[str, Tensor]:
  """Leaves one of T5's input tables; a missing head becomes a copy of it.

  Raises UserError if the tables differ.
  """
  tensors = dict(tensors)
  for alias, original in ALIASES.items():
    repeated = tensors.pop(alias, None)
    if repeated is None:
      continue
    if original not in tensors:
      tensors[original] = repeated
    elif not _same(repeated, tensors[original]):
      raise UserError(
        f'{repeated.file}: {alias} differs from {original}; T5 has one table '
        'for both, so the checkpoint is damaged: download it again'
      )
  if HEAD not in tensors and SHARED in tensors:
    tensors[HEAD] = tensors[SHARED]
    notes.append("the head is tied to T5's token table: it gets a copy of it")
  return tensors


def _same(a: Tensor, b: Tensor) -> bool:
  if a.shape != b.shape or a.dtype != b.dtype:
    return False
  return a.read().tobytes() == b.read().tobytes()


def _with_rows(
  config: MMICLConfig,
  tensors: Mapping[str, Tensor],
  notes: list[str],
  vocab_size: int | None,
  qformer_rows: int | None,
) -> MMICLConfig:
  """Takes the tables' rows from the files, or more if more are needed."""
  rows = {
    part: tensors[name].shape[0]
    for name, part in ROWS.items()
    if name in tensors and tensors[name].shape
  }
  t5, qformer = config.t5, config.qformer
  words = rows.get('qformer', qformer.vocab_size)
  if words != qformer.vocab_size:
    notes.append(
      f"the Q-Former's word table has {words} rows, as in the weights; "
      f'config.json says {qformer.vocab_size}'
    )
  if qformer.instruction and (qformer_rows or 0) > words:
    notes.append(
      f"the Q-Former's word table was grown from {words} to {qformer_rows} "
      'rows: the new ones are the mean of the others, and untrained'
    )
    words = qformer_rows
  qformer = dataclasses.replace(qformer, vocab_size=words)
  size = rows.get('t5', t5.vocab_size)
  if size != t5.vocab_size:
    notes.append(
      f"T5's tables have {size} rows, as in the weights; config.json says "
      f'{t5.vocab_size}'
    )
  needed = max(config.image_token + 1, vocab_size or 0)
  if needed > size:
    grown = -(-needed // 128) * 128
    notes.append(
      f"T5's token table and head were grown from {size} to {grown} rows, so "
      f'that 图 and <image0>..<image19> fit ({needed} tokens): the new rows '
      'are the mean of the others, and untrained'
    )
    size = grown
  return dataclasses.replace(
    config, qformer=qformer, t5=dataclasses.replace(t5, vocab_size=size)
  )


def _more(names: Sequence[str]) -> str:
  return f' and {len(names) - 1} more' if len(names) > 1 else ''

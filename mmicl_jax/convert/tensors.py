"""Reads PyTorch checkpoints tensor by tensor.

It reads .safetensors files, sharded or not, and .bin files, which need PyTorch.
Opening reads headers only. `Tensor.read` reads one tensor from disk into its
own array, so that only one need be in memory at a time.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import safetensors

from mmicl_jax.errors import UserError

DTYPES: dict[str, np.dtype] = {
  'F64': np.dtype(np.float64),
  'F32': np.dtype(np.float32),
  'F16': np.dtype(np.float16),
  'BF16': np.dtype(ml_dtypes.bfloat16),
  'I64': np.dtype(np.int64),
  'I32': np.dtype(np.int32),
  'I16': np.dtype(np.int16),
  'I8': np.dtype(np.int8),
  'U8': np.dtype(np.uint8),
  'BOOL': np.dtype(np.bool_),
}
ADAPTERS = (
  'adapter_config.json',
  'adapter_model.safetensors',
  'adapter_model.bin',
)
SINGLE = ('model.safetensors', 'pytorch_model.bin')


@dataclasses.dataclass(frozen=True)
class Tensor:
  """A tensor on disk; `read` loads it, and `file` names it in messages."""

  file: str
  shape: tuple[int, ...]
  dtype: np.dtype
  read: Callable[[], np.ndarray]


def open_directory(directory: str | os.PathLike) -> dict[str, Tensor]:
  """Opens all tensors of a checkpoint directory, by name.

  It prefers .safetensors to .bin, and an index to a single file. Raises
  UserError if there are no weights, if they are adapters only, or if a file is
  missing, damaged or not as the index says.
  """
  directory = Path(directory)
  for name in ADAPTERS:
    if (directory / name).is_file():
      raise UserError(
        f'{directory} has adapters of PEFT ({name}), which are not read: merge '
        'them into the model (merge_and_unload), save it, and name that folder'
      )
  for name in SINGLE:
    index = directory / f'{name}.index.json'
    if index.is_file():
      return _open_sharded(index)
    if (directory / name).is_file():
      return open_file(directory / name)
  raise UserError(
    f'{directory} has no weights: it needs model.safetensors or '
    'pytorch_model.bin, or their shards with the .index.json beside them'
  )


def open_file(path: str | os.PathLike) -> dict[str, Tensor]:
  """Opens all tensors of a .safetensors, .bin, .pt or .pth file, by name.

  Raises UserError if the file is missing or damaged.
  """
  path = Path(path)
  if not path.is_file():
    raise UserError(f'{path} is missing: download it again')
  opener = _open_safetensors if path.suffix == '.safetensors' else _open_bin
  return opener(path)


def _open_sharded(index: Path) -> dict[str, Tensor]:
  try:
    places: Mapping[str, str] = json.loads(index.read_text())['weight_map']
    files = sorted(set(places.values()))
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise UserError(
      f'{index} is not an index of shards ({error}): download it again'
    ) from error
  tensors: dict[str, Tensor] = {}
  for file in files:
    for name, tensor in open_file(index.parent / file).items():
      if places.get(name) != file:
        raise UserError(
          f'{index.parent / file} holds {name}, which {index.name} puts in '
          f'{places.get(name, "no file")}: download both again'
        )
      tensors[name] = tensor
  if absent := sorted(places.keys() - tensors.keys()):
    raise UserError(
      f'{index.parent / places[absent[0]]} lacks {absent[0]}, which '
      f'{index.name} puts there: download the file again'
    )
  return tensors


def _open_safetensors(path: Path) -> dict[str, Tensor]:
  try:
    # The pages of a mapped file would count as this process's memory.
    file = safetensors.safe_open(path, 'numpy', backend='pread')
    slices = {name: file.get_slice(name) for name in file.keys()}
  except (safetensors.SafetensorError, OSError) as error:
    raise UserError(
      f'{path} is truncated or no .safetensors file ({str(error)[:150]}): '
      'download it again'
    ) from error

  def tensor(name: str) -> Tensor:
    shape, code = tuple(slices[name].get_shape()), slices[name].get_dtype()
    if code not in DTYPES:
      raise UserError(
        f'{path}: {name} is {code}, which cannot be converted; take a '
        'checkpoint that is not quantised'
      )

    def read() -> np.ndarray:
      try:
        return file.get_tensor(name)
      except (safetensors.SafetensorError, OSError) as error:
        raise UserError(
          f'{path} cannot be read any more ({error}): it was changed, or its '
          'disk fails; look at both, then try again'
        ) from error

    return Tensor(str(path), shape, DTYPES[code], read)

  return {name: tensor(name) for name in slices}


def _open_bin(path: Path) -> dict[str, Tensor]:
  try:
    import torch
  except ImportError as error:
    raise UserError(
      f'{path} needs PyTorch to be read: install torch, or take the '
      'checkpoint with .safetensors files'
    ) from error
  try:
    try:
      state = torch.load(path, 'cpu', weights_only=True, mmap=True)
    except RuntimeError:  # PyTorch's format before 1.6 cannot be mapped
      state = torch.load(path, 'cpu', weights_only=True)
  except Exception as error:  # zip, pickle and value errors of all kinds
    raise UserError(
      f'{path} is truncated, or holds more than tensors '
      f'({str(error).splitlines()[0][:150]}): download it again'
    ) from error
  for key in ('model', 'state_dict', 'module'):  # what trainers wrap it in
    if isinstance(state, dict) and isinstance(state.get(key), dict):
      state = state[key]
  if not isinstance(state, dict):
    raise UserError(f'{path} holds no named tensors: name another file')

  def tensor(value: 'torch.Tensor') -> Tensor:
    dtype = np.dtype(
      ml_dtypes.bfloat16
      if value.dtype == torch.bfloat16
      else str(value.dtype).removeprefix('torch.')
    )

    def read() -> np.ndarray:
      value_ = value.detach().contiguous()
      if value.dtype == torch.bfloat16:
        return value_.view(torch.int16).numpy().view(dtype)
      return value_.numpy()

    return Tensor(str(path), tuple(value.shape), dtype, read)

  return {
    name: tensor(value)
    for name, value in state.items()
    if isinstance(value, torch.Tensor)
  }

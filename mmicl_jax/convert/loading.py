"""Loads checkpoints onto devices, one parameter at a time."""

import math
import os
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import jax

from mmicl_jax.convert.source import WeightSource, open_source
from mmicl_jax.errors import UserError
from mmicl_jax.models import trees
from mmicl_jax.models.configs import MMICLConfig
from mmicl_jax.models.mmicl import abstract_params
from mmicl_jax.models.partitioning import shardings
from mmicl_jax.runtime import remote
from mmicl_jax.runtime.mirror import local_folder
from mmicl_jax.tokenizer import Tokenizer

FILES = ('*.json', '*.safetensors', '*.bin', '*.model', '*.txt')


def load_pretrained(
  source: str | os.PathLike,
  *,
  dtype: str | None = None,
  mesh: jax.sharding.Mesh | None = None,
  vit_eps: float | None = None,
  scan_layers: bool = True,
) -> tuple[MMICLConfig, dict[str, Any], dict[str, Any]]:
  """Loads a Hugging Face or MIC checkpoint: (configuration, parameters, info).

  source: a directory, or a name on the Hugging Face hub. Parameters go one by
  one to `mesh` in the shardings of `partitioning`, or to the default device.
  info: 'directory', 'vocabulary' (its spiece.model or None), and 'notes' (a
  sentence for each decision). Raises UserError if the checkpoint is missing,
  damaged or of another model.
  """
  directory = find_checkpoint(source)
  opened = open_checkpoint(
    directory, dtype=dtype, vit_eps=vit_eps, scan_layers=scan_layers
  )
  info = {
    'directory': directory,
    'vocabulary': find_vocabulary(directory),
    'notes': opened.notes,
  }
  return opened.config, to_devices(opened, mesh), info


def open_checkpoint(
  directory: str | os.PathLike,
  *,
  vocabulary_path: str | os.PathLike | None = None,
  **options: Any,
) -> WeightSource:
  """Opens a checkpoint by `open_source`, with room for the vocabulary's tokens.

  vocabulary_path: a spiece.model; by default the directory's, if it has one.
  """
  path = vocabulary_path or find_vocabulary(directory)
  size = None
  if path:
    tokenizer = Tokenizer(path)
    size = tokenizer.vocab_size
    options.setdefault('image_token', tokenizer.image_id)
  return open_source(directory, vocab_size=size, **options)


def to_devices(
  source: Any, mesh: jax.sharding.Mesh | None = None
) -> dict[str, Any]:
  """Puts the parameters that `source` reads on devices; returns their tree.

  Only one parameter at a time is also in host memory.
  """
  params: dict[str, Any] = {}
  for part in one_by_one(source, mesh):
    params |= part
  return trees.unflatten(params)


def one_by_one(
  source: Any, place: Any = None
) -> Iterator[dict[str, jax.Array]]:
  """Reads the parameters of `source`; yields each as {path: array}.

  The largest come first, so that the memory that reading them takes is free
  again before the rest is in memory. place: a mesh or a device; None takes the
  default device.
  """
  places: dict[str, Any] = {}
  if isinstance(place, jax.sharding.Mesh):
    tree = shardings(abstract_params(source.config), place)
    places, place = trees.flatten(tree), None
  shapes = source.shapes
  for path in sorted(shapes, key=lambda path: -math.prod(shapes[path].shape)):
    array = source.read(path)
    part = {
      path: jax.device_put(array, places.get(path, place), may_alias=False)
    }
    # device_put returns before it has copied; without waiting, arrays pile up.
    jax.block_until_ready(part)
    del array
    yield part


def find_vocabulary(directory: str | os.PathLike) -> Path | None:
  """The path of a directory's SentencePiece model, or None."""
  path = Path(directory) / 'spiece.model'
  return path if path.is_file() else None


def find_checkpoint(source: str | os.PathLike) -> Path:
  """Returns a local directory, or copies a remote one or a model of the hub.

  Raises UserError if there is none, or if the hub does not deliver it.
  """
  if remote.is_remote(source):
    return _copied(remote.address(source))
  path = Path(source)
  if path.exists():
    if not path.is_dir():
      raise UserError(f'{path} is a file: name the checkpoint directory')
    return path
  name = str(source)
  if name.count('/') != 1 or name.startswith(('.', '/', '~')):
    raise UserError(
      f'{name} does not exist; name a checkpoint directory, or a model of the '
      'hub as OWNER/NAME'
    )
  try:
    from huggingface_hub import HfApi, snapshot_download
  except ImportError as error:
    raise UserError(
      f'there is no directory {name}, and reading it from the hub needs the '
      'package huggingface_hub: install it, or download the checkpoint'
    ) from error
  try:
    names = HfApi().list_repo_files(name)
  except Exception:  # without a connection the cache may still have it
    names = []
  safe = any(n.endswith('.safetensors') for n in names)
  patterns = [p for p in FILES if p != '*.bin' or not safe]
  try:
    return Path(snapshot_download(name, allow_patterns=patterns))
  except Exception as error:  # network, authorisation, unknown name
    reason = str(error).strip().splitlines() or [type(error).__name__]
    raise UserError(
      f'there is no directory {name}, and the hub did not deliver it '
      f'({reason[0][:150]}): check the name and the connection'
    ) from error


def _copied(url: str) -> Path:
  """Copies the files that we read of a remote checkpoint directory."""
  whole = not remote.is_file(f'{url}/config.json')  # T5X's: all are read

  def wanted(name: str) -> bool:
    beside = '/' not in name and any(fnmatch(name, p) for p in FILES)
    return whole or beside or name == 'qformer_tokenizer/vocab.txt'

  copy = local_folder(url, wanted)
  if not any(copy.iterdir()):
    raise UserError(f'{url} holds no files: name a checkpoint directory')
  return copy

"""Loads a Predictor from a directory with a model: `mmicl_jax.load`."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float

from mmicl_jax.checkpoints import model_dir, steps, store, verify
from mmicl_jax.checkpoints.fingerprint import saved_digest
from mmicl_jax.errors import UserError, check_type
from mmicl_jax.inference.engine import Engine
from mmicl_jax.inference.predictor import Predictor
from mmicl_jax.models import partitioning
from mmicl_jax.models.configs import MMICLConfig, with_execution
from mmicl_jax.models.mmicl import abstract_params
from mmicl_jax.pieces.bert import BertTokenizer
from mmicl_jax.runtime import remote, small_arrays
from mmicl_jax.runtime.malloc import returning_large_blocks
from mmicl_jax.tokenizer import Tokenizer


class Opened(NamedTuple):
  """A checkpoint whose weights are not read yet.

  parts: dicts of arrays by path, each read when it is asked for. digest: a hash
  of all weights, if the checkpoint has their checksums.
  """

  config: MMICLConfig
  parts: Iterable[dict[str, jax.Array]]
  vocabulary: Path | None
  digest: str | None


def load(
  path: str | os.PathLike,
  *,
  mesh: Mesh | None = None,
  dtype: str | None = None,
  weights: str | None = None,
  tokenizer: Tokenizer | str | os.PathLike | None = None,
  batch_size: int = 8,
  max_input_length: int = 1024,
  cache_dir: str | os.PathLike | None = None,
  qformer_text: bool = False,
) -> Predictor:
  """Loads the model of a MODEL_DIR, checkpoint_<step> or PyTorch directory.

  dtype: of parameters and arithmetic; by default the checkpoint's own, but
  float32 on a CPU, where bfloat16 is slower. weights: 'int8' holds kernels in
  eight bits. tokenizer: if there is none beside the checkpoint. cache_dir:
  keeps images' features for later runs. qformer_text: lets an InstructBLIP
  Q-Former read the prompt's text, which no published script does. Raises
  UserError that names the file that is missing or wrong.
  """
  where = (str, os.PathLike)
  check_type('the checkpoint', path, where, 'the path of a directory')
  for name, value, kinds, what in (
    ('mesh', mesh, Mesh, 'a jax.sharding.Mesh'),
    ('dtype', dtype, str, "a name, such as 'bfloat16'"),
    ('weights', weights, str, "'int8' or None"),
    ('tokenizer', tokenizer, (Tokenizer, *where), 'a Tokenizer or its path'),
    ('cache_dir', cache_dir, where, 'the path of a folder'),
  ):
    if value is not None:
      check_type(name, value, kinds, what)
  check_type('qformer_text', qformer_text, bool, 'True or False')
  path = _here(path)
  if not path.exists():
    raise UserError(f'{path} does not exist: name a directory with a model.')
  opener = _open_ours
  if (path / 'config.json').is_file():
    opener = _open_pretrained
  place: Any = jax.devices()[0] if mesh is None else mesh
  if weights:  # quantised in host memory, which is larger
    place = jax.local_devices(backend='cpu')[0]
  config, parts, vocabulary, digest = opener(path, place, dtype)
  tokenizer = vocabulary if tokenizer is None else tokenizer
  if tokenizer is not None and not isinstance(tokenizer, Tokenizer):
    tokenizer = Tokenizer(tokenizer)
  bert = qformer_vocabulary(path, config) if qformer_text else None
  with returning_large_blocks():
    engine = Engine(
      config,
      parts,
      mesh=mesh,
      batch_size=batch_size,
      cache_dir=cache_dir,
      weights=weights,
    )
  return Predictor(
    engine,
    tokenizer,
    max_input_length=max_input_length,
    qformer_tokenizer=bert,
    source=str(path),
    weights=digest,
  )


def _here(path: str | os.PathLike) -> Path:
  """The path itself, or a local copy of the checkpoint at a remote path."""
  if not remote.is_remote(path):
    return Path(path)
  url = remote.address(path)
  if remote.is_file(f'{url}/config.json'):
    from mmicl_jax.convert.loading import find_checkpoint

    return find_checkpoint(url)
  return Path(steps.step_path(*steps.locate(url)))


def qformer_vocabulary(path: Path, config: MMICLConfig) -> BertTokenizer:
  """Reads BERT's vocabulary beside a checkpoint.

  Raises UserError if there is none, or if the Q-Former cannot use it.
  """
  if not config.qformer.instruction:
    raise UserError(
      f"{path}: its Q-Former reads no text (BLIP-2's kind): leave out "
      'qformer_text.'
    )
  root = path.parent if path.name.startswith('checkpoint_') else path
  places = [root / model_dir.QFORMER_VOCABULARY]
  places.append(root / 'qformer_tokenizer' / 'vocab.txt')
  found = next((p for p in places if p.is_file()), None)
  if found is None:
    raise UserError(
      f'{places[0]} is missing: put the vocab.txt of bert-base-uncased there, '
      'or leave out qformer_text.'
    )
  tokenizer = BertTokenizer(found)
  if tokenizer.vocab_size > config.qformer.vocab_size:
    raise UserError(
      f'{found}: {tokenizer.vocab_size} word pieces, and the Q-Former has rows '
      f'for {config.qformer.vocab_size}; leave out qformer_text.'
    )
  return tokenizer


def _open_ours(path: Path, place: Any, dtype: str | None) -> Opened:
  found, step = steps.locate(path)
  checkpoint, directory = steps.step_path(found, step), Path(found)
  config = _running(model_dir.read_config(directory), dtype)
  boxed = abstract_params(config)
  if isinstance(place, Mesh):
    places = partitioning.shardings(boxed, place)
  else:
    one = jax.sharding.SingleDeviceSharding(place)
    places = jax.tree.map(lambda _: one, nn.unbox(boxed))
  like = jax.tree.map(
    lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
    nn.unbox(boxed),
    places,
  )
  parts = _finite(path, store.read_weights(checkpoint, like))
  vocabulary = directory / model_dir.VOCABULARY
  sums = verify.read_sums(checkpoint)
  return Opened(
    config,
    parts,
    vocabulary if vocabulary.is_file() else None,
    None if sums is None else saved_digest(sums),
  )


def _open_pretrained(path: Path, place: Any, dtype: str | None) -> Opened:
  from mmicl_jax.convert import loading

  opened = loading.open_checkpoint(path, dtype=_dtype(dtype), scan_layers=False)
  return Opened(
    _running(opened.config, dtype),
    loading.one_by_one(opened, place),
    loading.find_vocabulary(path),
    None,
  )


def _finite(
  path: Path, parts: Iterable[dict[str, jax.Array]]
) -> Iterator[dict[str, jax.Array]]:
  """Yields the parts; raises UserError if a weight is NaN or infinite."""
  for part in parts:
    # Each is awaited: on a mesh of CPU devices, many programs under way may
    # wait for each other for ever.
    sound = {name: _is_finite(x) for name, x in part.items()}
    if wrong := [name for name in part if not sound[name]]:
      raise UserError(
        f'{path}: its weights are not finite numbers ({wrong[0]} holds NaN or '
        'infinity), as training leaves them that went wrong: name an earlier '
        'checkpoint_<step>.'
      )
    yield part


def _is_finite(x: jax.Array) -> bool:
  values = small_arrays.values_of(x)
  return bool(_all_finite(x) if values is None else np.isfinite(values).all())


@jax.jit
def _all_finite(x: Float[jax.Array, '...']) -> Bool[jax.Array, '']:
  return jnp.isfinite(x).all()


def _dtype(dtype: str | None) -> str | None:
  """The dtype to run in; None means the checkpoint's own."""
  on_cpu = jax.default_backend() == 'cpu'
  return dtype or ('float32' if on_cpu else None)


def _running(config: MMICLConfig, dtype: str | None) -> MMICLConfig:
  dtype = _dtype(dtype) or config.execution.dtype
  return with_execution(config, dtype=dtype, param_dtype=dtype)

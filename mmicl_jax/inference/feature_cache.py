"""Computes what frozen towers read in images, once, for stage 2.

`write_features` runs ViT and Q-Former over the images of record files and fills
a store, which training then reads instead (data/feature_store.py).
"""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from mmicl_jax.checkpoints import model_dir
from mmicl_jax.checkpoints.fingerprint import TOWERS, features_index
from mmicl_jax.checkpoints.steps import locate
from mmicl_jax.checkpoints.store import load_weights
from mmicl_jax.data import feature_store, images
from mmicl_jax.data.records import as_example
from mmicl_jax.data.sources import Source, open_sources
from mmicl_jax.errors import UserError
from mmicl_jax.inference import feature_shards
from mmicl_jax.inference.prompts import see
from mmicl_jax.models import configs, mmicl
from mmicl_jax.runtime.progress import ProgressBar, counted

_BATCH = 16  # images at a time


def write_features(
  files: Iterable[str],
  checkpoint: str,
  out: str | os.PathLike,
  *,
  data_dir: str | None = None,
  dtype: str = 'bfloat16',
  batch_size: int = 16,
  shard: tuple[int, int] = (0, 1),
) -> tuple[int, int]:
  """Adds the images of record files; returns (how many, how many are new).

  It goes on where a former call ended. dtype: of the computation and of the
  features. batch_size: images at a time. shard: (i, n) adds every n-th batch,
  from batch i on, and says at its end that the shard is complete
  (inference/feature_shards.py). Raises UserError for another model's store, and
  for a bad record or image.
  """
  if batch_size < 1 or not os.fspath(out):
    raise UserError(
      f'--batch_size ({batch_size}) must be at least 1 and --out '
      f'({os.fspath(out)!r}) name a folder'
    )
  parts = [
    p for file in files for p in open_sources(file, data_dir, None, 0, False)
  ]
  config, params = _towers(checkpoint, dtype)
  feature_store.write_index(out, features_index(config, params))
  known = feature_store.FeatureStore(out)
  embed = embedder(config, params)
  seen: dict[bytes, None] = {}

  def is_ours(number: int) -> bool:
    return number // batch_size % shard[1] == shard[0]

  with ProgressBar('records', sum(len(part.data) for part in parts)) as bar:
    new = _unseen(parts, seen, known, config.vit.image_size, bar, is_ours)
    added = _fill(known, new, embed, batch_size)
  if shard[1] > 1:
    feature_shards.write_sidecar(out, shard, batch_size, list(seen))
  return len(seen), added


class PictureFeatures:
  """What a picture is like: a unit vector, the mean of what the Q-Former reads.

  checkpoint: the model's. cache: a folder of `mmicl data cache-features`, which
  is filled further; None keeps features in the folder that a call names. name:
  whose features they are.
  """

  def __init__(self, checkpoint: str, cache: str | None = None):
    dtype = 'bfloat16'
    if cache is not None and os.path.exists(
      os.path.join(cache, feature_store.INDEX)
    ):
      dtype = feature_store.read_index(cache)['dtype']
    self._config, self._params = _towers(checkpoint, dtype)
    self._index = features_index(self._config, self._params)
    self._cache = cache
    self.name = f'{self._index["fingerprint"]} {dtype}'

  def __call__(
    self, paths: Sequence[str], folder: str | os.PathLike
  ) -> Float[np.ndarray, 'N E']:
    """The vectors of image files. Raises UserError for a bad one."""
    folder = self._cache or folder
    feature_store.write_index(folder, self._index)
    known = feature_store.FeatureStore(folder)
    keys = [feature_store.key_of(path) for path in paths]
    size = self._config.vit.image_size
    missing = {
      key: path
      for key, path in zip(keys, paths, strict=True)
      if key not in known
    }
    listed = counted('features', missing.items(), len(missing))
    new = ((key, images.load_image(path, size)) for key, path in listed)
    _fill(known, new, embedder(self._config, self._params), _BATCH)
    # One at a time: all of them would be forty times their means.
    rows = (known.get(key) for key in keys)
    means = np.stack(
      [row.astype(np.float64).mean(0) for row in rows if row is not None]
    )
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def _towers(
  checkpoint: str, dtype: str
) -> tuple[configs.MMICLConfig, Mapping[str, Any]]:
  directory, _ = locate(checkpoint)
  config = configs.with_execution(model_dir.read_config(directory), dtype=dtype)
  return config, load_weights(checkpoint, modules=TOWERS)


def _fill(
  known: feature_store.FeatureStore,
  new: Iterator[tuple[bytes, UInt8[np.ndarray, 'size size 3']]],
  embed: Callable[..., Float[np.ndarray, 'N Q E']],
  batch_size: int,
) -> int:
  """Adds the features of (key, pixels) to a store; returns how many."""
  added = 0
  while shard := list(itertools.islice(new, feature_store.PER_FILE)):
    keys, pixels = zip(*shard, strict=True)
    rows = [
      embed(np.stack(pixels[i : i + batch_size]), batch_size)
      for i in range(0, len(pixels), batch_size)
    ]
    known.add(keys, np.concatenate(rows))
    added += len(keys)
  return added


def _unseen(
  parts: Sequence[Source],
  seen: dict[bytes, None],
  known: feature_store.FeatureStore,
  size: int,
  bar: ProgressBar,
  is_ours: Callable[[int], bool],
) -> Iterator[tuple[bytes, UInt8[np.ndarray, 'size size 3']]]:
  """Yields (key, pixels) of new images; adds the keys of all to `seen`.

  is_ours: whether the image with this number is this shard's; images are
  numbered in their order, equal ones once.
  """
  done = 0
  for part in parts:
    for i in range(len(part.data)):
      record, _ = as_example(part.data[i], i)
      for source in record.images:
        try:
          key = feature_store.key_of(source)
          new = key not in seen and key not in known and is_ours(len(seen))
          pixels = images.load_image(source, size) if new else None
        except UserError as error:
          raise UserError(f'{record.name}: {error}') from error
        if pixels is not None:
          yield key, pixels
        seen[key] = None
      done += 1
      bar.step(done)


def embedder(config: configs.MMICLConfig, params: Mapping[str, Any]):
  """Returns embed(images, rows) -> features; it pads images to `rows`."""
  model = mmicl.MMICL(config)

  def embed(
    pixels: UInt8[np.ndarray, 'N H W 3'], rows: int
  ) -> Float[np.ndarray, 'N Q E']:
    padded = np.zeros((rows, *pixels.shape[1:]), np.uint8)
    padded[: len(pixels)] = pixels
    read = see(model, params, padded[:, None])
    return np.asarray(read[: len(pixels), 0])

  return embed

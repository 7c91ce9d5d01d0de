"""Computes what frozen towers read in images, once, for stage 2.

`write_features` runs ViT and Q-Former over the images of record files and fills
a store, which training then reads instead (data/feature_store.py).
"""

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from mmicl_jax.inference.prompts import see
from mmicl_jax.models import configs, mmicl
from mmicl_jax.runtime.progress import ProgressBar

PER_SHARD = 4096  # images; 200 MB of 32 x 768 bfloat16


def write_features(
  files: Iterable[str],
  checkpoint: str,
  out: str | os.PathLike,
  *,
  data_dir: str | None = None,
  dtype: str = 'bfloat16',
  batch_size: int = 16,
) -> tuple[int, int]:
  """Adds the images of record files; returns (how many, how many are new).

  It goes on where a former call ended. dtype: of the computation and of the
  features. batch_size: images at a time. Raises UserError for another model's
  store, and for a bad record or image.
  """
  if batch_size < 1 or not os.fspath(out):
    raise UserError(
      f'--batch_size ({batch_size}) must be at least 1 and --out '
      f'({os.fspath(out)!r}) name a folder'
    )
  parts = [
    p for file in files for p in open_sources(file, data_dir, None, 0, False)
  ]
  directory, _ = locate(checkpoint)
  config = configs.with_execution(model_dir.read_config(directory), dtype=dtype)
  params = load_weights(checkpoint, modules=TOWERS)
  feature_store.write_index(out, features_index(config, params))
  known = feature_store.FeatureStore(out)
  embed = embedder(config, params)
  seen: set[bytes] = set()

  with ProgressBar('records', sum(len(part.data) for part in parts)) as bar:
    new = _unseen(parts, seen, known, config.vit.image_size, bar)
    added = 0
    while shard := list(itertools.islice(new, PER_SHARD)):
      keys, pixels = zip(*shard, strict=True)
      rows = [
        embed(np.stack(pixels[i : i + batch_size]), batch_size)
        for i in range(0, len(pixels), batch_size)
      ]
      known.add(keys, np.concatenate(rows))
      added += len(keys)
  return len(seen), added


def _unseen(
  parts: Sequence[Source],
  seen: set[bytes],
  known: feature_store.FeatureStore,
  size: int,
  bar: ProgressBar,
) -> Iterator[tuple[bytes, UInt8[np.ndarray, 'size size 3']]]:
  """Yields (key, pixels) of new images; adds the keys of all to `seen`."""
  done = 0
  for part in parts:
    for i in range(len(part.data)):
      record, _ = as_example(part.data[i], i)
      for source in record.images:
        try:
          key = feature_store.key_of(source)
          new = key not in seen and key not in known
          pixels = images.load_image(source, size) if new else None
        except UserError as error:
          raise UserError(f'{record.name}: {error}') from error
        if pixels is not None:
          yield key, pixels
        seen.add(key)
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

"""Shards of `mmicl data cache-features`, and the store that one run fills.

Shard i of n computes every n-th batch of the images. Its folder is a store like
any other; shard.json, written at its end, says which shard it is of which
images.
"""

import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmicl_jax.data import feature_store
from mmicl_jax.errors import UserError
from mmicl_jax.inference import shards as merging
from mmicl_jax.runtime import files
from mmicl_jax.runtime.mirror import Mirror

SHARD = 'shard.json'


def write_sidecar(
  out: str | os.PathLike,
  shard: tuple[int, int],
  batch_size: int,
  keys: Sequence[bytes],
) -> None:
  """Says that a shard is complete; keys: of all images, not of its own alone.

  Raises UserError if it cannot be written.
  """
  mirror = Mirror(out)
  told = merging.shard_facts(shard, batch_size, len(keys))
  run = hashlib.blake2b(b''.join(keys), digest_size=8).hexdigest()
  files.write_json(mirror.local / SHARD, told | {'run': run})
  mirror.push([SHARD])


def merge_features(out: Path, folders: Sequence[Path]) -> None:
  """Adds the features of all shards to the store `out`, which it may make.

  A new store has the bytes that one run would have written. Raises UserError if
  the shards do not belong together, or if one is missing, given twice, not
  complete or damaged.
  """
  told = [_told(folder) for folder in folders]
  ordered = [Path(f) for f in merging.in_order(folders, told)]
  index = feature_store.read_index(ordered[0])
  for folder in ordered:
    if feature_store.read_index(folder) != index:
      raise UserError(
        f'{folder} holds the features of another model than {ordered[0]}: '
        'compute all shards with one checkpoint and one --dtype'
      )
  stores = [feature_store.FeatureStore(folder) for folder in ordered]
  feature_store.write_index(out, index)
  target = feature_store.FeatureStore(out)
  rows = _in_order(stores, told[0]['block'])
  new = ((key, row) for key, row in rows if key not in target)
  while some := dict(itertools.islice(new, feature_store.PER_FILE)):
    target.add(list(some), np.stack(list(some.values())))


def _in_order(
  stores: Sequence[feature_store.FeatureStore], batch: int
) -> Iterator[tuple[bytes, Any]]:
  """(key, features) in the order of one run, a batch of each store in turn."""
  keys = [iter(dict.fromkeys(store.keys())) for store in stores]
  while True:
    found = False
    for store, own in zip(stores, keys, strict=True):
      for key in itertools.islice(own, batch):
        found = True
        yield key, store.get(key)
    if not found:
      return


def _told(folder: Path) -> dict[str, Any]:
  place = folder / SHARD
  try:
    found = json.loads(place.read_text('utf-8'))
    facts = merging.shard_facts(
      (int(found['shard'][0]), int(found['shard'][1])),
      int(found['block']),
      int(found['records']),
    )
    return facts | {'run': str(found['run'])}
  except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
    raise UserError(
      f'{place} does not say that {folder} is a complete shard ({error}): run '
      'mmicl data cache-features with --shard I/N again, which goes on'
    ) from error

"""What frozen towers read in a gallery, once, so that stage 2 is text alone.

It is the store that `mmicl data cache-features` fills for FEATURE_CACHE.
"""

import os
from pathlib import Path

import numpy as np

from mmicl_jax.checkpoints.fingerprint import TOWERS, features_index
from mmicl_jax.checkpoints.store import load_weights
from mmicl_jax.data.feature_store import FeatureStore, key_of, write_index
from mmicl_jax.demo.pictures import Gallery
from mmicl_jax.inference.feature_cache import embedder
from mmicl_jax.models.configs import MMICLConfig
from mmicl_jax.runtime.progress import counted

_ROWS = 512  # images at a time


def read_gallery(
  gallery: Gallery, model: MMICLConfig, checkpoint: str | os.PathLike, out: Path
) -> FeatureStore:
  """Reads every picture by a checkpoint's towers, into the folder `out`."""
  params = load_weights(checkpoint, modules=TOWERS)
  embed = embedder(model, params)
  images = [
    gallery.picture(kind, number).pixels
    for kind in range(len(gallery.kinds))
    for number in range(gallery.count(kind))
  ]
  starts = range(0, len(images), _ROWS)
  read = [
    embed(np.stack(images[i : i + _ROWS]), _ROWS)
    for i in counted('pictures read', starts, len(starts))
  ]
  write_index(out, features_index(model, params))
  store = FeatureStore(out)
  store.add([key_of(image) for image in images], np.concatenate(read))
  return store

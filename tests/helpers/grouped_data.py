"""Loaders that group and pack examples of several lengths."""

import numpy as np
from loader_data import SPEC, make

from mmicl_jax.context.turns import Example
from mmicl_jax.data.grouping import make_grouping

BUCKETS = ((20, 6, 1), (40, 6, 1.5))


def grouping(pack=False, rows=4, groups=2, buckets=BUCKETS):
  return make_grouping(
    buckets,
    pack,
    lengths=(SPEC.inputs_length, SPEC.targets_length),
    max_images=SPEC.max_images,
    num_queries=SPEC.num_queries,
    rows=rows,
    groups=groups,
  )


def mixed(count):
  """Example i has i % 3 images of level i, and more text if i is odd."""
  found = []
  for i in range(count):
    named = ' '.join(f'image {j} is <image{j}>图.' for j in range(i % 3))
    text = f'{named} one?' + ' 0 1 2 3 4 5 6 7' * (i % 2)
    pixels = [np.full((4, 4, 3), i, np.uint8)] * (i % 3)
    found.append(Example(text.strip(), str(i), pixels))
  return found


def loader(tokenizer, pack=False, count=50, index=0, processes=1, **options):
  return make(
    tokenizer,
    mixed(count),
    batch_size=4 // processes,
    process_index=index,
    process_count=processes,
    grouping=grouping(pack),
    **options,
  )

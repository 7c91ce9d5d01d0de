"""Records and examples whose order a loader shows, and loaders of them."""

import json

import numpy as np
from PIL import Image

from mmicl_jax.context.turns import Example
from mmicl_jax.data.features import FeatureSpec
from mmicl_jax.data.loader import make_loader
from mmicl_jax.data.sources import Source

SPEC = FeatureSpec(
  inputs_length=40,
  targets_length=6,
  max_images=2,
  image_size=4,
  num_queries=2,
)


def examples(count, first=0):
  """Example i shows level i and answers i."""
  return [
    Example(
      'image 0 is <image0>图. which one?',
      str(i),
      [np.full((4, 4, 3), i, np.uint8)],
    )
    for i in range(first, first + count)
  ]


def write_records(folder, count, broken=None):
  lines = []
  for i in range(count):
    Image.new('RGB', (5, 4), (i, i, i)).save(folder / f'{i}.png')
    record = {
      'input_text': 'image 0 is <image0>图. which one?',
      'input_image': [f'{i}.png'],
      'output_text': str(i),
      'id': f'r{i}',
    }
    lines.append(json.dumps(record, ensure_ascii=False))
  for i, line in (broken or {}).items():
    lines[i] = line
  path = folder / 'train.jsonl'
  path.write_text('\n'.join(lines) + '\n')
  return path


def make(tokenizer, data, batch_size=2, **options):
  sources = data if isinstance(data, list) else Source('set', data)
  if isinstance(data, list) and not isinstance(data[0], Source):
    sources = Source('set', data)
  return make_loader(sources, SPEC, tokenizer, batch_size, **options)


def take(loader, steps):
  iterator = iter(loader)
  return [next(iterator) for _ in range(steps)]

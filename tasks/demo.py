"""Registers the demo's tasks, `mmicl_demo_<task>`, and their mixture.

Their data is a function of (task, split, seed, index) and has no end; a split
here is its first items. Needs the packages of the demo.
"""

import functools
import os
import tempfile
from collections.abc import Sequence
from typing import SupportsIndex

import seqio

from mmicl_jax.context.turns import Example
from mmicl_jax.data.features import FeatureSpec
from mmicl_jax.demo import data
from mmicl_jax.demo.tasks import TASKS
from mmicl_jax.t5x import seqio_data
from mmicl_jax.tokenizer import Tokenizer

# SeqIO's split -> the demo's, and how many of its items.
SPLITS = {'train': ('train', 10_000), 'validation': ('heldout', 200)}
IMAGE_SIZE = 20
SPEC = FeatureSpec(
  inputs_length=128,
  targets_length=24,
  max_images=16,
  image_size=IMAGE_SIZE,
  num_queries=4,
)
MIXTURE = 'mmicl_demo'


class Items(Sequence):
  """The first items of one task and split, made when they are asked for."""

  def __init__(self, task: str, split: str, count: int, seed: int = 0):
    self._task, self._split = task, split
    self._count, self._seed = count, seed

  def __len__(self) -> int:
    return self._count

  def __getitem__(self, i: SupportsIndex) -> Example:
    index = range(self._count)[i]
    return data.make_item(
      self._task, self._seed, index, self._split, IMAGE_SIZE
    ).example


@functools.cache
def demo_tokenizer() -> Tokenizer:
  """The demo's vocabulary, trained when a task is first read in a process."""
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, 'spiece.model')
    with open(path, 'wb') as file:
      file.write(data.demo_vocabulary())
    return Tokenizer(path)


def register_demo() -> list[str]:
  """Registers all tasks; returns their names."""
  names = []
  for task in TASKS:
    splits = {s: Items(task, *split) for s, split in SPLITS.items()}
    name = f'{MIXTURE}_{task}'
    seqio_data.add(name, splits, demo_tokenizer, SPEC)
    names.append(name)
  seqio.MixtureRegistry.add(MIXTURE, names, default_rate=1)
  return names


register_demo()

"""The demo's data: one item is a pure function of (task, split, seed, index).

So the training data has no end, repeats exactly, and needs no state to resume.
"""

import bisect
import itertools
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from mmicl_jax.data.images import to_png
from mmicl_jax.demo import pictures, words
from mmicl_jax.demo.pictures import Picture
from mmicl_jax.demo.tasks import TASKS, Item
from mmicl_jax.runtime import files

HELD_OUT_SEED = 1_000_003  # far from the seeds of training


def make_item(
  task: str, seed: int, index: int, split: str = 'train', size: int = 20
) -> Item:
  """Makes one item of a task; images are `size` pixels square.

  The same arguments always give the same item.
  """
  # Seeded by the task's name, so that a new task changes no other.
  stream = zlib.crc32(f'{task}/{split}'.encode())
  rng = np.random.default_rng((seed, index, stream))
  return TASKS[task](task, pictures.load_gallery(split, size), rng)


def batch_examples(
  task_mix: Mapping[str, int | float],
  seed: int,
  start: int,
  n: int,
  split: str = 'train',
  size: int = 20,
) -> list[Item]:
  """Makes items start to start + n - 1 of an endless mixture of tasks.

  task_mix: each task's share, on any positive scale. Item i does not depend on
  the batch that asks for it.
  """
  names = list(task_mix)
  bounds = list(itertools.accumulate(task_mix[name] for name in names))
  items = []
  for index in range(start, start + n):
    # Steps of the golden ratio keep the shares even over short stretches.
    position = (index * 0.6180339887498949 + seed * 0.7548776662) % 1.0
    task = names[
      bisect.bisect(bounds, position * bounds[-1], hi=len(names) - 1)
    ]
    items.append(make_item(task, seed, index, split, size))
  return items


def corpus(items: Iterable[Item]) -> Iterator[str]:
  """Yields each item's prompt and answer: the vocabulary is trained on them."""
  for item in items:
    yield f'{item.example.inputs} {item.example.targets}'


def demo_vocabulary(seed: int = 0, per_task: int = 20) -> bytes:
  """Trains the demo's SentencePiece model on items of all tasks.

  per_task: training items of each task. Characters of training are a piece
  each, so that they can be named. Returns the serialised model.
  """
  known = [k.character for k in pictures.load_gallery('train').upright.kinds]
  # Their texts say the same, and need no picture.
  told = [task for task in TASKS if task.startswith('told_')]
  items = [make_item(task, seed, i) for task in told for i in range(per_task)]
  chat = 'User: Bot: question answer'
  return words.train_vocabulary([*corpus(items), chat], known)


def write_held_out(items: Sequence[Item], folder: str, name: str) -> str:
  """Writes items as MIC records to FOLDER/NAME.jsonl, and their images as PNG.

  Image paths in the records are relative to `folder`. Returns the path of the
  JSONL file.
  """
  path = os.path.join(folder, f'{name}.jsonl')
  with files.writing(path) as file:
    for i, item in enumerate(items):
      record = {
        'input_text': item.example.inputs,
        'input_image': [save_picture(p, folder) for p in item.pictures],
        'output_text': item.example.targets,
        'id': f'{name}-{i}',
        'dataset': f'demo/{item.task}',
        'meta': {
          'words': list(item.words),
          'shots': item.shots,
          'chance': item.chance,
          'ceiling': item.ceiling,
        },
      }
      file.write(json.dumps(record, ensure_ascii=False) + '\n')
  return path


def save_picture(picture: Picture, folder: str) -> str:
  """Saves FOLDER/images/NAME.png if absent; returns its path below `folder`."""
  relative = f'images/{picture.name}.png'
  path = os.path.join(folder, relative)
  if not os.path.exists(path):
    files.write_bytes(path, to_png(picture.pixels))
  return relative

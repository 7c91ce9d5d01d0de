"""`mmicl bench data`: how fast the loader gives images, beside Pillow alone.

Both open the same JPEG files of 640 x 480 pixels and resize them to 224 x 224,
in as many processes, on the same cores, in turns.
"""

import contextlib
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmicl_jax.bench.sides import span_text
from mmicl_jax.data.features import FeatureSpec
from mmicl_jax.data.grouping import make_grouping
from mmicl_jax.data.loader import make_loader
from mmicl_jax.data.records import JsonlIndex
from mmicl_jax.data.sources import Source
from mmicl_jax.runtime import show
from mmicl_jax.tokenizer import Tokenizer, train_sentencepiece

FILES, IMAGES, ROWS, SIZE, TOKENS = 48, 4, 4, 224, 208
ROUND, REST = 24, 2.0  # batches, seconds
TEXT = 'Which of the images shows what image 0 shows, and why is that so?'


def write_data(folder: Path) -> list[str]:
  """Writes photograph-like JPEGs, records and a vocabulary; returns the JPEGs.

  A record has IMAGES images.
  """
  rng = np.random.default_rng(0)
  paths = []
  for i in range(FILES):
    coarse = rng.integers(0, 256, (30, 40, 3), np.uint8)
    smooth = Image.fromarray(coarse).resize(
      (640, 480), Image.Resampling.BICUBIC
    )
    noisy = np.asarray(smooth) + rng.normal(0, 6, (480, 640, 3))
    pixels = noisy.clip(0, 255).astype(np.uint8)
    paths.append(str(folder / f'{i}.jpg'))
    Image.fromarray(pixels).save(paths[-1], quality=90)
  named = ' '.join(f'image {j} is <image{j}>图.' for j in range(IMAGES))
  with (folder / 'train.jsonl').open('w', encoding='utf-8') as file:
    for i in range(FILES):
      images = [f'{(i + j) % FILES}.jpg' for j in range(IMAGES)]
      record = {
        'input_text': f'{named} {TEXT}',
        'input_image': images,
        'output_text': 'all',
      }
      file.write(json.dumps(record, ensure_ascii=False) + '\n')
  words = f'{TEXT} image is . all 0 1 2 3'
  train_sentencepiece([words] * 5, folder / 'spiece.model', 80)
  return paths


def open_alone(path: str) -> int:
  """Opens and resizes an image by Pillow, as anyone would; returns a byte."""
  with Image.open(path) as image:
    size = (SIZE, SIZE)
    small = image.convert('RGB').resize(size, Image.Resampling.BICUBIC)
  return int(np.asarray(small)[0, 0, 0])


@contextlib.contextmanager
def on_cores(count: int) -> Iterator[None]:
  """Keeps this process, and those it starts, on the first `count` cores."""
  before = os.sched_getaffinity(0)
  os.sched_setaffinity(0, sorted(before)[:count])
  try:
    yield
  finally:
    os.sched_setaffinity(0, before)


def measure_loading(
  folder: Path, paths: Sequence[str], workers: int, pack: bool, rounds: int
) -> dict[str, Any]:
  """Times both sides in turns; seconds are those of ROUND batches' images."""
  spec = FeatureSpec(TOKENS, 8, IMAGES, SIZE, 32)
  slots = ((TOKENS, 8, IMAGES),)
  loader = make_loader(
    Source('train', JsonlIndex(folder / 'train.jsonl')),
    spec,
    Tokenizer(folder / 'spiece.model'),
    ROWS,
    workers=workers,
    grouping=make_grouping(
      slots if pack else None,
      pack,
      lengths=(TOKENS, 8),
      max_images=IMAGES,
      num_queries=32,
      rows=ROWS,
      groups=1,
    ),
  )
  count = ROUND * ROWS * IMAGES
  todo = [paths[i % len(paths)] for i in range(count)]
  seconds: dict[str, list[float]] = {'loader': [], 'Pillow alone': []}
  context = multiprocessing.get_context('spawn')
  with on_cores(workers), context.Pool(workers) as pool:
    batches = iter(loader)

    def take(number: int) -> None:
      for _ in range(number):
        next(batches)

    def alone() -> None:
      pool.map(open_alone, todo, chunksize=count // workers)

    alone()
    for _ in range(rounds):
      # Four batches of each worker were made ahead, and do not count.
      take(6 * workers)
      seconds['loader'].append(_seconds(lambda: take(ROUND)))
      time.sleep(REST)  # its workers make batches ahead, then they stop
      seconds['Pillow alone'].append(_seconds(alone))
    batches.close()  # type: ignore[attr-defined]
  ours, theirs = seconds.values()
  return {
    'workers': workers,
    'PACK': pack,
    'images_per_second': {
      n: [count / x for x in values] for n, values in seconds.items()
    },
    'share_of_pillow': float(np.median(theirs) / np.median(ours)),
  }


def compare_loading(most: int, rounds: int) -> list[dict[str, Any]]:
  """Measures 1 to `most` workers, without and with packed rows."""
  with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    paths = write_data(folder)
    return [
      measure_loading(folder, paths, workers, pack, rounds)
      for workers in range(1, most + 1)
      for pack in (False, True)
    ]


def loading_table(results: Sequence[dict[str, Any]]) -> str:
  """A Markdown table; rates are 'median (least to most)'."""
  return show.markdown(
    [
      {
        'workers, cores': row['workers'],
        'rows': 'packed' if row['PACK'] else 'padded',
        **{
          f'{name}, images/s': span_text(rates, 0)
          for name, rates in row['images_per_second'].items()
        },
        'share': f'{row["share_of_pillow"]:.0%}',
      }
      for row in results
    ]
  )


def _seconds(run: Callable[[], None]) -> float:
  start = time.perf_counter()
  run()
  return time.perf_counter() - start

"""`mmicl bench data`: what padding costs MIC-like lengths, and packing saves.

A MIC-like example has 0 to `most` images, each number as often as any other. An
image takes 32 tokens, and 8 for its declaration; the question takes 12 to 200,
the median 60 (log-normal, 0.5); the answer 2 to 32, the median 6 (0.6).
"""

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmicl_jax.bench.sides import span_text
from mmicl_jax.bench.step import OurSteps, StepCase
from mmicl_jax.checkpoints import model_dir
from mmicl_jax.data.features import Features, Pieces
from mmicl_jax.data.grouping import (
  Grouping,
  LengthBucket,
  RowSize,
  make_grouping,
)
from mmicl_jax.data.packed import ImageArray, pack_rows
from mmicl_jax.data.plans import Plans
from mmicl_jax.data.waste import Waste, padding_waste
from mmicl_jax.errors import UserError
from mmicl_jax.models.configs import MMICLConfig
from mmicl_jax.presets import PRESETS
from mmicl_jax.runtime import show

QUERIES, DECLARATION, TARGETS, QUESTION = 32, 8, 32, 200
BUCKETS = (128, 224, 320, 416, 512, 624, 752, 1008)  # prompts' lengths
FEWER, EXAMPLES = 6, 400  # images at most, and examples, of the timed steps


def mic_like(count: int, most: int, seed: int = 0) -> list[RowSize]:
  """The sizes of so many examples: see the file's beginning."""
  rng = np.random.default_rng(seed)

  def log_normal(median: int, deviation: float, low: int, high: int):
    drawn = rng.lognormal(np.log(median), deviation, count)
    return np.clip(drawn, low, high).astype(int)

  images = rng.integers(0, most + 1, count)
  questions = log_normal(60, 0.5, 12, QUESTION)
  answers = log_normal(6, 0.6, 2, TARGETS)
  return [
    RowSize(i, int(n * (QUERIES + DECLARATION) + q), int(a), int(n))
    for i, (n, q, a) in enumerate(zip(images, questions, answers, strict=True))
  ]


def grouping_for(
  sizes: Sequence[RowSize],
  lengths: Sequence[int],
  most: int,
  rows: int,
  pack: bool = False,
) -> Grouping:
  """Buckets of these prompt lengths, with 2 % more images than are needed."""
  buckets, below = [], 0
  for length in lengths:
    inside = [s for s in sizes if below < s.inputs <= length]
    images = float(np.mean([s.images for s in inside]))
    if pack:
      images *= length / float(np.mean([s.inputs for s in inside]))
    # A group has room for any example.
    buckets.append((length, TARGETS, max(1.02 * images, most / rows)))
    below = length
  found = make_grouping(
    buckets,
    pack,
    lengths=(lengths[-1], TARGETS),
    max_images=most,
    num_queries=QUERIES,
    rows=rows,
    groups=1,
  )
  assert found is not None
  return found


def measure_waste(
  rows: int = 16, count: int = 8000, most: int = 20
) -> list[dict[str, Any]]:
  """The shares of padding at one length, in buckets, and in packed rows."""
  sizes = mic_like(count, most)
  room = BUCKETS[-1], TARGETS, most
  used = np.mean([size[1:] for size in sizes], axis=0)
  inputs, targets, images = (1 - used / np.array(room)).tolist()
  buckets = grouping_for(sizes, BUCKETS, most, rows)
  packed = grouping_for(sizes, BUCKETS[-1:], most, rows, pack=True)
  cases = {
    'one length': Waste(inputs, targets, images, 1.0),
    f'{len(BUCKETS)} buckets': padding_waste(sizes, buckets),
    'packed rows': padding_waste(sizes, packed),
  }
  return [
    {'batches': name} | dataclasses.asdict(waste)
    for name, waste in cases.items()
  ]


@dataclasses.dataclass(frozen=True)
class PackedCase:
  """A step on MIC-like examples, of which a row holds one or several."""

  pack: bool
  step: int
  batch: int = StepCase.batch

  def rows(self) -> tuple[Sequence[tuple[int, ...]], LengthBucket]:
    """The examples of each row, and the batch's shape."""
    length = FEWER * (QUERIES + DECLARATION) + QUESTION
    if not self.pack:
      first = self.step * self.batch
      rows = [(first + i,) for i in range(self.batch)]
      return rows, LengthBucket(length, TARGETS, FEWER)
    sizes = mic_like(EXAMPLES, FEWER)
    grouping = grouping_for(sizes, (length,), FEWER, self.batch, pack=True)
    found = Plans(grouping, sizes.__getitem__, None, 0)(self.step)
    assert found is not None
    return found[0].rows, found[0].bucket

  @property
  def examples(self) -> int:
    """How many examples the batch has."""
    return sum(map(len, self.rows()[0]))

  def inputs(self, config: MMICLConfig) -> Features:
    """A Batch of random words and pixels; each example has its own."""
    rows, bucket = self.rows()
    sizes, size = mic_like(EXAMPLES, FEWER), config.vit.image_size
    batch = pack_rows(
      [[_pieces(sizes[i], config) for i in row] for row in rows],
      bucket,
      self.batch if self.pack else 1,
      ImageArray('encoder_images', (size, size, 3), np.dtype(np.uint8)),
      segments=self.pack,
    )
    if not self.pack:
      del batch['encoder_image_starts']  # each row has its own images
    return batch


def _pieces(size: RowSize, config: MMICLConfig) -> Pieces:
  rng = np.random.default_rng(size.position)
  words = rng.integers(2, 30000, size.inputs - size.images * QUERIES).tolist()
  shape = (config.vit.image_size, config.vit.image_size, 3)
  return Pieces(
    [config.image_token] * (size.images * QUERIES) + words,
    rng.integers(2, 30000, size.targets).tolist(),
    [rng.integers(0, 256, shape, np.uint8) for _ in range(size.images)],
    [],
  )


def check_queries(size: str) -> None:
  """Raises UserError for a model whose images have other numbers of tokens."""
  if (found := PRESETS[size].qformer.num_queries) != QUERIES:
    raise UserError(
      f'--sizes {size}: its images have {found} tokens, but bench data counts '
      f'{QUERIES}: take small'
    )


def measure_packing(size: str, rounds: int, threads: int) -> dict[str, Any]:
  """Times stage-2 steps on padded and on packed rows, in turns.

  Each round has other examples; the first, which compiles, does not count.
  """
  with tempfile.TemporaryDirectory() as directory:
    model_dir.write_config(directory, PRESETS[size])
    steps = OurSteps(directory, 'float32', threads)
  found: dict[str, list[float]] = {'padded': [], 'packed': []}
  for step in range(rounds + 1):
    for name, rates in found.items():
      case = PackedCase(name == 'packed', step)
      steps.prepare(case)
      start = time.perf_counter()
      steps.run(case)
      rates.append(case.examples / (time.perf_counter() - start))
  rates = {name: values[1:] for name, values in found.items()}
  padded, packed = (float(np.median(values)) for values in rates.values())
  return {
    'size': size,
    'examples_per_second': rates,
    'ratio_of_medians': packed / padded,
  }


def waste_table(results: Sequence[dict[str, Any]]) -> str:
  """A Markdown table of the shares of padding."""
  names = {
    'inputs': 'padding of prompts',
    'images': 'unused image slots',
    'targets': 'padding of answers',
  }
  return show.markdown(
    [
      {
        'batches': row['batches'],
        **{shown: f'{row[name]:.1%}' for name, shown in names.items()},
        'examples a row': f'{row["examples_per_row"]:.2f}',
      }
      for row in results
    ]
  )


def packing_table(results: Sequence[dict[str, Any]]) -> str:
  """A Markdown table; rates are 'median (least to most)'."""
  return show.markdown(
    [
      {
        'size': row['size'],
        **{
          f'{name} rows, examples/s': span_text(rates, 2)
          for name, rates in row['examples_per_second'].items()
        },
        'medians': f'{row["ratio_of_medians"]:.2f}x',
      }
      for row in results
    ]
  )

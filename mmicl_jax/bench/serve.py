"""`mmicl bench serve`: requests a second and waiting times over loopback.

All sides have the same random weights and stand behind the same HTTP layer. For
each case the sides take turns, after an untimed one.
"""

import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmicl_jax.bench.serve_load import WORDS, ServeCase
from mmicl_jax.bench.serve_sides import (
  OurCalls,
  OurGangs,
  OurSlots,
  TheirBatches,
)
from mmicl_jax.bench.sides import Asked, Sides, save_random, span_text
from mmicl_jax.presets import PRESETS
from mmicl_jax.runtime import show
from mmicl_jax.tokenizer import Tokenizer, train_sentencepiece

SIDES = {
  'slots': OurSlots,
  'batches': OurGangs,
  'one by one': OurCalls,
  'transformers': TheirBatches,
}
KINDS = ('vqa', 'few-shot')


def serve_cases(
  kinds: Sequence[str], clients: Sequence[int], each: int
) -> list[ServeCase]:
  """Every kind at every number of clients, who ask `each` times."""
  return [
    ServeCase(kind, count, max(count * each, 8), seed=i)
    for i, (kind, count) in enumerate(
      (kind, count) for kind in kinds for count in clients
    )
  ]


def run_serving(
  size: str, cases: Sequence[ServeCase], dtype: str, threads: int, rounds: int
) -> Iterator[dict[str, Any]]:
  """Measures cases at one size; yields a row for each side of each case."""
  with tempfile.TemporaryDirectory() as directory:
    vocabulary = Path(directory) / 'spiece.model'
    train_sentencepiece([' '.join(WORDS)] * 9, vocabulary, 40)
    image_token = Tokenizer(vocabulary).image_id
    config = dataclasses.replace(PRESETS[size], image_token=image_token)
    save_random(config, directory)
    made = {name: (side, dtype) for name, side in SIDES.items()}
    with Sides(made, directory, threads) as workers:
      for case in cases:
        yield from measure_serving(size, case, workers, rounds)


def measure_serving(
  size: str, case: ServeCase, workers: Asked, rounds: int
) -> list[dict[str, Any]]:
  """Times every side, `rounds` times in turns; the first run is not timed.

  requests_per_second: the median of the rounds. Waiting times are in seconds,
  over all rounds. agreement: the share of answers that are those of slots.
  """
  waits: dict[str, list[float]] = {name: [] for name in workers.names}
  rates: dict[str, list[float]] = {name: [] for name in workers.names}
  answers: dict[str, list[str]] = {}
  for turn in range(rounds + 1):
    # New images, so that no side has seen these prompts.
    own = dataclasses.replace(case, turn=turn)
    for name in workers.names:
      seconds, each, found = _asked(workers, name, own)
      answers[name] = found
      if turn:
        waits[name] += each
        rates[name].append(case.requests / seconds)
  rows = []
  slowest = float(np.median(rates[workers.names[-1]]))
  for name in workers.names:
    rate = float(np.median(rates[name]))
    same = zip(answers[name], answers[workers.names[0]], strict=True)
    row = {
      'size': size,
      'case': case.name,
      'side': name,
      'requests_per_second': rate,
      'rates': rates[name],
      'ratio': rate / slowest,
      'agreement': float(np.mean([a == b for a, b in same])),
    }
    for percent in (50, 95, 99):
      row[f'p{percent}'] = float(np.percentile(waits[name], percent))
    rows.append(row)
  return rows


def serve_table(rows: Sequence[dict[str, Any]]) -> str:
  """A Markdown table; ratios are of medians, to transformers' one.

  Requests a second are the median of the rounds, with the least and the most.
  """
  return show.markdown(
    [
      {
        'size': row['size'],
        'case': row['case'],
        'side': row['side'],
        'requests/s': span_text(row['rates'], 2),
        'to transformers': f'{row["ratio"]:.2f}x',
        'p50, s': f'{row["p50"]:.2f}',
        'p95, s': f'{row["p95"]:.2f}',
        'p99, s': f'{row["p99"]:.2f}',
        'same answers': f'{row["agreement"]:.0%}',
      }
      for row in rows
    ]
  )


def _asked(workers: Asked, name: str, case: ServeCase) -> Any:
  """What serve_load.ask_all returned in the process of a side."""
  return workers.ask(name, case)[1]

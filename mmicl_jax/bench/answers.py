"""`mmicl bench generate`: ours and transformers on the same random weights.

The sides take turns, so that whatever else the machine does slows both. A row
has the medians with their spread, the ratios of medians and of minima, and how
many of the answers' tokens agree.
"""

import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mmicl_jax.bench.sides import Asked, Sides, save_random, timed
from mmicl_jax.bench.workers import AnswerCase, OurAnswers, TheirAnswers
from mmicl_jax.errors import UserError
from mmicl_jax.presets import PRESETS
from mmicl_jax.runtime import show

KINDS = ('encode', 'generate', 'questions')
TARGETS = {
  ('generate', 1, 1): 2.0,
  ('generate', 8, 1): 1.5,
  ('generate', 1, 5): 2.0,
  ('generate', 8, 5): 2.0,
  ('encode', 1, 1): 1.0,
  ('questions', 6, 1): 3.0,
}


def cases(
  kinds: Sequence[str],
  images: Sequence[int],
  batches: Sequence[int],
  beams: Sequence[int],
  new_tokens: int,
) -> list[AnswerCase]:
  """All combinations of the arguments; raises UserError for an unknown kind."""
  found = []
  for kind in kinds:
    if kind not in KINDS:
      raise UserError(f'--kinds has {kind!r}: use {",".join(KINDS)}.')
    for count in images:
      if kind == 'encode':
        found.append(AnswerCase(kind, count))
      elif kind == 'questions':
        found.append(AnswerCase(kind, count, 6, new_tokens=8))
      else:
        found += [
          AnswerCase(kind, count, batch, beam, new_tokens=new_tokens)
          for batch in batches
          for beam in beams
        ]
  return found


def run_answers(
  size: str,
  chosen: Sequence[AnswerCase],
  dtypes: Sequence[str],
  threads: int,
  rounds: int,
) -> Iterator[dict[str, Any]]:
  """Measures all cases at one size; yields one dictionary for each case.

  dtypes: the first is that of both sides; in each further one transformers is
  measured once more.
  """
  sides = {'ours': (OurAnswers, dtypes[0]), 'theirs': (TheirAnswers, dtypes[0])}
  sides |= {f'theirs_{dtype}': (TheirAnswers, dtype) for dtype in dtypes[1:]}
  with tempfile.TemporaryDirectory() as directory:
    save_random(PRESETS[size], directory)
    with Sides(sides, directory, threads) as workers:
      for case in chosen:
        yield measure_answers(size, case, workers, rounds)


def measure_answers(
  size: str, case: AnswerCase, workers: Asked, rounds: int
) -> dict[str, Any]:
  """Times every side, `rounds` times in turns, after an untimed first run.

  Times are in seconds. agreement: the share of equal tokens; for 'encode' it
  is `difference`, the largest between the visual tokens.
  """
  outputs = {name: workers.ask(name, case)[1] for name in workers.names}
  seconds: dict[str, list[float]] = {name: [] for name in workers.names}
  for _ in range(rounds):
    for name in workers.names:
      seconds[name].append(workers.ask(name, case)[0])
  ours, theirs = seconds['ours'], seconds['theirs']
  same = outputs['ours'], outputs['theirs']
  if case.kind == 'encode':
    agreement = float(np.abs(same[0] - same[1]).max())
  else:
    agreement = float((same[0] == same[1]).mean())
  return {
    'size': size,
    'case': case.name,
    'units_per_second': case.units / float(np.median(ours)),
    'ratio_of_medians': float(np.median(theirs) / np.median(ours)),
    'ratio_of_minima': min(theirs) / min(ours),
    # On a CPU, bfloat16 is their fastest and float32 ours.
    'ratio_to_bfloat16': (
      min(seconds['theirs_bfloat16']) / min(ours)
      if 'theirs_bfloat16' in seconds
      else None
    ),
    'target': TARGETS.get((case.kind, case.batch, case.beams)),
    'difference' if case.kind == 'encode' else 'agreement': agreement,
    'seconds': seconds,
  }


def answers_table(results: Sequence[dict[str, Any]]) -> str:
  """A Markdown table; seconds are 'median (least to most)'.

  Ratios are theirs / ours. 'to bfloat16' compares the minima of their bfloat16
  runs with ours.
  """
  rows = []
  for result in results:
    row = timed(result)
    bfloat16 = result['ratio_to_bfloat16']
    row['target'] = f'{result["target"]:.1f}x' if result['target'] else ''
    row['to bfloat16'] = f'{bfloat16:.2f}x' if bfloat16 else ''
    if 'agreement' in result:
      row['agreement'] = f'{result["agreement"]:.0%}'
    else:
      row['agreement'] = f'within {result["difference"]:.1g}'
    rows.append(row)
  return show.markdown(rows)

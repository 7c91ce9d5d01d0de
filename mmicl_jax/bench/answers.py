"""`mmicl bench generate`: ours and transformers on the same random weights.

The sides take turns, so that whatever else the machine does slows both. A row
has the medians with their spread, the ratios of medians and of minima, and how
many of the answers' tokens agree.
"""

import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mmicl_jax.bench.sides import Asked, Sides, save_random, timed
from mmicl_jax.bench.workers import AnswerCase, OurAnswers, TheirAnswers
from mmicl_jax.cost import chips, decoding, flops
from mmicl_jax.errors import UserError
from mmicl_jax.presets import PRESETS
from mmicl_jax.runtime import show

KINDS = ('encode', 'generate', 'decode', 'questions')
TARGETS = {
  ('generate', 1, 1): 2.0,
  ('generate', 8, 1): 1.5,
  ('generate', 1, 5): 2.0,
  ('generate', 8, 5): 2.0,
  ('encode', 1, 1): 1.1,
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

  dtypes: both sides are measured in each, and the ratios are of the first.
  """
  import jax

  sides = {
    name + (f'_{dtype}' if place else ''): (side, dtype)
    for place, dtype in enumerate(dtypes)
    for name, side in (('ours', OurAnswers), ('theirs', TheirAnswers))
  }
  with tempfile.TemporaryDirectory() as directory:
    save_random(PRESETS[size], directory, dtypes[0])
    with Sides(sides, directory, threads) as workers:
      for case in chosen:
        row = measure_answers(size, case, workers, rounds)
        if case.kind == 'decode':
          kind = jax.devices()[0].device_kind
          row |= _reading(
            size, case, dtypes[0], min(row['seconds']['ours']), kind
          )
        yield row


def _reading(
  size: str, case: AnswerCase, dtype: str, seconds: float, device_kind: str
) -> dict[str, float]:
  """The bytes that a step must read, in a second, and their share of the peak.

  seconds: of our step.
  """
  config = PRESETS[size]
  inputs = case.text_tokens + case.images * config.qformer.num_queries
  read = decoding.step_bytes(
    config,
    flops.Lengths(inputs, 2 * case.new_tokens, case.images),
    prompts=case.batch,
    beams=case.beams,
    itemsize=np.dtype(dtype).itemsize,
  )
  found = {'bytes_per_second': read / seconds}
  peak = chips.bandwidth(device_kind)
  return (
    found
    if peak is None
    else found | {'bandwidth': found['bytes_per_second'] / peak}
  )


def measure_answers(
  size: str, case: AnswerCase, workers: Asked, rounds: int
) -> dict[str, Any]:
  """Times every side, `rounds` times in turns.

  Each turn begins with a run that is not timed: after another side's turn,
  caches are cold and threads asleep. Times are in seconds. agreement: the share
  of equal tokens; for 'encode' it is `difference`, the largest between the
  visual tokens.
  """
  outputs = {name: _ask(workers, name, case)[1] for name in workers.names}
  seconds: dict[str, list[float]] = {name: [] for name in workers.names}
  for _ in range(rounds):
    for name in workers.names:
      _ask(workers, name, case)
      seconds[name].append(_ask(workers, name, case)[0])
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
    'ratio_in_bfloat16': (
      min(seconds['theirs_bfloat16']) / min(seconds['ours_bfloat16'])
      if 'ours_bfloat16' in seconds
      else None
    ),
    'target': TARGETS.get((case.kind, case.batch, case.beams)),
    'difference' if case.kind == 'encode' else 'agreement': agreement,
    'seconds': seconds,
  }


def _ask(
  workers: Asked, name: str, case: AnswerCase
) -> tuple[float, np.ndarray]:
  """Runs a case on one side.

  A step's time is a difference: answers twice as long, less answers as long as
  the case says, over the tokens between. What comes before the first token
  falls out.
  """
  if case.kind != 'decode':
    return workers.ask(name, case)
  short = dataclasses.replace(case, kind='generate')
  long = dataclasses.replace(short, new_tokens=2 * case.new_tokens)
  less, _ = workers.ask(name, short)
  more, output = workers.ask(name, long)
  return (more - less) / case.new_tokens, output


def answers_table(results: Sequence[dict[str, Any]]) -> str:
  """A Markdown table; seconds are 'median (least to most)'.

  Ratios are theirs / ours. 'read': what our decoding step must read, and its
  share of the memory's bandwidth. 'in bfloat16' is of minima, where both sides
  were measured in it as well.
  """
  rows = []
  for result in results:
    row = timed(result)
    bfloat16 = result['ratio_in_bfloat16']
    row['target'] = f'{result["target"]:.1f}x' if result['target'] else ''
    row['in bfloat16'] = f'{bfloat16:.2f}x' if bfloat16 else ''
    if 'agreement' in result:
      row['agreement'] = f'{result["agreement"]:.0%}'
    else:
      row['agreement'] = f'within {result["difference"]:.1g}'
    row['read'] = _read_text(result)
    rows.append(row)
  return show.markdown(rows)


def _read_text(result: dict[str, Any]) -> str:
  if 'bytes_per_second' not in result:
    return ''
  text = f'{result["bytes_per_second"] / 1e9:.0f} GB/s'
  share = result.get('bandwidth')
  return text if share is None else f'{text}, {share:.0%}'

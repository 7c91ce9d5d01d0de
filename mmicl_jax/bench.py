"""`mmicl bench`: ours and transformers on the same random weights.

The two sides take turns, case by case, so that whatever else the machine does
hits both. Prints medians with their spread, the ratio of medians and of the
minima, and how many of the answers' tokens agree.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mmicl_jax import report
from mmicl_jax.bench_sides import Asked, Sides, save_random, spread
from mmicl_jax.bench_workers import Case, Ours, Theirs
from mmicl_jax.errors import UserError
from mmicl_jax.presets import PRESETS

TARGETS = {
  ('generate', 1, 1): 2.0,
  ('generate', 8, 1): 1.5,
  ('generate', 1, 5): 2.0,
  ('generate', 8, 5): 2.0,
  ('encode', 1, 1): 1.0,
  ('questions', 6, 1): 3.0,
}


WHAT = ('generate', 'train', 'features', 'quality', 'demo')


def add_arguments(parser: argparse.ArgumentParser) -> None:
  add = parser.add_argument
  add('what', choices=WHAT, help='what to measure')
  add('--checkpoint', metavar='DIR', help='quality: of this model')
  add('--input', metavar='FILE', help='quality: on these records')
  add('--limit', type=int, default=64, help='quality: on so many')
  add('--sizes', default='small,base', help='of tiny, small, base, xl')
  add('--images', default='1,4', help='numbers of images (%(default)s)')
  add('--batches', default='1,8', help='prompts a step (%(default)s)')
  add('--beams', default='1,5', help='1 is greedy (%(default)s)')
  add('--kinds', default='encode,generate,questions', help='cases to run')
  add('--new_tokens', type=int, default=32)
  add('--rounds', type=int, default=5, help='turns of each side')
  add('--threads', type=int, default=2, help='CPU cores of each side')
  add('--dtype', default='float32', choices=('float32', 'bfloat16'))
  add('--no_bfloat16', action='store_true', help='without their bfloat16')
  add('--json', action='store_true', help='print JSON')
  parser.epilog = """examples:
  mmicl bench generate --sizes small --images 1 --batches 1 --rounds 3
  mmicl bench train --sizes small --images 1
  mmicl bench features --sizes small --images 4
  mmicl bench demo
  mmicl bench quality --checkpoint runs/demo/stage_2 --input test.jsonl"""


def main(args: argparse.Namespace) -> int:
  if args.what == 'demo':
    from mmicl_jax.demo import bench as demo_bench  # needs the extra `demo`

    rows = demo_bench.measure(args.rounds)
    print(json.dumps(rows, indent=2) if args.json else report.table(rows))
    return 0
  if args.what in ('train', 'features'):
    from mmicl_jax import bench_train

    return bench_train.main(args)
  if args.what == 'quality':
    if args.checkpoint is None or args.input is None:
      raise UserError('bench quality needs --checkpoint DIR and --input FILE.')
    from mmicl_jax import bench_quality  # loads JAX, which the workers need not

    found = bench_quality.report(args.checkpoint, args.input, args.limit)
    print('\n'.join(bench_quality.lines(found, args.json)))
    return 0
  results = []
  for size in args.sizes.split(','):
    if size not in PRESETS:
      raise UserError(f'--sizes has {size!r}: use {", ".join(PRESETS)}.')
    results += run(size, list(cases(args)), args)
  if args.json:
    print(json.dumps(results, indent=2))
  else:
    print('\n'.join(table(results)))
  return 0


def cases(args: argparse.Namespace) -> Iterator[Case]:
  """All combinations that were asked for."""
  numbers = {}
  for name in ('images', 'batches', 'beams'):
    try:
      numbers[name] = [int(part) for part in getattr(args, name).split(',')]
    except ValueError as error:
      raise UserError(f'--{name} takes numbers, such as 1,4.') from error
  for kind in args.kinds.split(','):
    for images in numbers['images']:
      if kind == 'encode':
        yield Case(kind, images)
      elif kind == 'questions':
        yield Case(kind, images, 6, new_tokens=8)
      elif kind == 'generate':
        for batch in numbers['batches']:
          for beams in numbers['beams']:
            yield Case(kind, images, batch, beams, new_tokens=args.new_tokens)
      else:
        raise UserError(f'--kinds has {kind!r}: use encode,generate,questions.')


def run(
  size: str, chosen: Sequence[Case], args: argparse.Namespace
) -> list[dict[str, Any]]:
  """Measures all cases at one size; one dictionary a case."""
  sides = {'ours': (Ours, args.dtype), 'theirs': (Theirs, args.dtype)}
  if not args.no_bfloat16 and args.dtype != 'bfloat16':
    sides['theirs_bfloat16'] = (Theirs, 'bfloat16')
  with tempfile.TemporaryDirectory() as directory:
    save_random(PRESETS[size], directory)
    with Sides(sides, directory, args.threads) as workers:
      return [measure(size, case, workers, args.rounds) for case in chosen]


def measure(
  size: str, case: Case, workers: Asked, rounds: int
) -> dict[str, Any]:
  """Seconds of every side, taking turns after a first run that is not timed."""
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
  result = {
    'size': size,
    'case': case.name,
    'units_per_second': case.units / float(np.median(ours)),
    'ratio_of_medians': float(np.median(theirs) / np.median(ours)),
    'ratio_of_minima': min(theirs) / min(ours),
    # Their best setting on a CPU, where ours is float32.
    'ratio_to_bfloat16': (
      min(seconds['theirs_bfloat16']) / min(ours)
      if 'theirs_bfloat16' in seconds
      else None
    ),
    'target': TARGETS.get((case.kind, case.batch, case.beams)),
    'difference' if case.kind == 'encode' else 'agreement': agreement,
    'seconds': seconds,
  }
  print(
    f'{size}: {case.name}: {result["ratio_of_minima"]:.2f}x', file=sys.stderr
  )
  return result


def table(results: Sequence[dict[str, Any]]) -> list[str]:
  """A Markdown table: seconds are median (least to most).

  Ratios are theirs / ours: of medians, of minima, and of minima to their
  bfloat16.
  """
  names = list(results[0]['seconds'])
  head = ['size', 'case', *(f'{name}, s' for name in names)]
  head += ['medians', 'minima', 'target', 'to bfloat16', 'agreement']
  lines = [' | '.join(head), ' | '.join('---' for _ in head)]
  for result in results:
    cells = [result['size'], result['case']]
    cells += map(spread, result['seconds'].values())
    cells += [f'{result[f"ratio_of_{n}"]:.2f}x' for n in ('medians', 'minima')]
    bfloat16 = result['ratio_to_bfloat16']
    for ratio, digits in ((result['target'], 1), (bfloat16, 2)):
      cells.append(f'{ratio:.{digits}f}x' if ratio else '')
    if 'agreement' in result:
      cells.append(f'{result["agreement"]:.0%}')
    else:
      cells.append(f'within {result["difference"]:.1g}')
    lines.append(' | '.join(cells))
  return [f'| {line} |' for line in lines]

"""`mmicl bench`: times training, generation and scoring."""

import argparse
import datetime
import itertools
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmicl_jax.errors import UserError
from mmicl_jax.presets import PRESETS
from mmicl_jax.runtime import show

WHAT = ('generate', 'train', 'features', 'data', 'quality', 'demo')
WHAT += ('score', 'serve', 'all')
EPILOG = """examples:
  mmicl bench generate --sizes small --images 1 --batches 1 --rounds 3
  mmicl bench train --sizes small --images 1
  mmicl bench features --sizes small --images 4
  mmicl bench data --sizes small --rounds 3
  mmicl bench demo
  mmicl bench score --rounds 3
  mmicl bench serve --sizes small --clients 1,32 --rounds 1
  mmicl bench quality --checkpoint runs/demo/stage_2 --input test.jsonl
  mmicl bench all --out docs/benchmarks.md --sizes small --rounds 3"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
  add = parser.add_argument
  add('what', choices=WHAT, help='what to measure')
  add('--checkpoint', metavar='DIR', help='quality: the model to measure')
  add('--input', metavar='FILE', help='quality: the records to answer')
  add('--limit', type=int, default=64, help='quality: records at most')
  add('--sizes', default='small,base', help='among tiny, small, base, xl')
  add('--images', default='1,4', help='numbers of images (%(default)s)')
  add('--batches', help='prompts in each step (generate: 1,8; train: 4)')
  add('--beams', default='1,5', help='1 is greedy (%(default)s)')
  add(
    '--kinds',
    default='encode,generate,questions',
    help='generate: cases to run (%(default)s; also decode, one step)',
  )
  add('--stages', default='tune', help='train: among pretrain, tune')
  add('--new_tokens', type=int, default=32)
  add('--clients', default='1,8,32,64', help='serve: at a time (%(default)s)')
  add('--workloads', default='vqa,few-shot', help='serve: (%(default)s)')
  add('--requests', type=int, default=2, help='serve: of each client')
  add('--rounds', type=int, default=5, help='timed runs of each side')
  add('--threads', type=int, default=2, help='CPU cores of each side')
  add('--dtype', default='float32', choices=('float32', 'bfloat16'))
  add('--no_bfloat16', action='store_true', help='generate: float32 alone')
  add('--out', metavar='PAGE.md', help='all: the page to write')
  add(
    '--parts',
    default='generate,train,features',
    help='all: what to measure (%(default)s; also serve)',
  )
  add('--json', action='store_true', help='print JSON')
  parser.epilog = EPILOG


def main(args: argparse.Namespace) -> int:
  # The sides share a GPU, of which JAX takes three quarters otherwise.
  os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
  rows, text = _all(args) if args.what == 'all' else _measured(args)
  if args.json:
    show.print_json(rows)
  else:
    print(text)
  return 0


def _measured(args: argparse.Namespace) -> tuple[list[Any], str]:
  run = {
    'generate': _generate,
    'train': _train,
    'features': _train,
    'data': _data,
    'quality': _quality,
    'demo': _demo,
    'score': _score,
    'serve': _serve,
  }[args.what]
  return run(args)


def _all(args: argparse.Namespace) -> tuple[list[Any], str]:
  from mmicl_jax.bench import page
  from mmicl_jax.runtime import environment, files

  if args.out is None or not args.out.endswith('.md'):
    raise UserError('bench all needs --out PAGE.md: the page that it writes.')
  names = args.parts.split(',')
  if unknown := set(names) - set(page.TITLES):
    raise UserError(
      f'--parts has {min(unknown)!r}: use {", ".join(page.TITLES)}.'
    )
  parts = []
  for name in names:
    one = argparse.Namespace(**vars(args) | {'what': name})
    parts.append(page.BenchPart(name, *_measured(one)))
  out = Path(args.out)
  picture = out.with_suffix('.svg')
  facts = environment.environment()
  about = {
    'machine': environment.machine(facts),
    'versions': environment.named_versions(facts, page.PACKAGES),
    'date': datetime.date.today().isoformat(),
    'command': shlex.join(['mmicl', *sys.argv[1:]]),
  }
  text = page.benchmark_page(parts, plot=picture.name, **about)
  out.parent.mkdir(parents=True, exist_ok=True)
  results = {part.name: part.rows for part in parts}
  files.write_json(out.with_suffix('.json'), about | {'results': results})
  files.write_bytes(picture, page.ratio_plot(parts))
  files.write_text(out, text)
  return [row for part in parts for row in part.rows], f'{out} is written'


def _generate(args: argparse.Namespace) -> tuple[list[Any], str]:
  from mmicl_jax.bench import answers

  cases = answers.cases(
    args.kinds.split(','),
    _numbers(args, 'images'),
    _numbers(args, 'batches', [1, 8]),
    _numbers(args, 'beams'),
    args.new_tokens,
  )
  dtypes = [args.dtype]
  if not args.no_bfloat16 and args.dtype != 'bfloat16':
    dtypes.append('bfloat16')
  rows = []
  for size in _sizes(args):
    for row in answers.run_answers(
      size, cases, dtypes, args.threads, args.rounds
    ):
      _tell(row)
      rows.append(row)
  return rows, answers.answers_table(rows)


def _train(args: argparse.Namespace) -> tuple[list[Any], str]:
  from mmicl_jax.bench import step

  images, rows = _numbers(args, 'images'), []
  chosen = args.stages.split(',')
  for stage in chosen:
    if stage not in step.STAGES:
      raise UserError(f'--stages has {stage!r}: use {", ".join(step.STAGES)}.')
  for size, stage in itertools.product(_sizes(args), chosen):
    for row in step.run_steps(
      size,
      images,
      args.dtype,
      args.threads,
      args.rounds,
      batches=_numbers(args, 'batches', [step.StepCase.batch]),
      stage=stage,
      cached=args.what == 'features',
    ):
      _tell(row)
      rows.append(row)
  return rows, step.steps_table(rows)


def _data(args: argparse.Namespace) -> tuple[list[Any], str]:
  from mmicl_jax.bench import loading, padding

  sizes = list(_sizes(args))
  for size in sizes:
    padding.check_queries(size)
  loaded = loading.compare_loading(args.threads, args.rounds)
  wasted = padding.measure_waste()
  steps = [
    padding.measure_packing(size, args.rounds, args.threads) for size in sizes
  ]
  tables = (
    loading.loading_table(loaded),
    padding.waste_table(wasted),
    padding.packing_table(steps),
  )
  return [*loaded, *wasted, *steps], '\n\n'.join(tables)


def _quality(args: argparse.Namespace) -> tuple[list[Any], str]:
  if args.checkpoint is None or args.input is None:
    raise UserError('bench quality needs --checkpoint DIR and --input FILE.')
  from mmicl_jax.bench import quality

  rows = quality.measure_quality(args.checkpoint, args.input, args.limit)
  return rows, quality.quality_table(rows)


def _demo(args: argparse.Namespace) -> tuple[list[Any], str]:
  from mmicl_jax.bench import demo  # needs the packages of the extra `demo`

  rows = demo.measure_demo(args.rounds)
  return rows, show.table(rows)


def _score(args: argparse.Namespace) -> tuple[list[Any], str]:
  from mmicl_jax.bench import score

  rows = score.measure_scoring(args.rounds)
  return rows, show.table(rows)


def _serve(args: argparse.Namespace) -> tuple[list[Any], str]:
  from mmicl_jax.bench import serve  # needs the packages of the extra `serve`

  kinds = args.workloads.split(',')
  for kind in kinds:
    if kind not in serve.KINDS:
      raise UserError(
        f'--workloads has {kind!r}: use {", ".join(serve.KINDS)}.'
      )
  cases = serve.serve_cases(kinds, _numbers(args, 'clients'), args.requests)
  rows = []
  for size in _sizes(args):
    for row in serve.run_serving(
      size, cases, args.dtype, args.threads, args.rounds
    ):
      _tell_rate(row)
      rows.append(row)
  return rows, serve.serve_table(rows)


def _tell_rate(row: dict[str, Any]) -> None:
  """Prints the rate of one side of a case as soon as it is measured."""
  rate = f'{row["requests_per_second"]:.2f} requests/s'
  text = f'{row["size"]}: {row["case"]}: {row["side"]}: {rate}'
  print(text, file=sys.stderr)


def _sizes(args: argparse.Namespace) -> Iterator[str]:
  for size in args.sizes.split(','):
    if size not in PRESETS:
      raise UserError(f'--sizes has {size!r}: use {", ".join(PRESETS)}.')
    yield size


def _numbers(
  args: argparse.Namespace, name: str, default: Sequence[int] = ()
) -> Sequence[int]:
  text = getattr(args, name)
  if text is None:
    return default
  try:
    return [int(part) for part in text.split(',')]
  except ValueError as error:
    raise UserError(f'--{name} takes numbers, such as 1,4.') from error


def _tell(row: dict[str, Any]) -> None:
  """Prints the ratio of a case as soon as it is measured."""
  text = f'{row["size"]}: {row["case"]}: {row["ratio_of_minima"]:.2f}x'
  print(text, file=sys.stderr)

"""`mmicl eval`: asks a model a benchmark's questions, and reports its score."""

import argparse
import os
from pathlib import Path

from mmicl_jax.commands.model_arguments import (
  add_model_arguments,
  add_shard,
  load_predictor,
  parse_shard,
)
from mmicl_jax.errors import UserError
from mmicl_jax.runtime import show
from mmicl_jax.runtime.lock import only_writer
from mmicl_jax.runtime.remote import is_remote

EPILOG = """examples:
  mmicl eval --list
  mmicl eval --checkpoint checkpoints/xxl --task mme,pope --raw official \\
    --out runs/eval
  mmicl eval --checkpoint checkpoints/xxl --task vizwiz --raw official \\
    --shots 0,4 --shot_source retrieved --prompts all --out runs/vizwiz
  mmicl eval --compare runs/eval_a runs/eval_b"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
  add = parser.add_argument
  parser.epilog = EPILOG
  add('--list', action='store_true', help='show all benchmarks, ask nothing')
  add('--checkpoint', metavar='DIR', help='MODEL_DIR or PyTorch')
  add('--task', metavar='A,B', help='names of --list, or JSON files')
  add('--raw', metavar='DIR', help='official files; DIR/TASK where it exists')
  add('--out', metavar='DIR', help='what is there already is kept')
  add('--shots', metavar='K,...', help='demonstrations, as in 0,2,4')
  add(
    '--shot_source',
    default='random',
    metavar='HOW',
    help='random, fixed:FILE.jsonl, or retrieved[:image|:question|:both]',
  )
  add('--seeds', default='0', metavar='N,...', help='of drawn demonstrations')
  add(
    '--prompts',
    default='0',
    metavar='N,...',
    help='numbers of forms, all, or a JSON file of forms (%(default)s)',
  )
  add('--splits', metavar='A,B', help='others than the benchmark asks of')
  add('--limit', type=int, metavar='N', help='the first N items of a split')
  add_shard(parser)
  add(
    '--allow_partial',
    action='store_true',
    help='leave out items that cannot be asked, and report the coverage',
  )
  add(
    '--workers',
    type=int,
    default=os.cpu_count() or 1,
    help='processes that look at pictures',
  )
  add(
    '--compare',
    nargs=2,
    metavar=('A', 'B'),
    help='test whether two runs of --out differ, on the items of both',
  )
  add_model_arguments(parser)
  add('--json', action='store_true', help='print JSON')


def main(args: argparse.Namespace) -> int:
  if args.list:
    return _list(args)
  if args.compare:
    return _compare(args)
  for name in ('checkpoint', 'task', 'raw', 'out'):
    if getattr(args, name) is None:
      raise UserError(f'--{name} is missing: see mmicl eval --help')
  from mmicl_jax.evaluation import run
  from mmicl_jax.evaluation.declaration import load_benchmark
  from mmicl_jax.evaluation.report import PAGE, write_report
  from mmicl_jax.evaluation.summary import main_rows

  for name in ('raw', 'out'):
    if is_remote(getattr(args, name)):
      raise UserError(
        f'--{name} {getattr(args, name)} is on a bucket: name a folder of this '
        'machine'
      )
  if args.workers < 1:
    raise UserError(f'--workers {args.workers}: use at least 1 process')
  plan = run.EvalPlan(
    Path(args.raw),
    Path(args.out),
    tuple(load_benchmark(name) for name in _names(args.task)),
    shots=None if args.shots is None else _numbers('--shots', args.shots),
    seeds=_numbers('--seeds', args.seeds),
    prompts=args.prompts,
    shot_source=args.shot_source,
    splits=tuple(_names(args.splits)),
    limit=args.limit,
    shard=parse_shard(args.shard),
    allow_partial=args.allow_partial,
    batch_size=args.batch_size,
    max_input_length=args.max_input_length,
    workers=args.workers,
  )
  with only_writer(args.out):
    done = run.evaluate(plan, lambda: load_predictor(args))
    if plan.shard[1] > 1:
      print(
        f'{args.out}: shard {args.shard}; put all together with mmicl merge'
      )
      return 0
    found = write_report(plan.out)
  if args.json:
    show.print_json(found)
    return 0
  names = {task.benchmark.name for task in done}
  rows = [row for row in main_rows(found) if row['task'] in names]
  print(show.table(rows))
  print(f'wrote {Path(args.out) / PAGE}')
  return 0


def _list(args: argparse.Namespace) -> int:
  from mmicl_jax.evaluation import declaration

  rows = []
  for name in declaration.names():
    one = declaration.load_benchmark(name)
    answers = {one.answering, *one.split_answering.values()}
    rows.append(
      {
        'task': name,
        'title': one.title,
        'dataset': one.dataset,
        'splits': ' '.join(one.splits) or 'as the files are named',
        'answered by': ' and '.join(sorted({x.by for x in answers})),
        'scorer': one.scorer,
        'prompts': len(one.forms),
      }
    )
  if args.json:
    show.print_json(rows)
  else:
    print(show.table(rows))
    print('\nmmicl data build --list --json shows the official tree of each.')
  return 0


def _compare(args: argparse.Namespace) -> int:
  from mmicl_jax.evaluation.compare import compare_runs

  rows = compare_runs(Path(args.compare[0]), Path(args.compare[1]))
  if args.json:
    show.print_json(rows)
  else:
    print(show.table(rows))
  return 0


def _names(text: str | None) -> list[str]:
  return [name for name in (text or '').split(',') if name]


def _numbers(flag: str, text: str) -> tuple[int, ...]:
  try:
    numbers = tuple(int(x) for x in text.split(','))
  except ValueError as error:
    raise UserError(f'{flag} {text}: give numbers, as in 0,2,4') from error
  if len(set(numbers)) < len(numbers):
    raise UserError(f'{flag} {text}: give each number once')
  return numbers

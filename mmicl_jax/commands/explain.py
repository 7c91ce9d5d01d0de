"""`mmicl explain`: what the demonstrations of prompts did to their answers."""

import argparse
import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mmicl_jax.commands.model_arguments import (
  add_model_arguments,
  add_shard,
  load_predictor,
  parse_shard,
)
from mmicl_jax.errors import UserError
from mmicl_jax.runtime import files, remote, show
from mmicl_jax.runtime.outputs import readable_twice

EPILOG = """examples:
  mmicl explain --checkpoint runs/demo/stage_2 --attention \\
    --input runs/demo/held_out/icl_words_4.jsonl --out runs/explained
  mmicl explain --checkpoint checkpoints/xxl --task vizwiz --raw official \\
    --shots 4 --limit 200 --out runs/vizwiz_explained"""
# Flags that only --task reads, and what they are without being given.
_OF_TASK = {
  'raw': None,
  'shots': 4,
  'shot_source': 'random',
  'seed': 0,
  'prompt': 0,
  'splits': '',
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
  add = parser.add_argument
  parser.epilog = EPILOG
  add('--checkpoint', required=True, metavar='DIR', help='MODEL_DIR or PyTorch')
  add('--input', metavar='FILE', help='records with answers, or')
  add('--task', metavar='NAME', help='a benchmark: mmicl eval --list has all')
  add('--out', required=True, metavar='DIR', help='a new folder')
  add(
    '--limit', type=int, metavar='N', help='the first N that can be explained'
  )
  add('--data_dir', metavar='DIR', help='where image paths of --input start')
  add(
    '--attention',
    action='store_true',
    help='also what the answer attends to, with maps over the pictures',
  )
  add(
    '--zero_shot',
    action='store_true',
    help='also prompts without demonstrations: how their images are named, '
    "beside the file's other answers",
  )
  add_shard(parser)
  group = parser.add_argument_group('with --task, as in mmicl eval')
  add = group.add_argument
  add('--raw', metavar='DIR', help='official files; DIR/TASK where it exists')
  add('--shots', type=int, metavar='K', help='demonstrations (4)')
  add('--shot_source', metavar='HOW', help='random, fixed:..., retrieved:...')
  add('--seed', type=int, metavar='N', help='of drawn demonstrations (0)')
  add('--prompt', type=int, metavar='N', help='number of the form (0)')
  add('--splits', metavar='A,B', help='others than the benchmark asks of')
  add_model_arguments(parser)
  parser.add_argument('--json', action='store_true', help='print JSON')


def main(args: argparse.Namespace) -> int:
  shard = parse_shard(args.shard)
  _check(args)
  # Imported here, since they load JAX, which --help does not need.
  from mmicl_jax.evaluation import explanation
  from mmicl_jax.evaluation.attention import prompt_attention
  from mmicl_jax.evaluation.attribution import prompt_scores
  from mmicl_jax.evaluation.explanation_page import effect_row
  from mmicl_jax.evaluation.explanation_shards import run_digest, write_shard
  from mmicl_jax.evaluation.run import Loaded

  model = Loaded(lambda: load_predictor(args))
  facts: dict[str, Any] = {'checkpoint': args.checkpoint}
  if args.task:
    names = ('task', 'shots', 'shot_source', 'seed', 'prompt')
    facts |= {name: getattr(args, name) for name in names}
  else:
    facts['input'] = args.input
    if args.zero_shot:
      facts['zero_shot'] = True
  with (
    files.new_directory(args.out) as folder,
    _prompts(args, model.look) as (chosen, left_out),
  ):
    predictor = model.get()
    part = explanation.explain_part(
      chosen,
      prompt_scores(predictor),
      prompt_attention(predictor) if args.attention else None,
      shard,
    )
    if shard[1] > 1:
      settings = (predictor.digest, args.attention, args.max_input_length)
      run = run_digest(chosen, *settings, left_out, args.batch_size)
      write_shard(folder, shard, run, len(chosen), facts, left_out, part)
    else:
      found = explanation.write_explanation(folder, facts, left_out, part)
  if shard[1] > 1:
    print(f'{args.out}: shard {args.shard}; put all together with mmicl merge')
    return 0
  if args.json:
    show.print_json(found)
    return 0
  print(show.table([effect_row(row) for row in found['effects']]))
  bad = sum(found['left_out'].values())
  print(
    f'{found["records"]:,} prompts, {100 * found["accuracy"]:.1f} % right'
    + (f', {bad:,} records left out' if bad else '')
    + f'; wrote {os.path.join(args.out, explanation.PAGE)}'
  )
  return 0


def _check(args: argparse.Namespace) -> None:
  """Raises UserError for flags that do not go together."""
  if bool(args.input) == bool(args.task):
    raise UserError('give --input FILE, or --task NAME with --raw DIR')
  if args.task and args.raw is None:
    raise UserError(f'--task {args.task} needs --raw, the official files')
  if args.task and remote.is_remote(args.raw):
    raise UserError(f'--raw {args.raw} is on a bucket: name a local folder')
  if args.limit is not None and args.limit < 1:
    raise UserError(f'--limit {args.limit}: explain at least 1 record')
  for name, default in _OF_TASK.items():
    if getattr(args, name) is None:
      setattr(args, name, default)
    elif args.input:
      raise UserError(f'--{name} is for --task: leave it out with --input')
  for name in ('data_dir', 'zero_shot'):
    if args.task and getattr(args, name):
      raise UserError(f'--{name} is for --input: leave it out with --task')


@contextlib.contextmanager
def _prompts(
  args: argparse.Namespace, look: Callable[..., Any]
) -> Iterator[tuple[list[Any], dict[str, int]]]:
  """The prompts, while their pictures are there, and what was left out."""
  from mmicl_jax.evaluation import explanation
  from mmicl_jax.evaluation.declaration import load_benchmark
  from mmicl_jax.evaluation.explained_task import TaskPlan, task_prompts

  if args.input:
    with _records(args) as (path, data_dir):
      yield explanation.explainable(path, data_dir, args.limit, args.zero_shot)
    return
  plan = TaskPlan(
    load_benchmark(args.task),
    Path(args.raw),
    args.shots,
    args.shot_source,
    args.seed,
    args.prompt,
    tuple(name for name in args.splits.split(',') if name),
  )
  with tempfile.TemporaryDirectory(prefix='mmicl-explain-') as folder:
    yield task_prompts(plan, Path(folder), look, args.limit)


@contextlib.contextmanager
def _records(
  args: argparse.Namespace,
) -> Iterator[tuple[str | os.PathLike, str | None]]:
  """The file, which is read more than once, and where image paths start."""
  if remote.is_file(args.input):
    yield args.input, args.data_dir
    return
  with readable_twice(args.input) as copy:
    yield copy, args.data_dir or os.curdir

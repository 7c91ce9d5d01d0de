"""`mmicl demo`: trains a small MMICL and shows that it learns in context."""

import argparse
import dataclasses
from pathlib import Path

from mmicl_jax.demo.ablations import DEMO_ABLATIONS
from mmicl_jax.demo.compare import compare_demos
from mmicl_jax.demo.run import PRESETS, run_seeds
from mmicl_jax.errors import UserError
from mmicl_jax.runtime import remote, show
from mmicl_jax.runtime.lock import only_writer


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    '--out', default='runs/demo', help='a new folder (%(default)s)'
  )
  parser.add_argument('--seed', type=int, default=0, help='of everything')
  parser.add_argument(
    '--preset',
    choices=PRESETS,
    default='default',
    help='long takes four times the steps (%(default)s)',
  )
  parser.add_argument(
    '--seeds', type=int, default=1, help='how many models, one after another'
  )
  parser.add_argument(
    '--ablation',
    choices=DEMO_ABLATIONS,
    help='train without a part of it: docs/in_context_learning.md',
  )
  parser.add_argument(
    '--pretrained',
    metavar='DIR',
    help='take the towers and the language model of that run of mmicl demo',
  )
  parser.add_argument(
    '--compare',
    nargs='+',
    metavar='DIR',
    help='train nothing: print a Markdown table of runs that are there',
  )
  parser.add_argument('--json', action='store_true', help='print JSON')
  parser.epilog = """examples:
  mmicl demo --out runs/demo
  mmicl demo --preset long --seeds 3 --out runs/long
  mmicl demo --ablation no_few_shot --pretrained runs/demo --out runs/no_shots
  mmicl demo --compare runs/demo runs/no_shots"""


def main(args: argparse.Namespace) -> int:
  if args.compare:
    rows = compare_demos([Path(folder) for folder in args.compare])
    if args.json:
      show.print_json(rows)
    else:
      print(show.markdown(rows))
    return 0
  remote.only_here(args.out, '--out')
  out = Path(args.out)
  if args.seeds < 1:
    raise UserError(f'--seeds is {args.seeds}: give at least 1')
  if out.exists() and (not out.is_dir() or any(out.iterdir())):
    raise UserError(
      f'{out} is there already: name a new folder with --out, or remove it.'
    )
  with only_writer(out):
    found = run_seeds(
      out,
      args.seed,
      args.seeds,
      args.preset,
      args.ablation,
      Path(args.pretrained) if args.pretrained else None,
    )
  if args.json:
    show.print_json(dataclasses.asdict(found), None)
    return 0
  print(show.table(found.shot_table()))
  print(f'\npage: {out / "index.html"}\nask it: {found.ask_command}')
  print(f'  -> {found.ask_answer}\nPyTorch: {found.export}')
  return 0

"""`mmicl explain`: what the demonstrations of prompts did to their answers."""

import argparse
import contextlib
import os
from collections.abc import Iterator

from mmicl_jax.commands.model_arguments import (
  add_model_arguments,
  load_predictor,
)
from mmicl_jax.runtime import files, remote, show
from mmicl_jax.runtime.outputs import readable_twice


def add_arguments(parser: argparse.ArgumentParser) -> None:
  add = parser.add_argument
  add('--checkpoint', required=True, metavar='DIR', help='MODEL_DIR or PyTorch')
  add('--input', required=True, metavar='FILE', help='records with answers')
  add('--out', required=True, metavar='DIR', help='a new folder')
  add(
    '--limit', type=int, metavar='N', help='the first N that can be explained'
  )
  add('--data_dir', metavar='DIR', help='where image paths start')
  add_model_arguments(parser)
  add('--json', action='store_true', help='print JSON')
  parser.epilog = """example:
  mmicl explain --checkpoint runs/demo/stage_2 \\
    --input runs/demo/held_out/icl_words_4.jsonl --out runs/explained"""


def main(args: argparse.Namespace) -> int:
  # Imported here, since they load JAX, which --help does not need.
  from mmicl_jax.evaluation import explanation
  from mmicl_jax.evaluation.attribution import prompt_scores
  from mmicl_jax.evaluation.explanation_page import effect_row

  with files.new_directory(args.out) as folder, _records(args) as source:
    path, data_dir = source
    chosen, left_out = explanation.explainable(path, data_dir, args.limit)
    found = explanation.explain_records(
      chosen,
      left_out,
      prompt_scores(load_predictor(args)),
      folder,
      {'checkpoint': args.checkpoint, 'input': args.input},
    )
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

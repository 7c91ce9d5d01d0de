"""`mmicl merge`: shards of generate, eval, explain or cache-features."""

import argparse
from pathlib import Path

from mmicl_jax.errors import UserError
from mmicl_jax.runtime.lock import only_writer
from mmicl_jax.runtime.outputs import check_output
from mmicl_jax.runtime.remote import only_here


def add_arguments(parser: argparse.ArgumentParser) -> None:
  add = parser.add_argument
  add('out', metavar='OUT', help='the folder or file to write')
  add('shards', nargs='+', metavar='SHARD', help='all --out or --output')
  parser.epilog = """examples:
  mmicl eval ... --shard 0/2 --out runs/part_0
  mmicl eval ... --shard 1/2 --out runs/part_1
  mmicl merge runs/whole runs/part_0 runs/part_1
  mmicl merge answers.jsonl part_0.jsonl part_1.jsonl
  mmicl merge cache cache_0 cache_1"""


def main(args: argparse.Namespace) -> int:
  shards = [Path(path) for path in args.shards]
  for path in shards:
    only_here(path, 'SHARD')
    if not path.exists():
      raise UserError(f'{path} does not exist: name a shard')
  if len({path.is_dir() for path in shards}) > 1:
    raise UserError(
      'give folders of mmicl eval, explain or data cache-features, or files of '
      'mmicl generate'
    )
  if shards[0].is_dir():
    only_here(args.out, 'OUT')
  with only_writer(args.out):
    if shards[0].is_dir():
      _folders(Path(args.out), shards)
    else:
      _files(Path(args.out), shards)
  print(f'wrote {args.out}')
  return 0


def _folders(out: Path, shards: list[Path]) -> None:
  from mmicl_jax.data import feature_store

  if (shards[0] / feature_store.INDEX).is_file():
    from mmicl_jax.inference.feature_shards import merge_features

    merge_features(out, shards)
    return

  from mmicl_jax.evaluation.explanation_shards import (
    SHARD,
    merge_explanations,
  )
  from mmicl_jax.evaluation.merge import merge_folders
  from mmicl_jax.evaluation.report import write_report

  if (shards[0] / SHARD).is_file():
    merge_explanations(out, shards)
    return
  merge_folders(out, shards)
  write_report(out)


def _files(out: Path, shards: list[Path]) -> None:
  from mmicl_jax.inference import shards as merging

  check_output(out, [*map(str, shards)])
  told = [merging.read_sidecar(path) for path in shards]
  ordered = merging.in_order(shards, told)
  merging.merge_lines(ordered, out, told[0]['block'], told[0]['records'])

"""`mmicl train`: trains as gin files say, and writes checkpoints."""

import argparse
import os
from collections.abc import Mapping
from typing import Any

import gin
import jax

from mmicl_jax.checkpoints import model_card, model_dir
from mmicl_jax.configure import gin_files
from mmicl_jax.data import jsonl
from mmicl_jax.runtime import hosts, malloc, remote
from mmicl_jax.training import loop


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    '--gin_file',
    action='append',
    required=True,
    metavar='FILE',
    help='a gin file, here or in gin_configs; repeatable, the later one wins',
  )
  parser.add_argument(
    '--gin_binding',
    action='append',
    default=[],
    metavar='NAME=VALUE',
    help='one setting, also written --gin.NAME=VALUE; repeatable',
  )
  parser.add_argument(
    '--profile',
    action='store_true',
    help='trace five of the first steps into MODEL_DIR, for xprof',
  )
  _add_hosts(parser)
  parser.epilog = """environment:
  MMICL_HUGE_PAGES=1   keeps memory in huge pages, on a CPU under Linux: faster
                       steps (docs/training.md)

example:
  mmicl train --gin_file=models/base.gin --gin_file=stages/pretrain.gin \\
    --gin_file=meshes/cpu.gin --gin_file=runs/train.gin \\
    --gin.DATA="'train.jsonl'" --gin.VOCABULARY="'spiece.model'" \\
    --gin.MODEL_DIR="'runs/stage1'" --gin.TRAIN_STEPS=1000"""


def main(args: argparse.Namespace) -> int:
  gin_files.parse_gin(args.gin_file, args.gin_binding)
  hosts.join_hosts(
    args.multihost,
    args.coordinator_address,
    args.process_count,
    args.process_index,
  )
  with hosts.ending_together():
    result = gin_files.call_configured(
      loop.train,
      config_text=gin.config_str(),
      profile=args.profile,
      note=malloc.advice(jax.default_backend()),
    )
    if jax.process_index() == 0:
      leave_card(gin_files.macros(), result.step)
  return 0


def leave_card(names: Mapping[str, Any], step: int) -> None:
  """Writes the card of a run that ended, if its folder has a model.

  names: of the gin files, in capitals. A run may have no MODEL_DIR, or files of
  its own that bind the folder without that name: they get no card.
  """
  directory = names.get('MODEL_DIR')
  if not isinstance(directory, str):
    return
  if not remote.is_file(os.path.join(directory, model_dir.MODEL)):
    return
  records = _records(names.get('DATA'))
  model_card.write_card(
    directory, directory, step, pytorch=False, records=records
  )


def _records(data: Any) -> int | None:
  """How many records a JSON Lines file of this machine has; None: unknown."""
  if not isinstance(data, str) or not os.path.isfile(data):
    return None
  if not data.endswith('.jsonl'):
    return None
  with jsonl.open_lines(data) as file:
    return sum(1 for _ in jsonl.numbered_lines(file))


def _add_hosts(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of runs on several hosts, named as in T5X."""
  group = parser.add_argument_group('several hosts')
  group.add_argument(
    '--multihost',
    action='store_true',
    help='run as one of several processes that Cloud TPU, Slurm, Kubernetes '
    'or Open MPI started',
  )
  group.add_argument(
    '--coordinator_address',
    metavar='HOST:PORT',
    help='of process 0, if no scheduler tells it; needs the two below',
  )
  group.add_argument('--process_count', type=int, metavar='N')
  group.add_argument('--process_index', type=int, metavar='I')

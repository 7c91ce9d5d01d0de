"""The flags of commands that load a model to answer with, and the loading."""

import argparse
from typing import Any

from mmicl_jax.errors import UserError


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
  """Adds how a checkpoint is loaded and run, but not --checkpoint itself."""
  add = parser.add_argument
  add('--batch_size', type=int, default=8, help='prompts a step (%(default)s)')
  add('--max_input_length', type=int, default=1024, help='in tokens')
  add('--dtype', choices=('float32', 'bfloat16'), help='to compute in')
  add('--weights', choices=('int8',), help='hold the weights in eight bits')
  add('--mesh', help='devices, as in data=2,tensor=4; -1: what is left')
  add('--cache_dir', metavar='DIR', help='keep visual tokens for later runs')
  add(
    '--compilation_cache',
    metavar='DIR',
    help='keep compiled programs for later runs, as JAX_COMPILATION_CACHE_DIR',
  )
  add(
    '--qformer_text',
    action='store_true',
    help="let InstructBLIP's Q-Former read the prompt; published runs do not",
  )


def load_predictor(args: argparse.Namespace) -> Any:
  """The Predictor of --checkpoint."""
  # Imported here, since they load JAX: bad arguments are refused before that.
  from mmicl_jax.inference.engine import check_size
  from mmicl_jax.inference.load import load
  from mmicl_jax.models import partitioning
  from mmicl_jax.runtime import jit_cache

  check_size('--batch_size', args.batch_size)
  check_size('--max_input_length', args.max_input_length)
  if args.compilation_cache:
    jit_cache.keep_compiled(args.compilation_cache)
  return load(
    args.checkpoint,
    mesh=partitioning.parse_mesh(args.mesh) if args.mesh else None,
    dtype=args.dtype,
    weights=args.weights,
    batch_size=args.batch_size,
    max_input_length=args.max_input_length,
    cache_dir=args.cache_dir,
    qformer_text=args.qformer_text,
  )


def add_shard(parser: argparse.ArgumentParser) -> None:
  """Adds --shard, by which several machines share the work."""
  text = 'do part I, from 0, of N; then mmicl merge'
  parser.add_argument('--shard', metavar='I/N', help=text)


def parse_shard(text: str | None) -> tuple[int, int]:
  """'1/4' -> (1, 4), nothing -> (0, 1); raises UserError for anything else.

  Counted from 0, as Slurm's arrays and Kubernetes' indexed jobs count.
  """
  if text is None:
    return 0, 1
  try:
    i, count = (int(x) for x in text.split('/'))
  except ValueError as error:
    raise UserError(f'--shard {text}: give I/N, as in 1/4') from error
  if not 0 <= i < count:
    raise UserError(f'--shard {text}: I is from 0 to N - 1')
  return i, count

"""`mmicl convert to-jax | to-pytorch | check`: PyTorch's weights and ours."""

import argparse
import math

from absl import logging

from mmicl_jax.convert.disk import to_jax, to_pytorch
from mmicl_jax.errors import UserError
from mmicl_jax.parity.check import check_parity
from mmicl_jax.parity.report import TOLERANCE
from mmicl_jax.runtime import show
from mmicl_jax.runtime.outputs import check_output

EPILOG = """examples:
  mmicl convert to-jax --source Salesforce/instructblip-flan-t5-xl \\
    --vocabulary spiece.model --out checkpoints/xl
  mmicl convert check --source HF_DIR --checkpoint checkpoints/xl \\
    --html parity.html
  mmicl convert to-pytorch --checkpoint checkpoints/xl --out HF_DIR

Each has its own --help: mmicl convert to-jax --help.
"""
TO_JAX = """examples:
  mmicl convert to-jax --source HF_DIR --out MODEL_DIR --dtype bfloat16
  mmicl convert to-jax --t5 google/flan-t5-xl --vit eva_vit_g.pth \\
    --qformer Salesforce/blip2-opt-2.7b --activation gelu --out MODEL_DIR
"""
TO_PYTORCH = """example:
  mmicl convert to-pytorch --checkpoint MODEL_DIR --out HF_DIR
"""
CHECK = """examples:
  mmicl convert check --source HF_DIR --checkpoint MODEL_DIR
  mmicl convert check --source HF_DIR --words 8 --images 1,0,5 --html page.html
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.epilog = EPILOG
  actions = parser.add_subparsers(
    dest='action', metavar='ACTION', required=True
  )

  def add(name: str, summary: str, epilog: str) -> argparse.ArgumentParser:
    return actions.add_parser(
      name,
      help=summary,
      description=summary[0].upper() + summary[1:] + '.',
      epilog=epilog,
      formatter_class=argparse.RawDescriptionHelpFormatter,
    )

  _to_jax_arguments(
    add('to-jax', 'a Hugging Face or MIC checkpoint to a MODEL_DIR', TO_JAX)
  )
  sub = add('to-pytorch', 'a MODEL_DIR to a Hugging Face directory', TO_PYTORCH)
  sub.add_argument(
    '--checkpoint', required=True, help='MODEL_DIR or checkpoint_<step>'
  )
  sub.add_argument('--out', required=True, help='directory to write')
  sub.add_argument('--vocabulary', help="spiece.model; default: MODEL_DIR's")
  sub.add_argument(
    '--qformer_vocabulary', help="BERT's vocab.txt, for InstructBLIP"
  )
  sub.add_argument(
    '--shard_gb', type=float, default=5.0, help='largest file (default 5)'
  )
  _json_argument(sub)
  _check_arguments(
    add('check', 'compare a checkpoint with PyTorch, layer by layer', CHECK)
  )


def main(args: argparse.Namespace) -> int:
  # Orbax logs every file that it makes, and the traceback of each error in its
  # threads before it raises the error here, where it becomes one sentence.
  logging.set_verbosity(logging.FATAL)
  return {'to-jax': _to_jax, 'to-pytorch': _to_pytorch, 'check': _check}[
    args.action
  ](args)


def _to_jax_arguments(sub: argparse.ArgumentParser) -> None:
  sub.add_argument('--source', help='directory or hub name: OWNER/NAME')
  sub.add_argument('--out', required=True, help='MODEL_DIR to write')
  sub.add_argument(
    '--dtype',
    choices=('float32', 'bfloat16'),
    help="dtype of the parameters; default: the source's",
  )
  sub.add_argument(
    '--vit_eps', type=float, help="eps of the ViT's layer norm, e.g. 1e-5"
  )
  sub.add_argument(
    '--vocabulary', help="T5's spiece.model, if not beside the source"
  )
  sub.add_argument(
    '--qformer_rows',
    type=int,
    help="grow the Q-Former's word table, e.g. 30623 for MIC's tokens",
  )
  parts = sub.add_argument_group('from parts, instead of --source')
  parts.add_argument('--t5', help='FLAN-T5 of Hugging Face or T5X')
  parts.add_argument('--vit', help='a BLIP-2 directory, or eva_vit_g.pth')
  parts.add_argument('--qformer', help='a BLIP-2 or InstructBLIP directory')
  parts.add_argument(
    '--instruction',
    action='store_true',
    help="if no --qformer is given, make InstructBLIP's variant",
  )
  parts.add_argument(
    '--activation', choices=('gelu', 'gelu_new'), help="T5's; gelu: erf"
  )
  parts.add_argument(
    '--seed', type=int, help='of the parameters that no part gives'
  )
  _json_argument(sub)


def _check_arguments(sub: argparse.ArgumentParser) -> None:
  sub.add_argument('--source', required=True, help='directory or hub name')
  sub.add_argument(
    '--checkpoint', help='MODEL_DIR; default: convert the source in memory'
  )
  sub.add_argument('--inputs', help='.npz with the arrays of a batch')
  sub.add_argument(
    '--images', default='2,0,3', help='images in each row (default 2,0,3)'
  )
  sub.add_argument(
    '--words', type=int, default=0, help="the Q-Former's words (default 0)"
  )
  sub.add_argument('--seed', type=int, default=0, help='of the random inputs')
  sub.add_argument('--vit_eps', type=float, help="eps of the ViT's layer norm")
  sub.add_argument(
    '--tolerance',
    type=float,
    default=TOLERANCE,
    help=f'relative to the largest value (default {TOLERANCE:g})',
  )
  sub.add_argument('--num_beams', type=int, default=4)
  sub.add_argument('--max_new_tokens', type=int, default=12)
  sub.add_argument('--html', help='also write a page to this file')
  _json_argument(sub)


def _json_argument(sub: argparse.ArgumentParser) -> None:
  sub.add_argument('--json', action='store_true', help='print JSON')
  sub.add_argument('--debug', action='store_true', help=argparse.SUPPRESS)


def _to_jax(args: argparse.Namespace) -> int:
  names = ('t5', 'vit', 'qformer', 'activation', 'seed')
  parts = {n: v for n in names if (v := getattr(args, n)) is not None}
  if args.instruction:
    parts['instruction'] = True
  options = {'dtype': args.dtype, 'vit_eps': args.vit_eps}
  if args.qformer_rows is not None:
    options['qformer_rows'] = args.qformer_rows
  notes = to_jax(
    args.source,
    args.out,
    tokenizer_path=args.vocabulary,
    parts=parts,
    **options,
  )
  return _done(args, notes)


def _to_pytorch(args: argparse.Namespace) -> int:
  if not 0 < args.shard_gb < math.inf:
    raise UserError(f'--shard_gb {args.shard_gb}: give a number above 0')
  notes = to_pytorch(
    args.checkpoint,
    args.out,
    tokenizer_path=args.vocabulary,
    qformer_vocab=args.qformer_vocabulary,
    shard_bytes=int(args.shard_gb * 10**9),
  )
  return _done(args, notes)


def _done(args: argparse.Namespace, notes: list[str]) -> int:
  if args.json:
    show.print_json({'out': args.out, 'notes': notes}, None)
  else:
    print('\n'.join([*(f'note: {n}' for n in notes), f'wrote {args.out}']))
  return 0


def _check(args: argparse.Namespace) -> int:
  """Returns 0 if all places are within tolerance, else 1."""
  if args.html:
    check_output(args.html, [args.inputs], mark=b'<!doctype html')
  report = check_parity(
    args.source,
    args.checkpoint,
    inputs=args.inputs,
    counts=_counts(args.images),
    words=args.words,
    seed=args.seed,
    tolerance=args.tolerance,
    vit_eps=args.vit_eps,
    num_beams=args.num_beams,
    max_new_tokens=args.max_new_tokens,
  )
  if args.html:
    report.write_html(args.html)
  if args.json:
    show.print_json(report.to_dict())
  else:
    print(report.text())
  return 0 if report.ok else 1


def _counts(text: str) -> list[int]:
  try:
    counts = [int(n) for n in text.split(',')]
  except ValueError:
    counts = [-1]
  if min(counts) < 0:
    raise UserError(f'--images {text}: give numbers such as 2,0,3')
  return counts

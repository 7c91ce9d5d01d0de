"""`mmicl compile`: does a run fit a slice of TPUs, and how fast can it be?"""

import argparse
import dataclasses

from mmicl_jax.compile import table
from mmicl_jax.compile.fits import compile_apart, compile_run
from mmicl_jax.compile.job import CompileReport
from mmicl_jax.cost.chips import GIB
from mmicl_jax.errors import UserError
from mmicl_jax.runtime import show
from mmicl_jax.runtime.outputs import check_output


def add_arguments(parser: argparse.ArgumentParser) -> None:
  add = parser.add_argument
  add(
    '--gin_file',
    action='append',
    default=[],
    metavar='FILE',
    help='files of the model, the stage and the mesh, as for `mmicl train`',
  )
  add(
    '--gin_binding',
    action='append',
    default=[],
    metavar='NAME=VALUE',
    help='one setting, also written --gin.NAME=VALUE; repeatable',
  )
  add(
    '--topology', default='v5e:2x4', help='generation and shape (%(default)s)'
  )
  add('--abstract', action='store_true', help='shardings only, in seconds')
  add(
    '--generate',
    action='store_true',
    help='compile the prefill of a batch of prompts and a decoding step',
  )
  add('--num_beams', type=int, default=1, help='--generate: 1 is greedy')
  add(
    '--weights',
    choices=['int8'],
    help='--generate: hold kernels in eight bits, as `mmicl generate` can',
  )
  add('--table', metavar='FILE', help='write the scaling table as Markdown')
  add('--only', default='', help='--table: rows that contain this text')
  add('--json', action='store_true', help='print JSON')
  parser.epilog = """examples:
  mmicl compile --gin_file=models/xxl.gin --gin_file=stages/tune.gin \\
    --gin_file=meshes/v5e-8-xxl.gin --topology v5e:2x4 --gin.BATCH_SIZE=8
  mmicl compile --generate --num_beams 4 --gin_file=models/xl.gin \\
    --gin_file=stages/tune.gin --topology v5e:2x2 --gin.BATCH_SIZE=4
  mmicl compile --table docs/scaling.md"""


def main(args: argparse.Namespace) -> int:
  if args.table:
    check_output(args.table, mark=b'# scaling')
    table.write_scaling_page(args.table, args.only, compile_apart)
    return 0
  if not args.gin_file:
    raise UserError(
      'nothing to compile: give --gin_file for the model and the stage, or '
      '--table FILE'
    )
  found = compile_run(
    args.gin_file,
    args.gin_binding,
    args.topology,
    shardings_only=args.abstract,
    num_beams=args.num_beams if args.generate else None,
    eight_bits=args.weights == 'int8',
  )
  if args.json:
    fields = {
      name: dataclasses.asdict(x) | {'flops_ratio': x.flops_ratio}
      for name, x in found.items()
    }
    show.print_json(fields if args.generate else fields['step'])
    return 0
  for name, report in found.items():
    if args.generate:
      print(f'{name}:')
    print('\n'.join(lines(report)))
  return 0


def lines(report: CompileReport) -> list[str]:
  """The lines of a report for a terminal."""

  def gib(x: float | int | None) -> str:
    return 'unknown' if x is None else f'{x / GIB:.2f} GiB'

  mesh = ', '.join(f'{axis} {size}' for axis, size in report.mesh.items())
  found = [
    f'{report.topology} ({mesh}), global batch {report.batch_size}: '
    f'{"fits" if report.fits else "does not fit"} ({report.reason})',
  ]
  if not report.compiled:
    found.append(
      'not compiled: libtpu is not installed, or --abstract was given; these '
      'figures follow from the shardings alone'
    )
  found += [
    f'HBM a chip: arguments {gib(report.argument_bytes)}, '
    f'temporaries {gib(report.temporary_bytes)}, '
    f'peak {gib(report.peak_bytes)}',
    f'model FLOPs: {report.model_flops / 1e12:.2f} T',
  ]
  if (
    report.compiled_flops is None
    or report.step_seconds is None
    or report.mfu is None
  ):
    return found
  found.append(
    f'compiled FLOPs: {report.compiled_flops / 1e12:.2f} T a chip, '
    f"{report.flops_ratio:.3f} x the model's"
  )
  for kind, sent in sorted(report.collectives.items()):
    count = report.collective_counts[kind]
    found.append(f'{kind}: {count}, {gib(sent)} sent a chip')
  parts = ', '.join(f'{n} {x * 1e3:.1f}' for n, x in report.roofline.items())
  found.append(
    f'at the roofline: {report.step_seconds * 1e3:.1f} ms ({parts}), bound by '
    f'{report.bound}, MFU {report.mfu:.0%}'
  )
  if report.estimated_seconds and report.alone_seconds is not None:
    found.append(
      f"by the compiler's own estimate: {report.estimated_seconds * 1e3:.1f} "
      f'ms of computing, {report.alone_seconds * 1e3:.1f} ms of sending that '
      f'nothing hides, MFU {report.estimated_mfu:.0%}'
    )
  found.append(
    f'compiled in {report.compile_seconds:.0f} s; computed from published '
    'peaks and the program, not measured'
  )
  return found

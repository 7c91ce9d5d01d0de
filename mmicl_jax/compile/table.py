"""The scaling table: stage 2 of the large models on each TPU generation."""

import dataclasses
import datetime
import importlib.metadata
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from mmicl_jax.compile.chips import GIB
from mmicl_jax.compile.job import Report
from mmicl_jax.errors import UserError
from mmicl_jax.model_dir import write_text

# Topologies and the files of meshes/ that ask for as many chips.
SLICES = {'v4:2x2x1': 'v4-8', 'v5p:2x2x1': 'v5p-8', 'v6e:2x4': 'v6e-8'}


@dataclasses.dataclass(frozen=True)
class Row:
  """One line of the table: stage 2 of a model on a slice."""

  model: str
  topology: str
  mesh: str | None
  batch_size: int = 8
  remat: str = 'full'

  @property
  def name(self) -> str:
    return f'{self.model.upper()} stage 2'


def rows() -> Iterator[Row]:
  """In the order of the table: the smallest slices come first."""
  for remat in ('full', 'none'):
    yield Row('xxl', 'v5e:2x4', 'v5e-8', remat=remat)
  for remat in ('full', 'none'):
    yield Row('xl', 'v5e:2x2', None, batch_size=4, remat=remat)
  # These chips have room for what XL would recompute.
  models = {'xxl': 'full', 'xl': 'none'}
  for (model, remat), (topology, mesh) in itertools.product(
    models.items(), SLICES.items()
  ):
    yield Row(model, topology, mesh, remat=remat)


def write(path: str, only: str, run: Callable[..., Report]) -> None:
  """Compiles all rows and writes the page after each of them.

  run: as cli.run. only: takes the rows whose text contains it.
  """
  chosen = [row for row in rows() if only in f'{row.name} {row.topology}']
  if not chosen:
    raise UserError(f'no row of the table contains {only!r}')
  done: list[tuple[Row, Report]] = []
  for i, row in enumerate(chosen):
    print(
      f'{i + 1}/{len(chosen)} {row.name} {row.topology} remat={row.remat}',
      file=sys.stderr,
      flush=True,
    )
    files = [f'models/{row.model}.gin', 'stages/tune.gin']
    if row.mesh:
      files.append(f'meshes/{row.mesh}.gin')
    bindings = [
      f'BATCH_SIZE={row.batch_size}',
      f"presets.model.remat='{row.remat}'",
    ]
    done.append((row, run(files, bindings, row.topology)))
    write_text(Path(path), page(done))


def page(done: list[tuple[Row, Report]]) -> str:
  """The Markdown text."""
  versions = ', '.join(
    f'{name} {_version(name)}' for name in ('jax', 'libtpu', 'flax')
  )
  compiled = [report.compiled for _, report in done]
  how = "compiled by XLA's TPU compiler without a TPU"
  if not all(compiled):
    how = (
      f'the rows with a compile time were {how},\nthe others follow from '
      'shardings alone (libtpu is not installed, or it crashed)'
    )
  header = (
    '| model, stage | topology | mesh (data, fsdp, tensor) | batch | remat '
    '| fits | arguments | temporaries | peak | model TFLOP | compiled / model '
    '| sent | roofline step | bound by | MFU | compile |'
  )
  ruler = '|' + '---|' * (header.count('|') - 1)
  lines = [header, ruler, *(_line(row, report) for row, report in done)]
  return TEXT.format(
    date=datetime.date.today().isoformat(),
    versions=versions,
    cores=os.cpu_count(),
    how=how,
    table='\n'.join(lines),
  )


def _line(row: Row, report: Report) -> str:
  def gib(x: float | int | None) -> str:
    return '' if x is None else f'{x / GIB:.2f}'

  ratio, seconds, mfu = report.flops_ratio, report.step_seconds, report.mfu
  cells = (
    row.name,
    report.topology,
    ', '.join(map(str, report.mesh.values())),
    str(report.batch_size),
    row.remat,
    _fits(report),
    gib(report.argument_bytes),
    gib(report.temporary_bytes),
    gib(report.peak_bytes),
    f'{report.model_flops / 1e12:.1f}',
    '' if ratio is None else f'{ratio:.2f}',
    gib(sum(report.collectives.values())) if report.collectives else '',
    '' if seconds is None else f'{seconds * 1e3:.0f} ms',
    report.bound or '',
    '' if mfu is None else f'{mfu:.0%}',
    '' if report.compile_seconds is None else f'{report.compile_seconds:.0f} s',
  )
  return '| ' + ' | '.join(cells) + ' |'


def _fits(report: Report) -> str:
  if not report.fits:
    return f'no: {report.reason}'
  return 'yes' if report.compiled else report.reason


def _version(name: str) -> str:
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return '(absent)'


TEXT = """# Scaling: what fits where

Written by `mmicl compile --table docs/scaling.md` on {date}
({versions}; {cores} CPU cores):
{how}. Nothing here was run on a TPU.

Stage 2 (`stages/tune.gin`) of InstructBLIP with FLAN-T5-XL and XXL:
512 encoder and 128 decoder tokens, 4 images of 224 x 224 an example, bfloat16
activations and frozen weights, float32 trainable weights and moments, dropout
on. Sizes in GiB a chip.

{table}

`mmicl compile --gin_file=... --topology ...` does one line, of any model,
stage, mesh, lengths and batch; with `--generate` the prefill of a batch of
prompts and a step of decoding.

* **fits**: the peak that the compiler assigns is within the chip's memory; a
  program that is too large is refused by the compiler, with its words.
* **model TFLOP**: of a whole step (`mmicl_jax/flops.py`): the forward pass, the
  gradient of the activations that it must cross, the gradient of the trainable
  kernels. Recomputation is none of it.
* **compiled / model**: matrix products in the optimised program, those within a
  loop counted as often as the loop runs, over the model's.
* **sent**: bytes that a chip sends in a step for all-gathers, all-reduces and
  the like, in rings of their groups' sizes.
* **roofline step**: the largest of products / peak, traffic / HBM bandwidth and
  sent / interconnect bandwidth, as if the three overlapped perfectly. The
  traffic is what the optimised program's instructions read from HBM and write
  to it. The peaks are the vendor's published figures
  (`mmicl_jax/compile/chips.py`), all links of a chip together: a slice whose
  torus is not closed has fewer.
* **MFU**: model TFLOP / (roofline step x chips x peak). A real run lies below.
* **compile**: seconds of XLA's compiler on the machine that wrote this page.
"""

"""Writes the scaling page: how the large models train and generate on TPUs."""

import dataclasses
import datetime
import os
from collections.abc import Callable, Mapping

from mmicl_jax.compile.job import CompileReport
from mmicl_jax.cost.chips import GIB
from mmicl_jax.errors import UserError
from mmicl_jax.runtime import show
from mmicl_jax.runtime.files import write_text
from mmicl_jax.runtime.page import render
from mmicl_jax.runtime.progress import ProgressBar
from mmicl_jax.runtime.versions import version

STAGES = {'pretrain': 'stage 1', 'tune': 'stage 2'}


@dataclasses.dataclass(frozen=True)
class ScalingRow:
  """A stage of training on a slice of TPUs; generation if there is no stage."""

  model: str
  stage: str | None
  topology: str
  mesh: tuple[int, int, int]  # data, fsdp, tensor
  batch_size: int = 8
  remat: str = 'light'
  num_beams: int = 1
  eight_bits: bool = False

  @property
  def name(self) -> str:
    """Model and stage in words, or model and search."""
    search = 'greedy' if self.num_beams == 1 else f'{self.num_beams} beams'
    search += ', int8' if self.eight_bits else ''
    what = STAGES[self.stage] if self.stage else search
    return f'{self.model.upper()} {what}'

  def run(
    self, run: Callable[..., Mapping[str, CompileReport]]
  ) -> dict[str, CompileReport]:
    """Compiles the row; returns {name of a line in the table: its report}.

    run: called like fits.compile_run.
    """
    files = [f'models/{self.model}.gin', f'stages/{self.stage or "tune"}.gin']
    bindings = [
      f'BATCH_SIZE={self.batch_size}',
      f"presets.model.remat='{self.remat}'",
      *(
        f'partitioning.make_mesh.{axis}={size}'
        for axis, size in zip(
          ('data', 'fsdp', 'tensor'), self.mesh, strict=True
        )
      ),
    ]
    if self.stage:
      return {self.name: run(files, bindings, self.topology)['step']}
    found = run(
      files,
      bindings,
      self.topology,
      num_beams=self.num_beams,
      eight_bits=self.eight_bits,
    )
    return {f'{self.name}, {phase}': x for phase, x in found.items()}


# First the smallest slices that hold XXL and XL, then other generations.
ROWS = (
  ScalingRow('xxl', 'tune', 'v5e:2x4', (1, 2, 4), remat='minimal'),
  ScalingRow('xxl', 'tune', 'v5e:2x4', (1, 2, 4)),
  ScalingRow('xxl', 'tune', 'v5e:2x4', (1, 2, 4), batch_size=16),
  ScalingRow('xxl', 'tune', 'v5e:2x4', (1, 8, 1)),
  ScalingRow('xxl', 'tune', 'v5e:2x4', (1, 8, 1), remat='none'),
  ScalingRow('xl', 'tune', 'v5e:2x2', (1, 4, 1)),
  ScalingRow('xl', 'tune', 'v5e:2x2', (1, 4, 1), batch_size=4, remat='none'),
  ScalingRow('xxl', 'pretrain', 'v5e:2x4', (1, 2, 4), remat='minimal'),
  ScalingRow(
    'xl', 'pretrain', 'v5e:2x2', (1, 4, 1), batch_size=4, remat='none'
  ),
  ScalingRow('xxl', 'tune', 'v4:2x2x1', (1, 2, 2), remat='minimal'),
  ScalingRow('xxl', 'tune', 'v5p:2x2x1', (1, 2, 2), remat='minimal'),
  ScalingRow('xxl', 'tune', 'v6e:2x4', (1, 2, 4), remat='minimal'),
  ScalingRow('xl', 'tune', 'v4:2x2x1', (1, 4, 1), remat='none'),
  ScalingRow('xl', 'tune', 'v5p:2x2x1', (1, 4, 1), remat='none'),
  ScalingRow('xl', 'tune', 'v6e:2x4', (1, 8, 1), remat='none'),
  ScalingRow('xxl', None, 'v5e:2x4', (1, 1, 8)),
  ScalingRow('xxl', None, 'v5e:2x4', (1, 1, 8), num_beams=4),
  ScalingRow('xl', None, 'v5e:1x1', (1, 1, 1)),
  ScalingRow('xl', None, 'v5e:1x1', (1, 1, 1), eight_bits=True),
  ScalingRow('xl', None, 'v5e:1x1', (1, 1, 1), num_beams=4),
)


def write_scaling_page(
  path: str, only: str, run: Callable[..., Mapping[str, CompileReport]]
) -> None:
  """Compiles the rows and rewrites the page after each of them.

  only: compiles the rows whose name and topology contain this text. run: called
  like fits.compile_run. Raises UserError if no row contains `only`.
  """
  chosen = [row for row in ROWS if only in f'{row.name} {row.topology}']
  if not chosen:
    raise UserError(f'no row of the table contains {only!r}')
  done: list[tuple[ScalingRow, str, CompileReport]] = []
  with ProgressBar('compiled', len(chosen), seconds=0.0) as bar:
    for i, row in enumerate(chosen):
      bar.note(f'{row.name} {row.topology} {row.mesh} remat={row.remat}')
      bar.step(i)
      done += [(row, name, report) for name, report in row.run(run).items()]
      write_text(path, page(done))
    bar.note('')
    bar.step(len(chosen))


def page(done: list[tuple[ScalingRow, str, CompileReport]]) -> str:
  """The page's Markdown. done: (row, name of the line, report) of each line."""
  return render(
    'compile/scaling.md.j2',
    date=datetime.date.today().isoformat(),
    versions={
      name: version(name) or '(absent)' for name in ('jax', 'libtpu', 'flax')
    },
    cores=os.cpu_count(),
    all_compiled=all(report.compiled for *_, report in done),
    training=show.markdown([_training(*x) for x in done if x[0].stage]),
    generation=show.markdown([_generation(*x) for x in done if not x[0].stage]),
  )


def _training(
  row: ScalingRow, name: str, report: CompileReport
) -> dict[str, str]:
  """The cells of a line; what was not compiled is left empty."""
  return {
    'model, stage': name,
    **_slice(report),
    'batch': str(report.batch_size),
    'remat': row.remat,
    **_memory_and_work(report),
    **_times(report),
    'MFU at the roofline': _share(report.mfu),
    'MFU estimated': _share(report.estimated_mfu),
    'compile': _seconds(report.compile_seconds),
  }


def _generation(
  row: ScalingRow, name: str, report: CompileReport
) -> dict[str, str]:
  return {
    'model': name,
    **_slice(report),
    'prompts': str(report.batch_size),
    **_memory_and_work(report),
    **_times(report),
    'compile': _seconds(report.compile_seconds),
  }


def _slice(report: CompileReport) -> dict[str, str]:
  return {
    'topology': report.topology,
    'mesh (data, fsdp, tensor)': ', '.join(map(str, report.mesh.values())),
  }


def _memory_and_work(report: CompileReport) -> dict[str, str]:
  fits = 'yes' if report.compiled else report.reason
  ratio = report.flops_ratio
  return {
    'fits': fits if report.fits else f'no: {report.reason}',
    'arguments': _gibibytes(report.argument_bytes),
    'temporaries': _gibibytes(report.temporary_bytes),
    'peak': _gibibytes(report.peak_bytes),
    'model TFLOP': f'{report.model_flops / 1e12:.3g}',
    'compiled / model': '' if ratio is None else f'{ratio:.2f}',
    'sent': _gibibytes(sum(report.collectives.values()))
    if report.bound
    else '',
  }


def _times(report: CompileReport) -> dict[str, str]:
  parts = {
    f'roofline: {name}': _milliseconds(report.roofline.get(name))
    for name in ('compute', 'memory', 'network')
  }
  return {
    **parts,
    'bound by': report.bound or '',
    'estimated': _milliseconds(report.estimated_seconds),
    'sending alone': _milliseconds(report.alone_seconds),
  }


def _share(x: float | None) -> str:
  return '' if x is None else f'{x:.0%}'


def _gibibytes(x: float | int | None) -> str:
  return '' if x is None else f'{x / GIB:.2f}'


def _milliseconds(x: float | None) -> str:
  return '' if x is None else f'{x * 1e3:.3g}'


def _seconds(x: float | None) -> str:
  return '' if x is None else f'{x:.0f} s'

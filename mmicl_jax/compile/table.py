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
  training = [x for x in done if x[0].stage]
  generation = [x for x in done if not x[0].stage]
  return render(
    'compile/scaling.md.j2',
    date=datetime.date.today().isoformat(),
    versions={
      name: version(name) or '(absent)' for name in ('jax', 'libtpu', 'flax')
    },
    cores=os.cpu_count(),
    all_compiled=all(report.compiled for *_, report in done),
    training_times=show.markdown([_times(*x) for x in training]),
    training_memory=show.markdown([_memory(*x) for x in training]),
    generation_times=show.markdown([_times(*x) for x in generation]),
    generation_memory=show.markdown([_memory(*x) for x in generation]),
  )


def _times(row: ScalingRow, name: str, report: CompileReport) -> dict[str, str]:
  """The cells of a line; what was not compiled is left empty."""
  roofline = [report.roofline.get(x) for x in ('compute', 'memory', 'network')]
  cells = {
    **_what(row, name, report),
    'estimated': _milliseconds(report.estimated_seconds),
    'sending alone': _milliseconds(report.alone_seconds),
    'MFU estimated': _share(report.estimated_mfu),
    'roofline: compute, memory, network': ', '.join(
      _milliseconds(x) for x in roofline if x is not None
    ),
    'bound by': report.bound or '',
    'MFU at the roofline': _share(report.mfu),
  }
  if not row.stage:
    del cells['MFU estimated'], cells['MFU at the roofline']
  return cells


def _memory(
  row: ScalingRow, name: str, report: CompileReport
) -> dict[str, str]:
  """The cells of a line: memory, work, and what compiling it took."""
  fits = 'yes' if report.compiled else report.reason
  ratio = report.flops_ratio
  return {
    **_what(row, name, report),
    'fits': fits if report.fits else f'no: {report.reason}',
    'peak': _gibibytes(report.peak_bytes),
    'arguments': _gibibytes(report.argument_bytes),
    'temporaries': _gibibytes(report.temporary_bytes),
    'sent': _gibibytes(sum(report.collectives.values()))
    if report.bound
    else '',
    'model TFLOP': f'{report.model_flops / 1e12:.3g}',
    'compiled / model': '' if ratio is None else f'{ratio:.2f}',
    'compile': _seconds(report.compile_seconds),
  }


def _what(row: ScalingRow, name: str, report: CompileReport) -> dict[str, str]:
  """The first cells of a line, which say what was compiled."""
  cells = {
    'model, stage' if row.stage else 'model': name,
    'topology': report.topology,
    'mesh (data, fsdp, tensor)': ', '.join(map(str, report.mesh.values())),
    'batch' if row.stage else 'prompts': str(report.batch_size),
  }
  return cells | ({'remat': row.remat} if row.stage else {})


def _share(x: float | None) -> str:
  return '' if x is None else f'{x:.0%}'


def _gibibytes(x: float | int | None) -> str:
  return '' if x is None else f'{x / GIB:.2f}'


def _milliseconds(x: float | None) -> str:
  return '' if x is None else f'{x * 1e3:.3g}'


def _seconds(x: float | None) -> str:
  return '' if x is None else f'{x:.0f} s'

"""The scaling page: training and generation of the large models on TPUs."""

import dataclasses
import datetime
import importlib.metadata
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import jinja2

from mmicl_jax.compile.job import CompileReport
from mmicl_jax.cost.chips import GIB
from mmicl_jax.errors import UserError
from mmicl_jax.runtime.files import write_text
from mmicl_jax.runtime.progress import ProgressBar

STAGES = {'pretrain': 'stage 1', 'tune': 'stage 2'}


@dataclasses.dataclass(frozen=True)
class ScalingRow:
  """A stage of a model on a slice; without a stage its generation."""

  model: str
  stage: str | None
  topology: str
  mesh: tuple[int, int, int]  # data, fsdp, tensor
  batch_size: int = 8
  remat: str = 'full'
  num_beams: int = 1

  @property
  def name(self) -> str:
    search = 'greedy' if self.num_beams == 1 else f'{self.num_beams} beams'
    what = STAGES[self.stage] if self.stage else search
    return f'{self.model.upper()} {what}'

  def run(
    self, run: Callable[..., Mapping[str, CompileReport]]
  ) -> dict[str, CompileReport]:
    """Compiles the row; its reports by the names of the table's lines.

    run: as fits.compile_run.
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
    found = run(files, bindings, self.topology, num_beams=self.num_beams)
    return {f'{self.name}, {phase}': x for phase, x in found.items()}


# The smallest slices that hold XXL and XL come first, then other generations.
ROWS = (
  ScalingRow('xxl', 'tune', 'v5e:2x4', (1, 2, 4), remat='minimal'),
  ScalingRow('xxl', 'tune', 'v5e:2x4', (1, 2, 4)),
  ScalingRow('xxl', 'tune', 'v5e:2x4', (1, 8, 1)),
  ScalingRow('xxl', 'tune', 'v5e:2x4', (1, 8, 1), remat='none'),
  ScalingRow('xl', 'tune', 'v5e:2x2', (1, 4, 1), batch_size=4),
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
  ScalingRow('xl', None, 'v5e:1x1', (1, 1, 1), num_beams=4),
)


def write_scaling_page(
  path: str, only: str, run: Callable[..., Mapping[str, CompileReport]]
) -> None:
  """Compiles all rows and writes the page after each of them.

  run: as fits.compile_run. only: a text that the rows to compile contain.
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
  """The Markdown text."""
  template = (Path(__file__).parent / 'scaling.md.j2').read_text()
  return jinja2.Template(
    template, trim_blocks=True, keep_trailing_newline=True
  ).render(
    date=datetime.date.today().isoformat(),
    versions={name: _version(name) for name in ('jax', 'libtpu', 'flax')},
    cores=os.cpu_count(),
    all_compiled=all(report.compiled for *_, report in done),
    training=[_cells(*each) for each in done if each[0].stage],
    generation=[_cells(*each) for each in done if not each[0].stage],
  )


def _cells(row: ScalingRow, name: str, report: CompileReport) -> dict[str, str]:
  """The columns of a line; empty where nothing was compiled."""

  def gib(x: float | int | None) -> str:
    return '' if x is None else f'{x / GIB:.2f}'

  def ms(x: float | None) -> str:
    return '' if x is None else f'{x * 1e3:.3g}'

  ratio, mfu, seconds = report.flops_ratio, report.mfu, report.compile_seconds
  fits = 'yes' if report.compiled else report.reason
  return {
    'name': name,
    'topology': report.topology,
    'mesh': ', '.join(map(str, report.mesh.values())),
    'batch': str(report.batch_size),
    'remat': row.remat,
    'fits': fits if report.fits else f'no: {report.reason}',
    'arguments': gib(report.argument_bytes),
    'temporaries': gib(report.temporary_bytes),
    'peak': gib(report.peak_bytes),
    'model': f'{report.model_flops / 1e12:.3g}',
    'ratio': '' if ratio is None else f'{ratio:.2f}',
    'sent': gib(sum(report.collectives.values())) if report.bound else '',
    'overlapped': ms(report.step_seconds),
    'exposed': ms(report.exposed_seconds),
    'bound': report.bound or '',
    'mfu': '' if mfu is None else f'{mfu:.0%}',
    'compile': '' if seconds is None else f'{seconds:.0f} s',
  }


def _version(name: str) -> str:
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return '(absent)'

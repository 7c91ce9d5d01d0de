"""Benchmarks while a model is trained: EVAL_TASKS of `mmicl train`.

Each checkpoint is asked as `mmicl eval` asks it, so the numbers are the same.
Predictions and report are kept in MODEL_DIR/benchmarks/step_<N>.
"""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from jax.sharding import Mesh

from mmicl_jax.errors import UserError
from mmicl_jax.evaluation import run
from mmicl_jax.evaluation.declaration import load_benchmark
from mmicl_jax.evaluation.items import BUILT, sources
from mmicl_jax.evaluation.report import write_report

FOLDER = 'benchmarks'


class EvalTasks:
  """Asks a checkpoint the questions of benchmarks.

  names, raw, shots, limit: as --task, --raw, --shots and --limit of `mmicl
  eval`. The model is loaded beside the one that is trained. Raises UserError
  for unknown names and missing files.
  """

  def __init__(
    self,
    names: Sequence[str],
    raw: str | os.PathLike,
    *,
    shots: int | None = None,
    limit: int | None = None,
    batch_size: int = 8,
    mesh: Mesh | None = None,
  ):
    self._benchmarks = tuple(load_benchmark(name) for name in names)
    self._raw, self._mesh = Path(raw), mesh
    self._shots = None if shots is None else (shots,)
    self._limit, self._batch_size = limit, batch_size
    for benchmark in self._benchmarks:
      sources(benchmark, self._raw, Path())

  @property
  def tasks(self) -> tuple[str, ...]:
    """The names of the benchmarks."""
    return tuple(benchmark.name for benchmark in self._benchmarks)

  def __call__(
    self, model_dir: str | os.PathLike, step: int
  ) -> dict[str, float]:
    """Asks a saved checkpoint; returns 'eval/TASK/METRIC' of each whole metric.

    A breakdown is in the report; where there are only breakdowns, the first one
    stands for all.
    """
    from mmicl_jax.inference.load import load

    top = Path(model_dir) / FOLDER
    out = top / f'step_{step}'
    (top / BUILT).mkdir(parents=True, exist_ok=True)
    out.mkdir(exist_ok=True)
    with contextlib.suppress(FileExistsError):  # pictures are kept once
      (out / BUILT).symlink_to(Path('..') / BUILT)
    plan = run.EvalPlan(
      self._raw,
      out,
      self._benchmarks,
      shots=self._shots,
      limit=self._limit,
      batch_size=self._batch_size,
    )
    path = Path(model_dir) / f'checkpoint_{step}'
    run.evaluate(
      plan, lambda: load(path, mesh=self._mesh, batch_size=self._batch_size)
    )
    found: dict[str, float] = {}
    for task in write_report(out)['tasks']:
      metrics = task['metrics']
      whole = [name for name in metrics if '/' not in name]
      for name in whole or list(metrics)[:1]:
        found[f'eval/{task["task"]}/{name}'] = metrics[name]
    return found


def eval_tasks(
  names: str | Sequence[str] | None = None,
  raw: str | os.PathLike | None = None,
  shots: int | None = None,
  limit: int | None = None,
  mesh: Mesh | None = None,
) -> EvalTasks | None:
  """What EVAL_TASKS and EVAL_RAW of a run mean; None without any.

  names: a sequence, or 'mme,pope'. Raises UserError without EVAL_RAW.
  """
  if isinstance(names, str):
    names = [name for name in names.split(',') if name]
  if not names:
    return None
  if raw is None:
    raise UserError('EVAL_TASKS needs EVAL_RAW: the folder of official files')
  return EvalTasks(names, raw, shots=shots, limit=limit, mesh=mesh)

"""`mmicl compile`: does a run fit a slice of TPUs, and how fast can it be?

XLA's TPU compiler runs without a TPU where PyPI's libtpu is installed (the
extra `tpu`). Elsewhere the shardings alone say how much memory the state
takes, and the output says so.
"""

import dataclasses
import functools
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import gin
import jax

from mmicl_jax.compile.generation import reports
from mmicl_jax.compile.job import (
  CompileReport,
  Job,
  compile_step,
  devices,
  report_abstract,
)
from mmicl_jax.configure import gin_files
from mmicl_jax.cost import chips
from mmicl_jax.models import partitioning

TRAIN_STEPS = 1000  # changes nothing that is compiled


def compile_run(
  files: Sequence[str],
  bindings: Sequence[str],
  topology: str,
  *,
  shardings_only: bool = False,
  num_beams: int | None = None,
) -> dict[str, CompileReport]:
  """Compiles what the gin files describe; without libtpu: abstractly.

  Returns {'step': the training step's report}. With num_beams it is generation
  that is compiled: the report of 'prefill', then that of 'step', which is left
  out if the prefill does not fit or is not compiled.
  """
  job, where, sizes = _parse(files, bindings, topology)
  found = None if shardings_only else devices(where)
  if num_beams is not None:
    return dict(reports(job, where, sizes, found, num_beams))
  if found is None:
    return {'step': report_abstract(job, where, sizes)}
  return {'step': compile_step(job, where, sizes, found)}


def compile_apart(
  files: Sequence[str],
  bindings: Sequence[str],
  topology: str,
  num_beams: int | None = None,
) -> dict[str, CompileReport]:
  """As `compile_run`, in a process of its own, as the compiler may crash."""
  again = functools.partial(
    compile_run, files, bindings, topology, num_beams=num_beams
  )
  context = multiprocessing.get_context('spawn')
  with ProcessPoolExecutor(1, context) as process:
    try:
      return process.submit(again).result()
    except BrokenProcessPool:
      return {
        name: dataclasses.replace(x, reason=f'the compiler crashed; {x.reason}')
        for name, x in again(shardings_only=True).items()
      }


def _parse(
  files: Sequence[str], bindings: Sequence[str], topology: str
) -> tuple[Job, chips.Topology, dict[str, int]]:
  where = chips.parse_topology(topology)
  gin_files.parse_gin(
    ['runs/compile.gin', *files],
    [f'TRAIN_STEPS={TRAIN_STEPS}', *bindings],
  )
  job = gin_files.call_configured(Job)
  sizes = gin_mesh_sizes()
  whole = partitioning.mesh_sizes(**sizes, count=where.chips)
  mesh = jax.sharding.AbstractMesh(whole, partitioning.MESH_AXES)
  job.steps.check_mesh(mesh)
  return job, where, sizes


def gin_mesh_sizes() -> dict[str, int]:
  """The mesh that the gin files ask for; -1 stands for the devices left."""
  return {
    axis: gin.query_parameter(f'partitioning.make_mesh.{axis}')
    for axis in partitioning.MESH_AXES
  }

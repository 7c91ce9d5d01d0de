"""`mmicl compile`: does a run fit a slice of TPUs, and how fast can it be?

XLA's TPU compiler runs without a TPU if PyPI's libtpu is installed (the extra
`tpu`). Without libtpu only the memory of the state is known, from the
shardings, and the report says so.
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
  eight_bits: bool = False,
) -> dict[str, CompileReport]:
  """Compiles the step of a run that gin files describe.

  Returns {'step': the training step's report}. With num_beams it compiles
  generation instead and returns reports of 'prefill' and 'step'; 'step' is
  missing if the prefill does not fit or is not compiled. eight_bits: kernels
  for generation are held in eight bits. With shardings_only,
  or without libtpu, nothing is compiled. Raises UserError for gin files, a
  topology or a mesh that cannot work.
  """
  job, where, sizes = _parse(files, bindings, topology)
  found = None if shardings_only else devices(where)
  if num_beams is not None:
    return dict(reports(job, where, sizes, found, num_beams, eight_bits))
  if found is None:
    return {'step': report_abstract(job, where, sizes)}
  return {'step': compile_step(job, where, sizes, found)}


def compile_apart(
  files: Sequence[str],
  bindings: Sequence[str],
  topology: str,
  num_beams: int | None = None,
  eight_bits: bool = False,
) -> dict[str, CompileReport]:
  """Does `compile_run` in a process of its own, since the compiler may crash.

  After a crash the reports hold what the shardings alone say.
  """
  again = functools.partial(
    compile_run,
    files,
    bindings,
    topology,
    num_beams=num_beams,
    eight_bits=eight_bits,
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
  """The sizes of the mesh's axes in the gin files; -1 takes what is left."""
  return {
    axis: gin.query_parameter(f'partitioning.make_mesh.{axis}')
    for axis in partitioning.MESH_AXES
  }

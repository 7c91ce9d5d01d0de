"""Compiles the training step of a run for a slice, without running it."""

import dataclasses
import math
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.experimental import topologies
from jax.sharding import AbstractMesh, Mesh

from mmicl_jax.compile import cost as costs
from mmicl_jax.cost import flops
from mmicl_jax.cost.chips import GIB, Topology
from mmicl_jax.errors import UserError
from mmicl_jax.models import partitioning, trees
from mmicl_jax.training.settings import ModelSettings, StepSettings
from mmicl_jax.training.state import (
  RunLayout,
  compiled_step,
  device_bytes,
)

_MOST = 2**20  # tokens or images of an example


@dataclasses.dataclass(frozen=True)
class Job:
  """What a training run's gin files say about its step."""

  model: ModelSettings
  steps: StepSettings
  inputs_length: int
  targets_length: int
  max_images: int
  instruction_length: int

  def __post_init__(self):
    for name, value, least in (
      ('INPUTS_LENGTH', self.inputs_length, 1),
      ('TARGETS_LENGTH', self.targets_length, 1),
      ('MAX_IMAGES', self.max_images, 0),
      ('INSTRUCTION_LENGTH', self.instruction_length, 0),
    ):
      if not isinstance(value, int) or not least <= value <= _MOST:
        raise UserError(
          f'{name} is {value!r}: give a number from {least} to {_MOST}'
        )

  @property
  def lengths(self) -> flops.Lengths:
    """The lengths that the FLOPs of an example depend on."""
    return flops.Lengths(
      self.inputs_length,
      self.targets_length,
      self.max_images,
      self.instruction_length,
    )

  def layout(self, mesh: Mesh | AbstractMesh, memory: int) -> RunLayout:
    """Shapes and shardings of the run's state on a mesh.

    memory: of each of its devices, in bytes.
    """
    model = self.model
    return RunLayout.of(
      model.config,
      model.trainable,
      self.steps.chain(),
      mesh,
      model.frozen_dtype,
      model.frozen_room(memory),
    )

  def batch(self, mesh: Mesh | AbstractMesh) -> dict[str, Any]:
    """A batch as ShapeDtypeStructs with shardings on the mesh."""
    rows = self.steps.batch_size
    size = self.model.config.vit.image_size
    shapes: dict[str, tuple[int, ...]] = {
      'encoder_input_tokens': (rows, self.inputs_length),
      'decoder_input_tokens': (rows, self.targets_length),
      'decoder_target_tokens': (rows, self.targets_length),
      'decoder_loss_weights': (rows, self.targets_length),
    }
    if self.max_images:
      shapes['encoder_images'] = (rows, self.max_images, size, size, 3)
    if self.instruction_length and self.max_images:
      shapes['qformer_input_tokens'] = (rows, self.instruction_length)
    place = partitioning.batch_sharding(mesh)
    return {
      name: jax.ShapeDtypeStruct(
        shape, 'uint8' if len(shape) == 5 else 'int32', sharding=place
      )
      for name, shape in shapes.items()
    }


@dataclasses.dataclass(frozen=True)
class CompileReport:
  """What is known of a job on a topology; bytes and seconds are of one chip.

  compiled: whether the figures are from XLA's TPU compiler. If not, there are
  only those that follow from the shardings, and `fits` is about them.
  Of the step's time there are three kinds of figure. roofline: the seconds of
  compute, memory and network, each at its peak; step_seconds: the largest of
  these, as if they overlapped perfectly; bound: which it is; mfu: by it.
  estimated_seconds: the compiler's own estimate of all computations, one after
  the other. alone_seconds: of sending that no computation runs beside.
  estimated_mfu: by the sum of these two.
  """

  topology: str
  mesh: Mapping[str, int]
  batch_size: int
  compiled: bool
  fits: bool
  reason: str
  argument_bytes: int
  model_flops: float
  temporary_bytes: int | None = None
  peak_bytes: int | None = None
  compiled_flops: float | None = None
  hbm_traffic: float | None = None
  collectives: Mapping[str, float] = dataclasses.field(default_factory=dict)
  collective_counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
  roofline: Mapping[str, float] = dataclasses.field(default_factory=dict)
  step_seconds: float | None = None
  bound: str | None = None
  mfu: float | None = None
  estimated_seconds: float | None = None
  alone_seconds: float | None = None
  estimated_mfu: float | None = None
  compile_seconds: float | None = None

  @property
  def flops_ratio(self) -> float | None:
    """Compiled FLOPs of all chips over the model's."""
    if self.compiled_flops is None:
      return None
    return (
      self.compiled_flops * math.prod(self.mesh.values()) / self.model_flops
    )


def devices(topology: Topology) -> list[Any] | None:
  """The topology's devices as libtpu describes them; None without libtpu.

  Raises UserError for a shape that this generation does not have.
  """
  # No TPU is opened, so several processes may load libtpu at a time.
  os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')
  os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
  # libtpu's threads have stacks of 64 KiB, which some of our programs overflow.
  os.environ.setdefault(
    'LIBTPU_INIT_ARGS', '--fibers_default_thread_stack_size=1048576'
  )
  # A TPU's machine would set these. Any existing type will do; without them
  # libtpu prints long complaints.
  os.environ.setdefault('TPU_ACCELERATOR_TYPE', 'v5litepod-4')
  os.environ.setdefault('TPU_WORKER_HOSTNAMES', 'localhost')
  options: dict[str, Any] = {}
  if topology.chips == 1:  # otherwise libtpu takes a host to have four
    options['chips_per_host_bounds'] = (1, 1, 1)
  if topology.chip.name == 'v4':  # otherwise each of its cores is a device
    options['chip_config_name'] = 'megacore'
  try:
    import libtpu
  except ImportError:
    return None
  assert libtpu
  try:
    found = topologies.get_topology_desc(
      platform='tpu', topology_name=str(topology), **options
    )
  except Exception as error:  # libtpu's refusal has no type of its own
    raise UserError(
      f'libtpu knows no topology {topology}: {str(error).splitlines()[0]}'
    ) from error
  return list(found.devices)


def report_abstract(
  job: Job, topology: Topology, sizes: Mapping[str, int]
) -> CompileReport:
  """Reports what the shardings say: bytes of state and batch, model FLOPs."""
  whole = partitioning.mesh_sizes(**sizes, count=topology.chips)
  mesh = AbstractMesh(tuple(whole), partitioning.MESH_AXES)
  layout = job.layout(mesh, topology.chip.hbm_bytes)
  held = (layout.state, layout.frozen, job.batch(mesh))
  return shardings_report(
    topology, mesh, job.steps.batch_size, held, _model_flops(job, layout)
  )


def shardings_report(
  topology: Topology,
  mesh: Mesh | AbstractMesh,
  batch_size: int,
  arguments: Any,
  model_flops: float,
) -> CompileReport:
  """Reports what is known of a program before it is compiled.

  arguments: the program's, a tree of ShapeDtypeStructs with shardings.
  """
  held = device_bytes(arguments)
  fits = held < topology.chip.hbm_bytes
  return CompileReport(
    topology=str(topology),
    mesh=dict(mesh.shape),
    batch_size=batch_size,
    compiled=False,
    fits=fits,
    reason='state and batch alone; activations are not known'
    if fits
    else 'the state alone is larger than the memory',
    argument_bytes=held,
    model_flops=model_flops,
  )


def compile_step(
  job: Job,
  topology: Topology,
  sizes: Mapping[str, int],
  chips: Sequence[Any],
) -> CompileReport:
  """Compiles the step for these chips and reports XLA's figures."""
  mesh = partitioning.make_mesh(**sizes, devices=chips)
  before = report_abstract(job, topology, dict(mesh.shape))
  layout = job.layout(mesh, topology.chip.hbm_bytes)
  step = compiled_step(layout, job.steps, jax.random.PRNGKey(0))
  lowered = step.lower(layout.state, layout.frozen, job.batch(mesh))
  return compiled_report(lowered, before, topology)[0]


def compiled_report(
  lowered: jax.stages.Lowered, before: CompileReport, topology: Topology
) -> tuple[CompileReport, jax.stages.Compiled | None]:
  """Compiles; returns (`before` with the compiler's figures, the program).

  The program is None if it needs more memory than the chip has.
  """
  start = time.monotonic()
  try:
    compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    refused = dataclasses.replace(
      before,
      compiled=True,
      fits=False,
      reason=_first_sentence(str(error)),
      compile_seconds=time.monotonic() - start,
    )
    return refused, None
  seconds = time.monotonic() - start
  return _read(compiled, before, topology, seconds), compiled


def _read(
  compiled: Any, before: CompileReport, topology: Topology, seconds: float
) -> CompileReport:
  memory, chip = compiled.memory_analysis(), topology.chip
  peak = getattr(memory, 'peak_memory_in_bytes', 0) or (
    memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    - memory.alias_size_in_bytes
    + memory.temp_size_in_bytes
  )
  found = dataclasses.replace(
    before,
    compiled=True,
    fits=peak <= chip.hbm_bytes,
    reason=f'{peak / GIB:.2f} of {chip.hbm_bytes / GIB:.0f} GiB',
    argument_bytes=memory.argument_size_in_bytes,
    temporary_bytes=memory.temp_size_in_bytes,
    peak_bytes=peak,
    compile_seconds=seconds,
  )
  try:
    text = compiled.as_text()
  except jax.errors.JaxRuntimeError as error:
    # A jaxlib older than libtpu cannot read libtpu's programs.
    line = str(error).splitlines()[0][:150]
    reason = f'{found.reason}; the program cannot be read: {line}'
    return dataclasses.replace(found, reason=reason)
  cost = costs.analyse(text)
  times = {
    'compute': cost.flops / chip.flops,
    'memory': cost.hbm_bytes / chip.hbm_bandwidth,
    'network': _over(sum(cost.collectives.values()), topology),
  }
  bound = max(times, key=lambda name: times[name])
  ideal = before.model_flops / topology.chips / chip.flops
  estimated = cost.cycles / chip.clock
  alone = _over(cost.alone_bytes, topology)
  return dataclasses.replace(
    found,
    compiled_flops=cost.flops,
    hbm_traffic=cost.hbm_bytes,
    collectives=cost.collectives,
    collective_counts=cost.collective_counts,
    roofline=times,
    step_seconds=times[bound],
    bound=bound,
    mfu=ideal / times[bound],
    estimated_seconds=estimated,
    alone_seconds=alone,
    estimated_mfu=ideal / (estimated + alone) if estimated else None,
  )


def _over(sent: float, topology: Topology) -> float:
  """The seconds that a chip takes to send bytes; 0 for no bytes."""
  return sent / topology.ici_bandwidth if sent else 0.0


def _model_flops(job: Job, layout: RunLayout) -> float:
  paths = trees.flatten(layout.state.params)
  each = flops.train_step_flops(job.model.config, paths, job.lengths)
  return float(each * job.steps.batch_size)


def _first_sentence(text: str) -> str:
  found = [
    line for line in text.splitlines() if 'Used' in line or 'hbm' in line
  ]
  return (found or text.splitlines())[0].strip()[:200]

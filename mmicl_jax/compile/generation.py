"""Compiles generation for a slice: the prefill of a batch, and one step.

The prefill is all that happens before the first token: images, encoder, and
the prompts' keys and values. A step runs the decoder once and chooses tokens;
its arguments have the shardings of the prefill's results.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jax.sharding import Mesh

from mmicl_jax.compile.job import (
  CompileReport,
  Job,
  compiled_report,
  shardings_report,
)
from mmicl_jax.cost import flops
from mmicl_jax.cost.chips import Topology
from mmicl_jax.decoding import loop
from mmicl_jax.decoding.options import Options, split_options
from mmicl_jax.decoding.strategy import strategy_of
from mmicl_jax.models import partitioning, trees
from mmicl_jax.models.configs import MMICLConfig, with_execution
from mmicl_jax.models.mmicl import MMICL, abstract_params
from mmicl_jax.models.quantized import leaf_place, quantize_leaf
from mmicl_jax.types import PAD


class _Phase(NamedTuple):
  name: str
  function: Callable[..., Any]
  arguments: tuple[Any, ...]
  donated: tuple[int, ...]
  model_flops: float


def reports(
  job: Job,
  topology: Topology,
  sizes: Mapping[str, int],
  chips: Sequence[Any] | None,
  num_beams: int = 1,
  eight_bits: bool = False,
) -> Iterator[tuple[str, CompileReport]]:
  """Yields ('prefill', its report), then ('step', its report).

  chips: the topology's devices. Without them only the prefill's report comes,
  with the memory of weights and prompts. The weights have the job's frozen
  dtype or, if it names none, the dtype of the model's parameters; with
  eight_bits kernels are held in eight (models/quantized.py). As in the engine
  that answers, layers stand one after the other, not in a loop.
  """
  model = _served(job)
  options = Options(num_beams=num_beams, max_new_tokens=job.targets_length)
  if chips is None:
    whole = partitioning.mesh_sizes(**sizes, count=topology.chips)
    mesh = jax.sharding.AbstractMesh(tuple(whole), partitioning.MESH_AXES)
    held = (_params(model, mesh, eight_bits), _prompts(job, mesh))
    needed = _prefill_flops(job, model)
    yield (
      'prefill',
      shardings_report(topology, mesh, job.steps.batch_size, held, needed),
    )
    return
  mesh = partitioning.make_mesh(**sizes, devices=chips)
  prefill, step = programs(model, options)
  params = _params(model, mesh, eight_bits)
  first = _Phase(
    'prefill',
    prefill,
    (params, _prompts(job, mesh)),
    (),
    _prefill_flops(job, model),
  )
  report, results = _compile(first, job, topology, mesh)
  yield first.name, report
  if results is None:
    return
  each = _step_flops(job, model, num_beams)
  second = _Phase('step', step, (params, *results), (2,), each)
  yield second.name, _compile(second, job, topology, mesh)[0]


def programs(
  model: MMICLConfig, options: Options
) -> tuple[Callable[..., Any], Callable[..., Any]]:
  """Returns the two programs of generation as functions.

  They are prefill(params, batch) -> (prompt, state), and
  step(params, prompt, state) -> state.
  """
  static, dynamic = split_options(options)
  scanned = model.execution.scan_layers
  strategy = strategy_of(dataclasses.replace(static, cache_axis=int(scanned)))
  module = MMICL(model)

  def prefill(params, batch):
    encoded: Any = module.apply({'params': params}, batch, method='encode')
    is_token = batch['encoder_input_tokens'] != PAD
    prompt = loop.prefill(module, params, encoded, is_token)
    state = loop.begin(module, params, prompt, None, strategy, dynamic)
    return prompt, state

  def step(params, prompt, state):
    run = loop.model_step(module, params, prompt)
    return loop.advance_once(state, run, strategy, dynamic)

  return prefill, step


def _served(job: Job) -> MMICLConfig:
  weights = job.model.frozen_dtype or job.model.config.execution.param_dtype
  return with_execution(
    job.model.config, param_dtype=weights, remat='none', scan_layers=False
  )


def _params(model: MMICLConfig, mesh: Any, eight_bits: bool) -> Any:
  boxed = abstract_params(model)
  places = trees.flatten(partitioning.shardings(boxed, mesh))
  held: dict[str, Any] = {}
  for path, leaf in trees.flatten(nn.unbox(boxed)).items():
    if eight_bits:
      leaf = jax.eval_shape(functools.partial(quantize_leaf, path), leaf)
    place = leaf_place(leaf, places[path])
    held[path] = jax.tree.map(_placed, leaf, place)
  return trees.unflatten(held)


def _prompts(job: Job, mesh: Any) -> dict[str, Any]:
  batch = job.batch(mesh)
  return {n: x for n, x in batch.items() if not n.startswith('decoder')}


def _placed(x: Any, place: Any) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)


def _compile(
  phase: _Phase, job: Job, topology: Topology, mesh: Mesh
) -> tuple[CompileReport, Any]:
  """Returns (report, the results' shapes and shardings).

  The latter are None if the program does not fit.
  """

  def placed(*arguments):
    with partitioning.use_mesh(mesh, in_jit=True):
      return phase.function(*arguments)

  before = shardings_report(
    topology, mesh, job.steps.batch_size, phase.arguments, phase.model_flops
  )
  lowered = jax.jit(placed, donate_argnums=phase.donated).lower(
    *phase.arguments
  )
  report, compiled = compiled_report(lowered, before, topology)
  if compiled is None:
    return report, None
  places = compiled.output_shardings
  return report, jax.tree.map(_placed, lowered.out_info, places)


def _prefill_flops(job: Job, model: MMICLConfig) -> float:
  return float(job.steps.batch_size * _forward(job, model, 1))


def _step_flops(job: Job, model: MMICLConfig, beams: int) -> float:
  """The mean over all steps up to the full length."""
  last = max(job.targets_length, 2)
  more = _forward(job, model, last) - _forward(job, model, 1)
  return float(job.steps.batch_size * beams * more / (last - 1))


def _forward(job: Job, model: MMICLConfig, targets: int) -> int:
  lengths = dataclasses.replace(job.lengths, targets=targets)
  return sum(flops.forward(model, lengths).values())

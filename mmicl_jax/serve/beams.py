"""Beam searches with the same options, as one batch that runs in chunks."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, UInt32

from mmicl_jax.decoding import loop as decoding
from mmicl_jax.decoding.beam import Beams
from mmicl_jax.decoding.loop import Memory
from mmicl_jax.decoding.options import (
  DynamicOptions,
  StaticOptions,
  split_options,
)
from mmicl_jax.decoding.row_options import number_key, row_options
from mmicl_jax.decoding.scores import Decoded
from mmicl_jax.decoding.slots import CHUNK
from mmicl_jax.decoding.strategy import Strategy, strategy_of
from mmicl_jax.models.mmicl import MMICL
from mmicl_jax.serve.jobs import AnswerJob, Failed, Finished, NewTokens
from mmicl_jax.serve.tickets import Ticket
from mmicl_jax.types import EOS


class SearchPlan(NamedTuple):
  """What searches must share to run in one batch.

  length: of their prompts' shape. seed: what the samples of sampled beams
  depend on; zeros without sampling.
  """

  length: int
  static: StaticOptions
  dynamic: DynamicOptions
  seed: tuple[int, int, int]


def plan_of(job: AnswerJob, length: int, room: int) -> SearchPlan:
  """length: of the prompt's shape. room: for new tokens."""
  # All beams' answers come back, so that one program serves any number.
  options = dataclasses.replace(
    job.options, num_return_sequences=job.options.num_beams
  )
  static, dynamic = split_options(options, room)
  # What these two would change is nothing where they are at their defaults.
  static = dataclasses.replace(static, min_length=True, repetition=True)
  own = row_options(job.options, job.rows[0])
  high, low = own.seed.tolist()
  seed = (high, low, int(own.number)) if static.do_sample else (0, 0, 0)
  return SearchPlan(length, static, dynamic, seed)


class BeamBatch:
  """A batch of searches with one plan.

  memories: their prompts. jobs: by the place of their prompt; two with the same
  prompt have the same answer.
  """

  def __init__(
    self,
    model: MMICL,
    params: Any,
    plan: SearchPlan,
    memories: tuple[Memory, ...],
    jobs: Mapping[int, Sequence[Ticket]],
  ):
    self._model, self._params = model, params
    self._plan, self._strategy = plan, strategy_of(plan.static)
    self._memories, self._jobs = memories, dict(jobs)
    self._state: Beams | None = None

  @property
  def rows(self) -> int:
    """Rows of the decoder that somebody waits for; 0 if it is over."""
    return len(self._jobs) * self._plan.static.num_beams

  def drop(self) -> None:
    """Leaves out searches that nobody wants any more."""
    for row, tickets in list(self._jobs.items()):
      if not any(ticket.alive for ticket in tickets):
        del self._jobs[row]

  def step(self) -> Bool[jax.Array, 'B']:
    """Starts the next few steps; the result may not be there yet.

    Returns which searches have ended.
    """
    mine = np.zeros(len(self._memories), bool)
    mine[list(self._jobs)] = True
    if self._state is None:
      seed = np.array(self._plan.seed, np.uint32)
      begin = self._model, self._params, self._memories, mine, seed
      self._state = _begin(*begin, self._strategy, self._plan.dynamic)
    self._state, ended = _advance(
      self._model,
      self._params,
      self._memories,
      self._state,
      mine,
      self._strategy,
      self._plan.dynamic,
    )
    return ended

  def hand_out(self, ended: Bool[np.ndarray, 'B']) -> None:
    """Tells the answers of searches that have ended."""
    if not any(ended[row] for row in self._jobs):
      return
    decoded = jax.device_get(
      _finish(self._state, self._strategy, self._plan.dynamic)
    )
    for row in [row for row in self._jobs if ended[row]]:
      for ticket in self._jobs.pop(row):
        _tell(ticket, Decoded(*(x[row] for x in decoded)))

  def fail(self, error: Exception) -> list['BeamBatch']:
    """Where the device has no memory for the batch, its searches alone.

    Those that still run have been told nothing, so they can begin again. A
    search that was alone is told the error.
    """
    if len(self._memories) > 1:
      return [
        BeamBatch(
          self._model,
          self._params,
          self._plan,
          (self._memories[row],),
          {0: tickets},
        )
        for row, tickets in self._jobs.items()
      ]
    for tickets in self._jobs.values():
      for ticket in tickets:
        ticket.tell(Failed(error))
    return []


def warm_up_beams(
  model: MMICL, params: Any, plan: SearchPlan, memories: tuple[Memory, ...]
) -> None:
  """Compiles what searches in so many prompts like these need."""
  batch = BeamBatch(model, params, plan, memories, {0: ()})
  batch.hand_out(np.ones(len(batch.step()), bool))


def _tell(ticket: Ticket, found: Decoded) -> None:
  """found: the answers to one prompt, [K, U], the best first."""
  assert isinstance(ticket.job, AnswerJob)
  for choice, length in enumerate(found.lengths[: ticket.job.choices]):
    tokens = tuple(found.tokens[choice, :length].tolist())
    log_probs = tuple(found.log_probs[choice, :length].tolist())
    ticket.tell(NewTokens(choice, tokens, log_probs))
    reason = 'stop' if tokens and tokens[-1] == EOS else 'length'
    ticket.tell(Finished(choice, float(found.scores[choice]), reason))


def _together(memories: tuple[Memory, ...]) -> Memory:
  return jax.tree.map(lambda *rows: jnp.concatenate(rows), *memories)


@functools.partial(jax.jit, static_argnums=(0, 5))
def _begin(
  model: MMICL,
  params: Any,
  memories: tuple[Memory, ...],
  mine: Bool[jax.Array, 'B'],
  seed: UInt32[jax.Array, '3'],
  strategy: Strategy[Any],
  dynamic: DynamicOptions,
) -> Beams:
  keys = None
  if strategy.static.do_sample:
    keys = jnp.repeat(number_key(seed[:2], seed[2])[None], len(mine), 0)
  # Prompts of others are as padding: they get no answer.
  own = _together(memories)
  own = own._replace(is_token=own.is_token & mine[:, None])
  return decoding.begin(model, params, own, keys, strategy, dynamic)


@functools.partial(jax.jit, static_argnums=(0, 5), donate_argnames='state')
def _advance(
  model: MMICL,
  params: Any,
  memories: tuple[Memory, ...],
  state: Beams,
  mine: Bool[jax.Array, 'B'],
  strategy: Strategy[Any],
  dynamic: DynamicOptions,
) -> tuple[Beams, Bool[jax.Array, 'B']]:
  """Adds CHUNK tokens at most; also says which searches have ended."""
  state = state._replace(open=state.open & mine)
  step = decoding.model_step(model, params, _together(memories))
  until = state.index - 1 + CHUNK
  state = decoding.advance(state, step, strategy, dynamic, until=until)
  return state, ~state.open | ~strategy.running(state, dynamic)


@functools.partial(jax.jit, static_argnums=1)
def _finish(
  state: Beams, strategy: Strategy[Any], dynamic: DynamicOptions
) -> Decoded:
  return strategy.finish(state, dynamic)

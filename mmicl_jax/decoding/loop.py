"""From an encoded prompt to tokens: greedy, sampling and beam search.

One compiled loop for all: the prompt's keys and values are made once per
example and shared by its beams and samples, each step runs one token a row,
and the loop ends when every row is done. `sampling` and `beam` say how a step
chooses. Semantics are those of Hugging Face's `generate`.
"""

import dataclasses
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped

from mmicl_jax.decoding import beam, sampling
from mmicl_jax.decoding.options import (
  DynamicOptions,
  Scalar,
  StaticOptions,
)
from mmicl_jax.decoding.scores import Decoded
from mmicl_jax.models.mmicl import MMICL
from mmicl_jax.models.quantized import keep_in_loop
from mmicl_jax.models.t5 import LayerCache
from mmicl_jax.types import START

# (tokens R 1, cache, position) -> (logits of the next tokens R V, cache)
Step = Callable[[jax.Array, Any, jax.Array], tuple[jax.Array, Any]]


class Memory(NamedTuple):
  """What the decoder reads of B prompts: keys and values of every layer."""

  memory: PyTree
  is_token: Bool[Array, 'B T']


def decode(
  model: MMICL,
  params: PyTree,
  prompt: Memory,
  keys: Shaped[Array, 'B'] | None,
  plan: StaticOptions,
  numbers: DynamicOptions,
  stops: Int[Array, 'S V'] | None = None,
) -> Decoded:
  """The answers to prompts, which may be asked again.

  keys: of `row_keys`, for sampling only. stops: of `stopping.stop_table`.
  Rows whose prompt has no token are padding.
  """
  if model.config.execution.scan_layers:
    plan = dataclasses.replace(plan, cache_axis=1)
  state = begin(model, params, prompt, keys, plan, numbers, stops)
  step = model_step(model, params, prompt)
  return finish(advance(state, step, plan, numbers, stops), plan, numbers)


def begin(
  model: MMICL,
  params: PyTree,
  prompt: Memory,
  keys: Shaped[Array, 'B'] | None,
  plan: StaticOptions,
  numbers: DynamicOptions,
  stops: Int[Array, 'S V'] | None = None,
) -> Any:
  """The state after the first token."""
  rows = len(prompt.is_token) * plan.rows
  variables = {'params': params}
  cache = model.apply(variables, rows, plan.length, method='empty_cache')
  start = jnp.full((rows, 1), START, jnp.int32)
  step = model_step(model, params, prompt)
  logits, own = step(start, _split(cache)[0], jnp.int32(0))
  valid = prompt.is_token.any(1)
  return first(logits, own, valid, keys, plan, numbers, stops)


def first(
  logits: Float[Array, 'R V'],
  cache: Any,
  valid: Bool[Array, 'B'],
  keys: Shaped[Array, 'B'] | None,
  plan: StaticOptions,
  numbers: DynamicOptions,
  stops: Int[Array, 'S V'] | None = None,
) -> Any:
  """The state after the first token; rows that are not valid are done."""
  strategy = _strategy(plan)
  state = strategy.start(valid, keys, plan, cache)
  return strategy.update(state, logits, plan, numbers, stops)


def advance(
  state: Any,
  step: Step,
  plan: StaticOptions,
  numbers: DynamicOptions,
  stops: Int[Array, 'S V'] | None = None,
  until: Scalar | None = None,
) -> Any:
  """Runs until all rows are done, or hold `until` new tokens."""
  strategy = _strategy(plan)

  def running(state):
    more = strategy.running(state, plan, numbers)
    return more if until is None else more & (state.index - 1 < until)

  def body(state):
    return advance_once(state, step, plan, numbers, stops)

  return jax.lax.while_loop(running, body, state)


def advance_once(
  state: Any,
  step: Step,
  plan: StaticOptions,
  numbers: DynamicOptions,
  stops: Int[Array, 'S V'] | None = None,
) -> Any:
  """The state after one more token of every row."""
  strategy = _strategy(plan)
  tokens = strategy.last_tokens(state)
  logits, cache = step(tokens[:, None], state.cache, state.index - 1)
  state = state._replace(cache=cache)
  return strategy.update(state, logits, plan, numbers, stops)


def finish(state: Any, plan: StaticOptions, numbers: DynamicOptions) -> Decoded:
  """The answers of a state; those that have not ended are cut."""
  return _strategy(plan).finish(state, plan, numbers)


def model_step(model: MMICL, params: PyTree, prompt: Memory) -> Step:
  """One step of the model over the tokens' own cache; the prompt is fixed."""

  def step(tokens, own, position):
    weights, tokens = keep_in_loop(params, tokens)
    cache = _join(own, prompt.memory)
    logits, cache = model.apply(
      {'params': weights},
      tokens,
      None,
      prompt.is_token,
      cache,
      position,
      method='decode',
    )
    return logits[:, 0], _split(cache)[0]

  return step


def prefill(
  model: MMICL,
  params: PyTree,
  encoded: Float[Array, 'B T D'],
  is_token: Bool[Array, 'B T'],
) -> Memory:
  """The keys and values of B prompts: what all their answers share."""
  variables, rows = {'params': params}, len(is_token)
  _, cache = model.apply(
    variables,
    jnp.full((rows, 1), START, jnp.int32),
    encoded,
    is_token,
    model.apply(variables, rows, 1, method='empty_cache'),
    0,
    method='decode',
  )
  return Memory(_split(cache)[1], is_token)


def log_probs(
  model: MMICL,
  params: PyTree,
  prompt: Memory,
  targets: Int[Array, 'R U'],
) -> Float[Array, 'R U']:
  """Log-probability of each token of R = B x candidates given texts.

  An example's candidates are consecutive and share its keys and values.
  """
  rows, length = targets.shape
  cache = model.apply({'params': params}, rows, length, method='empty_cache')
  cache = _join(_split(cache)[0], prompt.memory)
  inputs = jnp.pad(targets, ((0, 0), (1, 0)), constant_values=START)[:, :-1]
  logits, _ = model.apply(
    {'params': params},
    inputs,
    None,
    prompt.is_token,
    cache,
    0,
    method='decode',
  )
  chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
  return chosen - jax.nn.logsumexp(logits, axis=-1)


def _strategy(plan: StaticOptions) -> ModuleType:
  return beam if plan.num_beams > 1 else sampling


def _split(cache: Any) -> tuple[Any, Any]:
  """The tokens' part, which changes with every step, and the prompt's."""
  if isinstance(cache, LayerCache):
    return cache.own, cache.prompt
  return tuple(c.own for c in cache), tuple(c.prompt for c in cache)


def _join(own: Any, memory: Any) -> Any:
  if hasattr(own, 'key'):  # layers stacked on an axis
    return LayerCache(own, memory)
  return tuple(map(LayerCache, own, memory))

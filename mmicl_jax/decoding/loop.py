"""From an encoded prompt to tokens: the compiled loop of all strategies.

An example's keys and values of the prompt are computed once; all its beams and
samples share them. Each step runs one token of each row, and the loop ends when
all rows are done. A strategy (strategy.py) says how a step chooses tokens.
Results are those of Hugging Face's `generate`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped

from mmicl_jax.decoding.options import (
  DynamicOptions,
  Scalar,
  StaticOptions,
)
from mmicl_jax.decoding.scores import Decoded
from mmicl_jax.decoding.strategy import Strategy, strategy_of
from mmicl_jax.models.mmicl import MMICL
from mmicl_jax.models.quantized import keep_in_loop
from mmicl_jax.models.t5 import LayerCache
from mmicl_jax.types import START

# (tokens R 1, cache, position) -> (logits of the next tokens R V, cache)
Step = Callable[[jax.Array, Any, jax.Array], tuple[jax.Array, Any]]


class Memory(NamedTuple):
  """What the decoder reads of B prompts: each layer's keys and values.

  is_token: which positions of the prompts are not padding.
  """

  memory: PyTree
  is_token: Bool[Array, 'B T']


def decode(
  model: MMICL,
  params: PyTree,
  prompt: Memory,
  keys: Shaped[Array, 'B'] | None,
  static: StaticOptions,
  dynamic: DynamicOptions,
  stops: Int[Array, 'S V'] | None = None,
) -> Decoded:
  """Answers B prompts; `prompt` stays valid and can be used again.

  keys: from `scores.row_keys`, for sampling only. stops: from
  `stops.stop_table`. Rows whose prompt has no token are padding: they get no
  answer.
  """
  if model.config.execution.scan_layers:
    static = dataclasses.replace(static, cache_axis=1)
  strategy = strategy_of(static)
  state = begin(model, params, prompt, keys, strategy, dynamic, stops)
  step = model_step(model, params, prompt)
  state = advance(state, step, strategy, dynamic, stops)
  return strategy.finish(state, dynamic)


def begin(
  model: MMICL,
  params: PyTree,
  prompt: Memory,
  keys: Shaped[Array, 'B'] | None,
  strategy: Strategy[Any],
  dynamic: DynamicOptions,
  stops: Int[Array, 'S V'] | None = None,
) -> Any:
  """The strategy's state after the first token."""
  rows = len(prompt.is_token) * strategy.static.rows
  length = strategy.static.length
  cache = model.apply({'params': params}, rows, length, method='empty_cache')
  start = jnp.full((rows, 1), START, jnp.int32)
  step = model_step(model, params, prompt)
  logits, own = step(start, _split(cache)[0], jnp.int32(0))
  state = strategy.start(prompt.is_token.any(1), keys, own)
  return strategy.update(state, logits, dynamic, stops)


def advance(
  state: Any,
  step: Step,
  strategy: Strategy[Any],
  dynamic: DynamicOptions,
  stops: Int[Array, 'S V'] | None = None,
  until: Scalar | None = None,
) -> Any:
  """Adds tokens until all rows are done or have `until` new ones."""

  def running(state):
    more = strategy.running(state, dynamic)
    return more if until is None else more & (state.index - 1 < until)

  def body(state):
    return advance_once(state, step, strategy, dynamic, stops)

  return jax.lax.while_loop(running, body, state)


def advance_once(
  state: Any,
  step: Step,
  strategy: Strategy[Any],
  dynamic: DynamicOptions,
  stops: Int[Array, 'S V'] | None = None,
) -> Any:
  """Runs the model once; returns the state with one more token in each row."""
  tokens = strategy.last_tokens(state)
  logits, cache = step(tokens[:, None], state.cache, state.index - 1)
  state = state._replace(cache=cache)
  return strategy.update(state, logits, dynamic, stops)


def model_step(model: MMICL, params: PyTree, prompt: Memory) -> Step:
  """The model as a step for `advance`; its cache is that of the new tokens."""

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
  """Computes the prompts' keys and values, which all their answers share.

  encoded: the encoder's output. is_token: which positions are not padding.
  """
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
  """The log-probability of each token of given answers (targets).

  R is B x candidates: the candidates of an example are consecutive rows and
  share the keys and values of its prompt.
  """
  logits = read_answers(model, params, prompt, targets)[0]
  chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
  return chosen - jax.nn.logsumexp(logits, axis=-1)


def read_answers(
  model: MMICL,
  params: PyTree,
  prompt: Memory,
  targets: Int[Array, 'R U'],
  **options: Any,
) -> Any:
  """Runs the decoder on given answers, as `log_probs` needs it.

  options: of Module.apply. Returns what `decode` does: (logits f32[R, U, V],
  cache), and with `mutable` also the collections that it names.
  """
  rows, length = targets.shape
  cache = model.apply({'params': params}, rows, length, method='empty_cache')
  cache = _join(_split(cache)[0], prompt.memory)
  inputs = jnp.pad(targets, ((0, 0), (1, 0)), constant_values=START)[:, :-1]
  return model.apply(
    {'params': params},
    inputs,
    None,
    prompt.is_token,
    cache,
    0,
    method='decode',
    **options,
  )


def _split(cache: Any) -> tuple[Any, Any]:
  """Returns (the tokens' part, which each step changes; the prompt's part)."""
  if isinstance(cache, LayerCache):
    return cache.own, cache.prompt
  return tuple(c.own for c in cache), tuple(c.prompt for c in cache)


def _join(own: Any, memory: Any) -> Any:
  if hasattr(own, 'key'):  # one cache of stacked layers
    return LayerCache(own, memory)
  return tuple(map(LayerCache, own, memory))

"""The T5X signature: a duck model, scanned and not, against our own loop."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import t5_pair
from stacked import stack_layers

from mmicl_jax.decoding import loop as decoding
from mmicl_jax.decoding.options import Options, split_options
from mmicl_jax.models import configs
from mmicl_jax.models.mmicl import MMICL
from mmicl_jax.t5x.decoding import decode_fn

LENGTH = 6


@pytest.fixture(scope='module')
def prompt():
  """(model, parameters, encoded, is_token) of three prompts."""
  _, model, params = t5_pair.make()
  tokens = jnp.asarray(t5_pair.prompts(3))
  batch = {'encoder_input_tokens': tokens}
  encode = jax.jit(functools.partial(model.apply, method='encode'))
  encoded = encode({'params': params}, batch)
  return model, params, encoded, tokens != 0


@pytest.mark.slow
@pytest.mark.parametrize(
  'scanned, beam_search', [(False, 'transformers5'), (True, 'transformers4')]
)
def test_best_is_last_and_rows_are_where_cache_offset_says(
  prompt, scanned, beam_search
):
  model, params, encoded, is_token = prompt
  options = Options(
    num_beams=3,
    num_return_sequences=3,
    max_new_tokens=LENGTH,
    length_penalty=0.5,
    beam_search=beam_search,
  )
  static, dynamic = split_options(options)
  want = t5_pair.answers(
    model, params, encoded, is_token, None, static, dynamic
  )
  if scanned:
    config = configs.with_execution(model.config, scan_layers=True)
    model, params = MMICL(config), stack_layers(params)
  variables = {'params': params}
  empty = model.apply(variables, 3, LENGTH, method='empty_cache')
  own, _ = decoding._split(empty)
  many = jnp.repeat(encoded, 3, axis=0), jnp.repeat(is_token, 3, axis=0)

  def tokens_to_logits(state):
    cache = decoding._join(
      state.cache['keys'], None if scanned else [None] * len(own)
    )
    logits, cache = model.apply(
      variables,
      state.cur_token,
      *many,
      cache,
      state.cache['cache_index'],
      method='decode',
    )
    index = state.cache['cache_index'] + 1
    new = {'keys': decoding._split(cache)[0], 'cache_index': index}
    return logits[:, 0], new

  tokens, scores = decode_fn(
    inputs=jnp.zeros((3, LENGTH), jnp.int32),
    cache={'keys': own, 'cache_index': jnp.int32(0)},
    tokens_to_logits=tokens_to_logits,
    eos_id=1,
    num_decodes=3,
    cache_offset=int(scanned),
    length_penalty=0.5,
    beam_search=beam_search,
  )
  np.testing.assert_array_equal(tokens[:, ::-1], want.tokens)
  np.testing.assert_allclose(scores[:, ::-1], want.scores, atol=1e-5)


@pytest.mark.slow
def test_samples_are_sorted(prompt):
  model, params, encoded, is_token = prompt
  many = jnp.repeat(encoded, 4, axis=0), jnp.repeat(is_token, 4, axis=0)

  def tokens_to_logits(state):  # without memory: enough for two tokens
    logits, _ = model.apply(
      {'params': params}, state.cur_token, *many, method='decode'
    )
    return logits[:, 0], state.cache

  tokens, scores = decode_fn(
    inputs=jnp.zeros((3, 2), jnp.int32),
    cache={},
    tokens_to_logits=tokens_to_logits,
    num_decodes=4,
    do_sample=True,
    decode_rng=jax.random.key(0),
    temperature=2.0,
  )
  assert tokens.shape == (3, 4, 2)
  assert (np.diff(scores, axis=1) >= 0).all()
  assert len(np.unique(tokens[0], axis=0)) > 1

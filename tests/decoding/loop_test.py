"""Greedy, sampling and beam search give what transformers' generate gives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import t5_pair

from mmicl_jax.decoding import loop
from mmicl_jax.decoding.options import Options, split_options
from mmicl_jax.decoding.scores import BLOCK, largest, row_keys, top_k
from mmicl_jax.decoding.stops import stop_table
from mmicl_jax.decoding.strategy import strategy_of

LENGTH = 9  # new tokens


@pytest.fixture(scope='module')
def pair():
  return t5_pair.make()


@functools.partial(jax.jit, static_argnums=0)
def _encode(model, params, tokens):
  batch = {'encoder_input_tokens': tokens}
  return model.apply({'params': params}, batch, method='encode')


def ours(pair, tokens, stops=None, rows=None, room=LENGTH, **options):
  _, model, params = pair
  static, dynamic = split_options(
    Options(max_new_tokens=LENGTH, **options), room
  )
  keys = None
  if static.do_sample:
    rows = jnp.arange(len(tokens)) if rows is None else rows
    keys = row_keys(options.get('seed', 0), rows.astype(jnp.uint32))
  encoded = _encode(model, params, tokens)
  result = t5_pair.answers(
    model, params, encoded, tokens != 0, keys, static, dynamic, stops
  )
  return jax.tree.map(np.asarray, result)


def theirs(pair, tokens, **options):
  """(ids [B, K, U], scores [B, K] or None) of transformers."""
  import torch

  ids = torch.tensor(tokens).long()
  output = pair[0].generate(
    input_ids=ids,
    attention_mask=(ids != 0).long(),
    max_new_tokens=LENGTH,
    return_dict_in_generate=True,
    output_scores=True,
    **options,
  )
  found = output.sequences[:, 1:].numpy()
  # Behind the end token transformers' beam search repeats it.
  ended = np.cumsum(found == 1, axis=1) - (found == 1) > 0
  found = np.where(ended, 0, found)
  found = np.pad(found, ((0, 0), (0, LENGTH - found.shape[1])))
  scores = getattr(output, 'sequences_scores', None)
  shape = (len(tokens), -1)
  return found.reshape(*shape, LENGTH), (
    None if scores is None else scores.numpy().reshape(shape)
  )


GREEDY = {'num_beams': 1, 'do_sample': False}
BEAMS = {'num_beams': 4, 'do_sample': False, 'num_return_sequences': 3}
CASES = {
  'greedy': GREEDY,
  'greedy, minimum length': GREEDY | {'min_new_tokens': 6},
  'greedy, repetition penalty': GREEDY | {'repetition_penalty': 3.0},
  'greedy, no word twice': GREEDY | {'no_repeat_ngram_size': 1},
  'greedy, no pair twice': GREEDY | {'no_repeat_ngram_size': 2},
  'beams': BEAMS,
  'beams, short': BEAMS | {'length_penalty': -1.0},
  'beams, long': BEAMS | {'length_penalty': 2.0},
  'beams, early': BEAMS | {'early_stopping': True},
  'beams, never early': BEAMS | {'early_stopping': 'never'},
  'beams, never early, short': BEAMS
  | {'early_stopping': 'never', 'length_penalty': -0.5},
  'beams, all processors': BEAMS
  | {
    'min_new_tokens': 3,
    'repetition_penalty': 1.5,
    'no_repeat_ngram_size': 2,
  },
}


@pytest.mark.slow
@pytest.mark.parametrize('name', CASES)
def test_same_as_transformers(pair, name):
  options = CASES[name]
  tokens = t5_pair.prompts(6)
  want, want_scores = theirs(pair, tokens, **options)
  got = ours(pair, tokens, **options)
  np.testing.assert_array_equal(got.tokens, want)
  if want_scores is not None:
    np.testing.assert_allclose(got.scores, want_scores, 5e-5, 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('options', [GREEDY, BEAMS], ids=['greedy', 'beams'])
def test_stop_strings_as_in_transformers(pair, options):
  import tokenizers
  import transformers

  texts = [
    '',
    '',
    *(a + b for a in 'abcdef' for b in ('', 'a', 'b', 'e', 'ad')),
  ]
  vocabulary = {text or f'<{i}>': i for i, text in enumerate(texts)}
  words = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, '<0>'))
  words.decoder = tokenizers.decoders.Fuse()
  each = tokenizers.Regex('.')
  words.pre_tokenizer = tokenizers.pre_tokenizers.Split(each, 'isolated')
  tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_object=words, unk_token='<0>', eos_token='<1>', pad_token='<0>'
  )
  stops = ['ba', 'dd', 'ec']
  tokens = t5_pair.prompts(6)
  want, _ = theirs(
    pair, tokens, stop_strings=stops, tokenizer=tokenizer, **options
  )
  table = stop_table(texts, stops, t5_pair.VOCABULARY)
  got = ours(pair, tokens, stops=table, **options)
  np.testing.assert_array_equal(got.tokens, want)
  free = ours(pair, tokens, **options)
  assert (got.lengths < free.lengths).any() and (got.tokens > 1).any()


@pytest.mark.slow
def test_rows_end_at_different_steps(pair):
  """Else the tests above would not test early ends."""
  got = ours(pair, t5_pair.prompts(6), **GREEDY)
  assert len(set(got.lengths[:, 0])) > 1
  assert got.lengths.min() < LENGTH
  ends = np.take_along_axis(got.tokens, got.lengths[..., None] - 1, 2)
  assert (ends == 1).any()


@pytest.mark.slow
def test_all_beams_of_one_step(pair):
  """One new token: the answers are the likeliest tokens in order."""
  options = BEAMS | {'num_return_sequences': 4}
  _, model, params = pair
  tokens = jnp.asarray(t5_pair.prompts(3))
  encoded = _encode(model, params, tokens)
  static, dynamic = split_options(Options(max_new_tokens=1, **options), 4)
  got = t5_pair.answers(
    model, params, encoded, tokens != 0, None, static, dynamic
  )
  decode = jax.jit(functools.partial(model.apply, method='decode'))
  logits, _ = decode(
    {'params': params},
    jnp.zeros((3, 1), jnp.int32),
    encoded,
    tokens != 0,
  )
  log_probs = jax.nn.log_softmax(logits[:, 0])
  values, ids = jax.lax.top_k(log_probs, 4)
  np.testing.assert_array_equal(got.tokens[..., 0], ids)
  np.testing.assert_allclose(got.scores, values, atol=1e-5)


@pytest.mark.slow
def test_one_beam_is_greedy(pair):
  tokens = t5_pair.prompts(4)
  greedy = ours(pair, tokens, **GREEDY)
  likeliest = ours(pair, tokens, do_sample=True, top_k=1)
  np.testing.assert_array_equal(greedy.tokens, likeliest.tokens)
  nucleus = ours(pair, tokens, do_sample=True, top_k=0, top_p=1e-6)
  np.testing.assert_array_equal(greedy.tokens, nucleus.tokens)


@pytest.mark.slow
@pytest.mark.parametrize('options', [GREEDY, BEAMS], ids=['greedy', 'beams'])
def test_log_probs_sum_to_the_score_and_are_teacher_forced(pair, options):
  tokens = t5_pair.prompts(4)
  got = ours(pair, tokens, length_penalty=0.7, **options)
  total = got.log_probs.sum(-1) / got.lengths**0.7
  np.testing.assert_allclose(got.scores, total, atol=1e-5)

  _, model, params = pair
  encoded = _encode(model, params, tokens)
  prompt = jax.jit(loop.prefill, static_argnums=0)(
    model, params, encoded, tokens != 0
  )
  score = jax.jit(loop.log_probs, static_argnums=0)
  forced = score(model, params, prompt, got.tokens.reshape(-1, LENGTH))
  place = np.arange(LENGTH) < got.lengths[..., None]
  forced = np.where(place, forced.reshape(got.tokens.shape), 0)
  np.testing.assert_allclose(got.log_probs, forced, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
  'options',
  [GREEDY, BEAMS, {'do_sample': True, 'top_k': 20}],
  ids=['greedy', 'beams', 'sampling'],
)
def test_alone_as_in_a_batch_and_with_more_room(pair, options):
  tokens = t5_pair.prompts(5)
  together = ours(pair, tokens, **options)
  tokens = np.pad(tokens, ((0, 1), (0, 4)))  # an empty row, longer padding
  alone = ours(
    pair, tokens[[3, 5]], rows=jnp.array([3, 9]), room=LENGTH + 3, **options
  )
  np.testing.assert_array_equal(alone.tokens[0, :, :LENGTH], together.tokens[3])
  np.testing.assert_allclose(alone.scores[0], together.scores[3], atol=1e-5)


@pytest.mark.slow
def test_empty_rows_do_not_prolong_the_loop(pair):
  _, model, params = pair
  tokens = jnp.asarray(t5_pair.prompts(2)).at[1].set(0)
  for options in (GREEDY, BEAMS):
    static, dynamic = split_options(
      Options(max_new_tokens=LENGTH, **options), LENGTH
    )
    encoded = _encode(model, params, tokens)
    prompt = loop.prefill(model, params, encoded, tokens != 0)
    state = loop.begin(
      model, params, prompt, None, strategy_of(static), dynamic
    )
    done = state.open if options is BEAMS else ~state.done
    assert done.reshape(2, -1).any(1).tolist() == [True, False]


WARPED = {
  'plain': {'top_k': 0},
  'temperature': {'top_k': 0, 'temperature': 2.5},
  'top k': {'top_k': 6, 'temperature': 2.0},
  'nucleus': {'top_k': 0, 'top_p': 0.7, 'temperature': 2.0},
  'all': {'top_k': 9, 'top_p': 0.8, 'temperature': 3.0},
}


@pytest.mark.slow
@pytest.mark.parametrize('name', WARPED)
def test_samples_follow_the_exact_distribution(pair, name):
  """Chi-square of 8,000 first tokens against transformers' own warpers."""
  import scipy.stats
  import torch
  from transformers.generation import logits_process as warpers

  options = WARPED[name]
  count = 8000
  _, model, params = pair
  tokens = jnp.asarray(t5_pair.prompts(1))
  encoded = _encode(model, params, tokens)
  chosen = Options(
    max_new_tokens=1,
    do_sample=True,
    num_return_sequences=count,
    seed=3,
    **options,
  )
  static, dynamic = split_options(chosen)
  keys = row_keys(3, jnp.zeros(1, jnp.uint32))
  got = t5_pair.answers(
    model, params, encoded, tokens != 0, keys, static, dynamic
  )
  decode = jax.jit(functools.partial(model.apply, method='decode'))
  logits, _ = decode(
    {'params': params},
    jnp.zeros((1, 1), jnp.int32),
    encoded,
    tokens != 0,
  )
  scores = torch.tensor(np.asarray(logits[:, 0]))
  ids = torch.zeros((1, 1), dtype=torch.long)
  if 'temperature' in options:
    warp = warpers.TemperatureLogitsWarper(options['temperature'])
    scores = warp(ids, scores)
  if options['top_k']:
    scores = warpers.TopKLogitsWarper(options['top_k'])(ids, scores)
  if 'top_p' in options:
    scores = warpers.TopPLogitsWarper(options['top_p'])(ids, scores)
  expected = count * scores.softmax(-1).double().numpy()[0]
  observed = np.bincount(np.ravel(got.tokens), minlength=len(expected))
  assert not observed[expected == 0].any()
  likely = expected > 5
  observed = np.append(observed[likely], observed[~likely].sum())
  expected = np.append(expected[likely], expected[~likely].sum() + 1e-9)
  expected *= observed.sum() / expected.sum()
  assert scipy.stats.chisquare(observed, expected).pvalue > 1e-3


def test_sampled_beams_are_drawn_without_replacement(pair):
  """Each example's beams differ; their first tokens follow the model."""
  tokens = np.repeat(t5_pair.prompts(1), 6, 0)
  got = ours(pair, tokens, **(BEAMS | {'do_sample': True, 'temperature': 3.0}))
  for answers in got.tokens:
    assert len(np.unique(answers, axis=0)) == 3
  assert len(np.unique(got.tokens[:, 0], axis=0)) > 1


def test_seeds(pair):
  tokens = t5_pair.prompts(3)
  options = {'do_sample': True, 'temperature': 3.0}
  first = ours(pair, tokens, **options).tokens
  np.testing.assert_array_equal(first, ours(pair, tokens, **options).tokens)
  assert (first != ours(pair, tokens, seed=1, **options).tokens).any()


def test_largest_is_the_first_of_equals():
  x = np.array([[1.0, 3, 3, 2], [-np.inf, -np.inf, -1, -2], [0, 0, 0, 0]])
  np.testing.assert_array_equal(largest(jnp.asarray(x)), x.argmax(-1))
  assert int(largest(jnp.full((1, 4), jnp.nan))[0]) < 4


@pytest.mark.parametrize('k', [1, 3, 10])
def test_top_k_is_that_of_the_whole(k):
  """Equal values in the same order, wherever blocks end; -inf as well."""
  rng = np.random.default_rng(0)
  for size in (50 * BLOCK, 50 * BLOCK + 5):
    x = rng.integers(0, 40, (2, 3, size)).astype(np.float32)
    x[0, 0] = -np.inf
    x[0, 1, 7:] = -np.inf
    x[1, 2, -1] = 99
    got = top_k(jnp.asarray(x), k)
    assert 'reduce_max' in str(jax.make_jaxpr(lambda x: top_k(x, k))(x))
    for a, b in zip(got, jax.lax.top_k(x, k), strict=True):
      np.testing.assert_array_equal(a, b)


def test_top_k_of_few_values():
  x = jnp.array([3.0, 9.0, 9.0, 1.0])
  np.testing.assert_array_equal(top_k(x, 4)[1], [1, 2, 0, 3])

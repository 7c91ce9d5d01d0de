"""Properties of the whole model: what may change its answer, and what not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmicl_jax.models import configs
from mmicl_jax.models.mmicl import MEAN, MMICL, STD, normalise, splice


@pytest.fixture(scope='module')
def logits(config, params):
  return jax.jit(lambda batch: MMICL(config).apply({'params': params}, batch))


def close(a, b, atol=2e-5):
  np.testing.assert_allclose(a, b, rtol=1e-5, atol=atol)


def test_splice_gives_each_row_its_own_visual_tokens():
  text = -jnp.arange(1.0, 11).reshape(2, 5, 1)
  visual = jnp.array([[10.0, 11, 12, 13], [20, 21, 22, 23]])[..., None]
  is_image = jnp.array([[0, 1, 1, 0, 0], [1, 0, 1, 1, 1]], bool)
  got = splice(text, visual, is_image)[..., 0]
  assert got.tolist() == [[-1, 10, 11, -4, -5], [20, -7, 21, 22, 23]]


def test_a_row_without_placeholders_stays_text():
  text = jnp.ones((1, 3, 2))
  got = splice(text, jnp.zeros((1, 4, 2)), jnp.zeros((1, 3), bool))
  np.testing.assert_array_equal(got, text)


@pytest.mark.slow
def test_padding_images_change_nothing(logits, make_batch):
  batch = make_batch(rows=2, images=2)
  images = batch['encoder_images']
  noise = make_batch(rows=2, images=1, seed=9)['encoder_images']
  padded = {**batch, 'encoder_images': jnp.concatenate([images, noise], axis=1)}
  close(logits(padded), logits(batch))


def test_images_do_change_the_answer(logits, make_batch):
  batch = make_batch()
  other = make_batch(seed=9)['encoder_images']
  changed = logits({**batch, 'encoder_images': other}) - logits(batch)
  assert np.abs(changed).max() > 1e-2


@pytest.mark.slow
def test_padding_tokens_change_nothing(logits, make_batch):
  batch = make_batch()
  padded = {
    name: jnp.pad(value, ((0, 0), (0, 3))) if value.ndim == 2 else value
    for name, value in batch.items()
  }
  close(logits(padded)[:, :5], logits(batch))


@pytest.mark.slow
def test_a_row_is_answered_alike_in_any_company(logits, make_batch):
  """Rows of different lengths and numbers of images, apart and together."""
  rows = [
    make_batch(rows=1, images=2, seed=1),
    make_batch(rows=1, images=1, seed=2, words=9),
    make_batch(rows=1, images=0, seed=3),
  ]

  def pad(row):
    tokens, images = row['encoder_input_tokens'], row['encoder_images']
    return {
      **row,
      'encoder_input_tokens': jnp.pad(
        tokens, ((0, 0), (0, 16 - tokens.shape[1]))
      ),
      'encoder_images': jnp.pad(
        images, ((0, 0), (0, 2 - images.shape[1]), *[(0, 0)] * 3)
      ),
    }

  def together(order):
    parts = [pad(rows[i]) for i in order]
    return logits(
      {key: jnp.concatenate([p[key] for p in parts]) for key in parts[0]}
    )

  alone = np.concatenate([logits(row) for row in rows])
  close(together([0, 1, 2]), alone)
  close(together([2, 0, 1]), alone[[2, 0, 1]])


def test_permuting_the_images_permutes_their_visual_tokens_only(
  config, params, make_batch
):
  batch = make_batch(images=3)
  words = batch['qformer_input_tokens']
  order = jnp.array([2, 0, 1])

  @jax.jit
  def visual(images):
    return MMICL(config).apply(
      {'params': params}, images, words, method='read_images'
    )

  before = visual(batch['encoder_images'])
  close(visual(batch['encoder_images'][:, order]), before[:, order])
  assert np.abs(before[:, order] - before).max() > 1e-2


@pytest.mark.slow
def test_swapping_images_and_their_names_swaps_blocks_of_the_prompt(
  config, params, make_batch
):
  """What T5 reads: the same blocks in the other order, nothing else."""
  batch = make_batch(images=2)
  block = 1 + config.qformer.num_queries
  tokens = batch['encoder_input_tokens']
  order = np.r_[block : 2 * block, :block, 2 * block : tokens.shape[1]]

  def prompt(model, batch):
    seen = batch['encoder_input_tokens']
    visual = model.projector(model.read_images(batch['encoder_images']))
    visual = visual.reshape(visual.shape[0], -1, visual.shape[-1])
    return splice(model.t5.embed(seen), visual, seen == config.image_token)

  @jax.jit
  def read(batch):
    return MMICL(config).apply({'params': params}, batch, method=prompt)

  swapped = {
    **batch,
    'encoder_input_tokens': tokens[:, order],
    'encoder_images': batch['encoder_images'][:, ::-1],
  }
  close(read(swapped), read(batch)[:, order])


@pytest.mark.slow
def test_text_alone_works_with_no_images_or_none_at_all(logits, make_batch):
  batch = make_batch(images=0)
  assert batch['encoder_images'].shape[1] == 0
  absent = {k: v for k, v in batch.items() if k != 'encoder_images'}
  unused = {**batch, 'encoder_images': make_batch()['encoder_images']}
  expected = logits(batch)
  assert np.isfinite(expected).all()
  close(logits(absent), expected)
  close(logits(unused), expected)


def test_float_images_count_as_normalised(logits, make_batch):
  batch = make_batch()
  pixels = np.asarray(batch['encoder_images']) / 255
  floats = ((pixels - MEAN) / STD).astype(np.float32)
  close(normalise(batch['encoder_images']), floats, atol=1e-6)
  close(logits({**batch, 'encoder_images': floats}), logits(batch))


@pytest.mark.slow
def test_an_instruction_is_read_by_all_images_of_its_row_alone(
  config, params, make_batch
):
  batch = make_batch(rows=2, images=2)
  words = batch['qformer_input_tokens']

  @jax.jit
  def visual(words):
    return MMICL(config).apply(
      {'params': params}, batch['encoder_images'], words, method='read_images'
    )

  moved = np.abs(visual(words.at[1].set(7)) - visual(words)).max((2, 3))
  assert (moved[0] == 0).all() and (moved[1] > 1e-4).all()


@pytest.mark.slow
def test_dropout_is_on_with_a_key_and_off_without(
  config, params, logits, make_batch
):
  batch = make_batch()
  plain = logits(batch)
  still = dataclasses.replace(
    config,
    qformer=dataclasses.replace(config.qformer, dropout_rate=0.0),
    t5=dataclasses.replace(config.t5, dropout_rate=0.0),
  )
  rngs = {'dropout': jax.random.key(0)}
  apply = jax.jit(MMICL(still).apply)
  close(apply({'params': params}, batch, rngs=rngs), plain)
  apply = jax.jit(MMICL(config).apply)
  dropped = apply({'params': params}, batch, rngs=rngs)
  assert np.abs(dropped - plain).max() > 1e-2


@pytest.mark.slow
def test_bfloat16_stays_near_float32(config, params, logits, make_batch):
  batch = make_batch()
  half = configs.with_execution(
    config, dtype='bfloat16', param_dtype='bfloat16'
  )
  small = jax.tree.map(lambda x: x.astype('bfloat16'), params)
  got = jax.jit(MMICL(half).apply)({'params': small}, batch)
  assert got.dtype == jnp.float32
  expected = logits(batch)
  error = np.sqrt(np.mean((got - expected) ** 2) / np.mean(expected**2))
  assert error < 0.1  # eight bits, and parameters are rounded too

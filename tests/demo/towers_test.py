"""The towers' stand-in: the loss, and what its batches hold."""

import jax
import jax.numpy as jnp
import numpy as np
import small_run

from mmicl_jax.checkpoints import store
from mmicl_jax.demo import data, phases, towers
from mmicl_jax.demo.heads import ready_heads
from mmicl_jax.demo.pictures import load_gallery
from mmicl_jax.models.mmicl import init_params
from mmicl_jax.tokenizer import Tokenizer


def test_the_loss_is_small_where_pictures_of_a_class_are_near():
  rng = np.random.default_rng(0)
  kinds = rng.normal(size=(6, 16)).astype(np.float32)
  near = np.repeat(kinds, towers.EACH, axis=0)
  near += 0.01 * rng.normal(size=near.shape).astype(np.float32)
  loss, right = towers.contrast(jnp.array(near), 50.0)
  assert loss < 0.01 and right == 1
  mixed = near[rng.permutation(len(near))]
  loss, right = towers.contrast(jnp.array(mixed), 50.0)
  assert loss > 1 and right < 0.7


def test_batches_hold_pictures_of_one_class_in_a_row():
  gallery = load_gallery('train', 20)
  batch = towers.batch_of_pictures(gallery, 5, 3)
  again = towers.batch_of_pictures(gallery, 5, 3)
  np.testing.assert_array_equal(batch, again)
  assert batch.shape == (towers.KINDS * towers.EACH, 1, 20, 20, 3)
  flat = batch.reshape(len(batch), -1).astype(float)
  flat -= flat.mean(axis=1, keepdims=True)
  flat /= np.linalg.norm(flat, axis=1, keepdims=True)
  likeness = flat @ flat.T
  inside = likeness.reshape(towers.KINDS, towers.EACH, towers.KINDS, -1)
  own = np.mean([inside[i, 0, i, 1] for i in range(towers.KINDS)])
  assert own > likeness.mean() + 0.2


def test_the_language_model_begins_with_ready_heads(tmp_path):
  """And the towers' training leaves them as they began."""
  vocabulary = tmp_path / 'spiece.model'
  vocabulary.write_bytes(data.demo_vocabulary(per_task=1))
  model = phases.config(Tokenizer(vocabulary))
  gallery = load_gallery('train', 20)
  towers.train_towers(
    model, gallery, tmp_path / 'towers', 1, 1e-3, 0, lambda *_: None
  )
  found = store.load_weights(tmp_path / 'towers')['t5']['encoder']
  new = ready_heads(init_params(model, jax.random.key(0)))['t5']['encoder']
  small_run.assert_bits_equal(found['relative_bias'], new['relative_bias'])
  attention = found['layers_0']['self_attention']
  query, key = (np.array(attention[n]['kernel']) for n in ('query', 'key'))
  ratio = query.std() / key.std()
  np.testing.assert_allclose(query, key * ratio, rtol=1e-4, atol=1e-6)

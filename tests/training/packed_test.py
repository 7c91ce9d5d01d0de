"""Packed rows and images compute what padded rows of one example do."""

import dataclasses
import re

import jax
import numpy as np
import pytest
import tiny_records

from mmicl_jax.data.features import Pieces
from mmicl_jax.data.grouping import LengthBucket
from mmicl_jax.data.packed import ImageArray, pack_rows
from mmicl_jax.models import mmicl, partitioning
from mmicl_jax.training import stages, step

SMALL = tiny_records.model(vocab_size=24, image_token=20)
CONFIG = dataclasses.replace(
  SMALL,
  qformer=dataclasses.replace(SMALL.qformer, instruction=True),
  t5=dataclasses.replace(
    SMALL.t5, num_encoder_layers=2, num_decoder_layers=2, hidden_size=16
  ),
)
PIXELS = ImageArray('encoder_images', (14, 14, 3), np.dtype(np.uint8))
IMAGES = (2, 0, 1, 1, 0, 1)  # of each example


def examples():
  rng = np.random.default_rng(0)
  found = []
  for count in IMAGES:
    text = rng.integers(2, 20, 1 + count).tolist()
    answer = rng.integers(2, 20, int(rng.integers(1, 4))).tolist()
    inputs = [20, 20] * count + text + [1]
    if count:
      inputs = text[:1] + inputs  # images do not come first
    images = list(rng.integers(0, 256, (count, 14, 14, 3), np.uint8))
    words = rng.integers(1, 8, 3).tolist()
    found.append(Pieces(inputs, [*answer, 1], images, words))
  return found


def rows_of(*numbers):
  found = examples()
  return [[found[i] for i in row] for row in numbers]


def padded():
  """One example a row, each with its own room for images."""
  rows = rows_of(*[[i] for i in range(len(IMAGES))])
  return pack_rows(
    rows, LengthBucket(10, 5, 2), 1, PIXELS, segments=False, qformer_length=4
  )


def packed():
  """Two groups of two rows with up to two examples."""
  rows = rows_of([0, 1], [2], [4], [3, 5])
  return pack_rows(
    rows, LengthBucket(18, 9, 3), 2, PIXELS, segments=True, qformer_length=4
  )


@pytest.fixture(scope='module')
def params():
  init = jax.jit(mmicl.init_params, static_argnums=0)
  return init(CONFIG, jax.random.key(0))


@pytest.fixture(scope='module')
def gradients_of(params):
  trainable, frozen = stages.split_params(params, ('t5', 'projector', 'qform'))
  apply = step.apply_fn(CONFIG, partitioning.make_mesh())

  @jax.jit
  def run(batch):
    return step.gradients(apply, trainable, frozen, batch, None)

  return lambda batch: jax.device_get(run(batch))


def same(a, b):
  (grads, metrics), (others, theirs) = a, b
  assert metrics['tokens'] == theirs['tokens']
  assert metrics['accuracy'] == pytest.approx(theirs['accuracy'], abs=1e-6)
  assert metrics['loss'] == pytest.approx(theirs['loss'], rel=1e-5)
  for x, y in zip(*map(jax.tree.leaves, (grads, others)), strict=True):
    np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
  assert any(np.abs(x).max() > 1e-2 for x in jax.tree.leaves(grads))


def test_loss_and_gradients_do_not_depend_on_packing(gradients_of):
  one, many = padded(), packed()
  assert many['encoder_image_starts'].tolist() == [0, 2, 0, 0]
  assert many['encoder_segment_ids'].max(axis=1).tolist() == [2, 1, 1, 2]
  positions = many['encoder_positions'][0]
  lengths = [len(p.inputs) for p in examples()[:2]]
  used = [*range(lengths[0]), *range(lengths[1])]
  assert positions.tolist() == used + [0] * (18 - len(used))
  same(gradients_of(many), gradients_of(one))


@pytest.mark.slow
def test_a_neighbour_in_the_row_changes_nothing(params):
  """Other words and pixels beside an example leave its logits alone."""
  apply = step.apply_fn(CONFIG, partitioning.make_mesh())
  run = jax.jit(lambda batch: apply(params, batch, None))
  batch = packed()
  other = {name: x.copy() for name, x in batch.items()}
  second = batch['encoder_segment_ids'] == 2
  words = second & (batch['encoder_input_tokens'] < 20)
  other['encoder_input_tokens'][words] = 5
  other['encoder_images'][1, 1] = 255 - other['encoder_images'][1, 1]
  other['decoder_input_tokens'][batch['decoder_segment_ids'] == 2] = 7
  changed = np.abs(run(other) - run(batch)).max(axis=-1)
  assert changed[batch['decoder_segment_ids'] == 1].max() == 0
  assert changed[batch['decoder_segment_ids'] == 2].min() > 0


@pytest.mark.slow
@pytest.mark.devices(2)
def test_images_stay_with_the_rows_of_their_device(params):
  """Two devices, and two parts on one, give the same; no image is sent."""
  trainable, frozen = stages.split_params(params, ('t5', 'projector'))
  rows = rows_of([0, 1], [2], [4], [3, 5], [5, 1], [0], [2, 3], [4])
  batch = pack_rows(
    rows, LengthBucket(18, 9, 3), 2, PIXELS, segments=True, qformer_length=4
  )
  texts, found = [], []
  for count in (1, 2):
    mesh = partitioning.make_mesh(count, devices=jax.devices()[:count])
    place = partitioning.batch_sharding(mesh)

    def run(batch, mesh=mesh, place=place, parts=3 - count):
      return step.gradients(
        step.apply_fn(CONFIG, mesh),
        trainable,
        frozen,
        batch,
        None,
        num_microbatches=parts,
        batch_sharding=place,
      )

    compiled = (
      jax.jit(run, in_shardings=place)
      .lower(step.to_device(batch, mesh))
      .compile()
    )
    texts.append(compiled.as_text())
    found.append(jax.device_get(compiled(step.to_device(batch, mesh))))
  same(*found)
  assert 'all-reduce' in texts[1]
  assert not re.search('all-gather|all-to-all|collective-permute', texts[1])

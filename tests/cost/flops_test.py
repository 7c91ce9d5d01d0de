"""Against figures worked out by hand, in units of 10**9 or 10**12."""

import pytest

from mmicl_jax.cost import flops
from mmicl_jax.cost.flops import Lengths
from mmicl_jax.models import configs, trees
from mmicl_jax.models.mmicl import abstract_params
from mmicl_jax.training import stages

SHORT = Lengths(160, 32, 1)
LONG = Lengths(512, 128, 4)


def step(config, profile, lengths):
  """FLOPs of a step that trains a profile's parameters."""
  trainable, _ = stages.split_params(abstract_params(config), profile)
  return flops.train_step_flops(config, trees.flatten(trainable), lengths)


def test_a_step_of_a_model_that_fits_on_a_page():
  """Each product of a small model, one by one."""
  vit = configs.ViTConfig(4, 1, 1, mlp_dim=6, image_size=28, patch_size=14)
  qformer = configs.QFormerConfig(
    6, 2, 1, mlp_dim=10, num_queries=2, instruction=False
  )
  t5 = configs.T5Config(
    8, 1, 1, num_heads=2, head_dim=3, mlp_dim=5, vocab_size=40
  )
  config = configs.MMICLConfig(vit, qformer, t5, 39)
  one = flops.forward(config, Lengths(inputs=7, targets=3, images=2))
  patches = 2 * 4 * (14 * 14 * 3) * 4
  vit_layer = 2 * 5 * (4 * 4 * 4 + 2 * 4 * 6) + 4 * 5 * 5 * 4
  assert one['vit'] == 2 * (patches + vit_layer)
  layer = 2 * 2 * (4 * 6 * 6 + 2 * 6 * 10) + 4 * 2 * 2 * 6
  cross = 2 * 2 * 2 * 6 * 6 + 2 * 5 * 2 * 4 * 6 + 4 * 2 * 5 * 6
  assert one['qformer'] == 2 * (2 * layer + cross)
  assert one['projector'] == 2 * 2 * 2 * 6 * 8
  encoder = 2 * 7 * (4 * 8 * 6 + 3 * 8 * 5) + 4 * 7 * 7 * 6
  decoder = 2 * 3 * (6 * 8 * 6 + 3 * 8 * 5) + 4 * 3 * 3 * 6
  decoder += 2 * 7 * 2 * 8 * 6 + 4 * 3 * 7 * 6
  assert one['t5'] == encoder + decoder + 2 * 3 * 8 * 40


def test_towers():
  config = configs.XL
  for words, expected in ((0, 12.75), (32, 18.3)):
    one = flops.forward(config, Lengths(512, 128, 1, words))
    assert one['vit'] / 1e9 == pytest.approx(520.7, rel=1e-3)
    assert one['qformer'] / 1e9 == pytest.approx(expected, rel=3e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
  'config, lengths, t5, tune, pretrain',
  [
    (configs.XL, SHORT, 0.53, 1.72, 1.64),
    (configs.XL, Lengths(256, 32, 4), 0.80, 3.93, 3.91),
    (configs.XL, LONG, 1.82, 6.19, 5.95),
    (configs.XXL, SHORT, 2.11, 5.22, 4.79),
    (configs.XXL, LONG, 7.13, 17.96, 16.56),
    (configs.XXL, Lengths(512, 128, 8), 7.13, 20.11, 18.86),
  ],
)
def test_steps(config, lengths, t5, tune, pretrain):
  tera = 1e12
  parts = flops.forward(config, lengths)
  assert parts['t5'] / tera == pytest.approx(t5, rel=6e-3)
  assert step(config, 'tune', lengths) / tera == pytest.approx(tune, rel=6e-3)
  words = Lengths(lengths.inputs, lengths.targets, lengths.images, 32)
  assert step(config, 'pretrain', words) / tera == pytest.approx(
    pretrain, rel=6e-3
  )


def test_adapters_count():
  """Both factors: forward, the activations' gradient, and their own."""
  adapted = configs.with_execution(configs.XL, lora=configs.LoRA(rank=16))
  plain, more = (step(c, ['^projector/'], LONG) for c in (configs.XL, adapted))
  factors = 2 * 16 * (2048 + 32 * 64)
  # Query and value: of both stacks, and where the decoder reads the prompt.
  rows = 24 * (2 * 512 + 2 * 128 + 128 + 512)
  assert more - plain == 2 * factors * rows
  trained = step(adapted, 'lora', LONG)
  assert trained - more == factors * rows

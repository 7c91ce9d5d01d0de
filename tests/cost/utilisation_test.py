"""MFU against the formula, and the peaks by the names that JAX gives."""

import numpy as np
import pytest

from mmicl_jax.cost import chips, flops, utilisation
from mmicl_jax.models import configs, trees
from mmicl_jax.models.mmicl import abstract_params
from mmicl_jax.training import stages

TRAINABLE = tuple(
  trees.flatten(stages.split_params(abstract_params(configs.TINY), 'tune')[0])
)
BATCH = {
  'encoder_input_tokens': np.zeros((8, 48)),
  'decoder_target_tokens': np.zeros((8, 8)),
  'encoder_images': np.zeros((8, 3, 28, 28, 3)),
}


@pytest.mark.parametrize(
  'kind, tflops',
  [
    ('TPU v4', 275),
    ('TPU v5 lite', 197),
    ('TPU v5e', 197),
    ('TPU v5p', 459),
    ('TPU v5', 459),
    ('TPU v6 lite', 918),
    ('NVIDIA A40', 149.7),
    ('NVIDIA A100-SXM4-80GB', 312),
    ('NVIDIA H100 80GB HBM3', 989),
    ('NVIDIA H100 PCIe', 756),
    ('NVIDIA H200', 989),
  ],
)
def test_peaks(kind, tflops):
  assert chips.peak(kind) == pytest.approx(tflops * 1e12)


def test_mfu_is_model_flops_over_what_the_devices_could():
  meter = utilisation.Meter(configs.TINY, TRAINABLE, BATCH, 'TPU v4', 2)
  each = flops.train_step_flops(
    configs.TINY, TRAINABLE, flops.Lengths(48, 8, 3)
  )
  found = meter(10.0)
  assert found['mfu'] == pytest.approx(10 * each / (2 * 275e12))
  assert found['model_tflops_per_second'] == pytest.approx(10 * each / 2e12)


def test_no_mfu_where_no_peak_is_known():
  meter = utilisation.Meter(configs.TINY, TRAINABLE, BATCH, 'cpu', 1)
  assert meter(1.0).keys() == {'model_tflops_per_second'}


def test_steps_of_several_shapes_count_by_their_mean():
  meter = utilisation.Meter(configs.TINY, TRAINABLE, BATCH, 'cpu', 1)
  packed = {
    'encoder_input_tokens': np.zeros((8, 24)),
    'decoder_target_tokens': np.zeros((8, 8)),
    'encoder_images': np.zeros((2, 6, 28, 28, 3)),  # 1.5 images a row
  }
  meter.count(BATCH)
  meter.count(packed)
  whole, one, two = (
    flops.train_step_flops(configs.TINY, TRAINABLE, flops.Lengths(*lengths))
    for lengths in ((48, 8, 3), (24, 8, 1), (24, 8, 2))
  )
  mean = (whole + (one + two) / 2) / 2
  rate = meter(10.0)['model_tflops_per_second']
  assert rate == pytest.approx(10 * mean / 1e12)
  meter.count(packed)  # only what came since
  rate = meter(1.0)['model_tflops_per_second']
  assert rate == pytest.approx((one + two) / 2 / 1e12)

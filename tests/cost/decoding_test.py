"""What a decoding step must read, against sizes counted by hand."""

from mmicl_jax.cost import chips
from mmicl_jax.cost.decoding import step_bytes
from mmicl_jax.cost.flops import Lengths
from mmicl_jax.presets import PRESETS


def test_weights_keys_and_values_of_xl():
  t5 = PRESETS['xl'].t5
  width, inner, mlp = t5.hidden_size, t5.num_heads * t5.head_dim, t5.mlp_dim
  # Self-attention has four kernels; of cross-attention's, key and value are
  # read once a prompt. The gated feed-forward layer has three, and a layer has
  # three norms.
  layer = (4 + 2) * width * inner + 3 * width * mlp + 3 * width
  # The decoder's end norm and one table of relative positions stand alone.
  rest = width + t5.num_heads * 32 + width * t5.vocab_size
  weights = t5.num_decoder_layers * layer + rest
  keys = 2 * inner * t5.num_decoder_layers
  found = step_bytes(
    PRESETS['xl'], Lengths(160, 64), prompts=8, beams=5, itemsize=2
  )
  assert found == 2 * (weights + keys * (8 * 160 + 8 * 5 * 32))


def test_bandwidths_are_of_the_device_that_is_named():
  assert chips.bandwidth('NVIDIA H200') == 4.8e12
  assert chips.bandwidth('NVIDIA H100 80GB HBM3') == 3.35e12
  assert chips.bandwidth('NVIDIA A100-SXM4-80GB') == 2.039e12
  assert chips.bandwidth('TPU v5 lite') == 819e9
  assert chips.bandwidth('cpu') is None

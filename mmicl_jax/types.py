"""The dimension alphabet of the project, and the batch that a model reads.

B batch   R rows (batch x beams)   N images a row   T/U encoder/decoder length
S length attended to   H heads   K width of a head   D T5 width   E tower width
P patches and the class token   Q queries an image   V vocabulary   L layers
"""

from typing import NotRequired, TypedDict

import jax
from jaxtyping import Float, Int, UInt8

PAD, EOS, START = 0, 1, 0  # T5's: the decoder starts with the pad token

Images = UInt8[jax.Array, 'B N H W 3'] | Float[jax.Array, 'B N H W 3']


class Batch(TypedDict):
  """Arrays of one step; floating images count as normalised already."""

  encoder_input_tokens: Int[jax.Array, 'B T']
  encoder_images: NotRequired[Images]  # absent: text only
  # What the Q-Former gives for them, in their place (see feature_cache.py).
  encoder_features: NotRequired[Float[jax.Array, 'B N Q E']]
  decoder_input_tokens: Int[jax.Array, 'B U']
  decoder_target_tokens: Int[jax.Array, 'B U']
  decoder_loss_weights: Int[jax.Array, 'B U']
  qformer_input_tokens: NotRequired[Int[jax.Array, 'B S']]

"""MMICL: images become visual tokens in a prompt that T5 reads."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mmicl_jax.models.configs import MMICLConfig
from mmicl_jax.models.layers import Dense, param
from mmicl_jax.models.qformer import QFormer
from mmicl_jax.models.t5 import T5, LayerCache, Segments
from mmicl_jax.models.vit import ViT
from mmicl_jax.types import PAD, Batch, Images

# CLIP's mean and deviation of pixels, from transformers' BlipImageProcessor.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def normalise(images: Images) -> Float[Array, 'B N H W 3']:
  """Normalises u8 images by CLIP's statistics; floats pass unchanged."""
  if jnp.issubdtype(images.dtype, jnp.floating):
    return images
  x = images.astype(jnp.float32) / 255
  return (x - jnp.array(MEAN)) / jnp.array(STD)


def splice(
  text: Float[Array, 'B T D'],
  visual: Float[Array, 'G *NQ D'],
  is_image: Bool[Array, 'B T'],
  first: Int[Array, 'B'] | None = None,
) -> Float[Array, 'B T D']:
  """Puts each row's k-th visual token at its k-th image placeholder.

  first: if rows share the tokens of their group, which is each row's first.
  """
  groups, width = visual.shape[0], visual.shape[-1]
  if first is None and groups != len(text):
    raise ValueError(
      f'{groups} rows of images for {len(text)} of text: packed images need '
      'encoder_image_starts'
    )
  visual = visual.reshape(groups, -1, width)
  k = jnp.maximum(jnp.cumsum(is_image, axis=1) - 1, 0)
  if first is not None:
    # A row without images may begin behind the last one.
    k = jnp.minimum(k + first[:, None], visual.shape[1] - 1)
  # A gather in each group, so that no device needs another's tokens.
  placed = jnp.take_along_axis(visual, k.reshape(groups, -1, 1), axis=1)
  return jnp.where(is_image[..., None], placed.reshape(text.shape), text)


class MMICL(nn.Module):
  """The whole model; `apply(variables, batch)` gives float32 logits."""

  config: MMICLConfig

  def setup(self):
    c, run = self.config, self.config.execution
    self.vit = ViT(c.vit, run)
    self.qformer = QFormer(c.qformer, run)
    self.query_tokens = param(
      self,
      'query_tokens',
      nn.initializers.normal(0.02),
      (c.qformer.num_queries, c.qformer.hidden_size),
      (None, 'embed'),
      run,
    )
    self.projector = Dense((c.t5.hidden_size,), ('embed', 'joined_kv'), run)
    self.t5 = T5(c.t5, run)

  def __call__(self, batch: Batch) -> Float[Array, 'B U V']:
    return self._logits(batch, self.encode(batch))

  def encode(self, batch: Any) -> Float[Array, 'B T D']:
    """Encodes prompts with their images, as in the paper's figure.

    batch: a Batch whose targets may be missing. Raises ValueError if it has
    stored features, which would be ignored.
    """
    if 'encoder_features' in batch:
      raise ValueError('features stand in for images: use encode_features')
    images = batch.get('encoder_images')
    if images is None or not images.shape[1]:
      return self._read(batch)
    patches = self.vit(normalise(images))  # B N P E
    words = batch.get('qformer_input_tokens')
    queries = self.qformer(self.query_tokens, patches, words)  # B N Q E
    return self._read(batch, self.projector(queries))  # B N Q D

  def _read(
    self, batch: Any, visual: Float[Array, 'G *NQ D'] | None = None
  ) -> Float[Array, 'B T D']:
    """Encodes prompts by T5, with their visual tokens if there are any."""
    tokens = batch['encoder_input_tokens']
    text = self.t5.embed(tokens)
    if visual is not None:
      is_image = tokens == self.config.image_token
      first = batch.get('encoder_image_starts')
      if first is not None:
        first *= self.config.qformer.num_queries
      text = splice(text, visual.astype(text.dtype), is_image, first)
    segments = batch.get('encoder_segment_ids')
    return self.t5.encode(text, tokens != PAD, segments)

  def from_features(self, batch: Any) -> Float[Array, 'B U V']:
    """Logits from a Batch that holds stored results of `read_images`."""
    visual = self.projector(batch['encoder_features'])
    return self._logits(batch, self._read(batch, visual))

  def encode_features(
    self,
    tokens: Int[Array, 'B T'],
    features: Float[Array, 'B N Q E'] | None,
  ) -> Float[Array, 'B T D']:
    """Encodes prompts with stored results of `read_images`, or without any."""
    visual = None if features is None else self.projector(features)
    return self._read({'encoder_input_tokens': tokens}, visual)

  def read_images(
    self,
    images: Images,
    words: Int[Array, 'B S'] | None = None,
  ) -> Float[Array, 'B N Q E']:
    """What the Q-Former reads in images: the input of the projector.

    words: the instruction that an InstructBLIP Q-Former reads beside each image
    of the row.
    """
    return self.qformer(self.query_tokens, self.vit(normalise(images)), words)

  def _logits(
    self, batch: Any, encoded: Float[Array, 'B T D']
  ) -> Float[Array, 'B U V']:
    is_token = batch['encoder_input_tokens'] != PAD
    tokens = batch['decoder_input_tokens']
    numbers = [batch.get(f'{x}_segment_ids') for x in ('encoder', 'decoder')]
    segments = None if numbers[0] is None else Segments(*numbers)
    return self.t5.decode(tokens, encoded, is_token, segments=segments)[0]

  def decode(
    self,
    tokens: Int[Array, 'R U'],
    encoded: Float[Array, 'B T D'] | None,
    is_token: Bool[Array, 'B T'],
    cache: LayerCache | tuple[LayerCache, ...] | None = None,
    index: Int[Array, '*#R'] | int = 0,
  ) -> tuple[Float[Array, 'R U V'], LayerCache | tuple[LayerCache, ...] | None]:
    """Logits of the next tokens, and the cache: see T5.decode."""
    return self.t5.decode(tokens, encoded, is_token, cache, index)

  def empty_cache(
    self, rows: int, length: int
  ) -> LayerCache | tuple[LayerCache, ...]:
    """Room for `length` tokens in each row: see T5.empty_cache."""
    return self.t5.empty_cache(rows, length)


def logits(
  model: MMICL, params: Any, batch: Batch, rngs: dict[str, jax.Array]
) -> Float[Array, 'B U V']:
  """The float32 logits of a batch with images or with stored features.

  rngs: {'dropout': key} in training, otherwise empty.
  """
  method = 'from_features' if 'encoder_features' in batch else None
  found: Any = model.apply({'params': params}, batch, rngs=rngs, method=method)
  return found


def example_batch(config: MMICLConfig) -> dict[str, jax.Array]:
  """The smallest batch that reaches every parameter, for initialisation."""
  size, queries = config.vit.image_size, config.qformer.num_queries
  one = jnp.ones((1, 1), jnp.int32)
  batch = {
    'encoder_input_tokens': jnp.full((1, queries), config.image_token),
    'encoder_images': jnp.zeros((1, 1, size, size, 3), jnp.uint8),
    'decoder_input_tokens': one,
    'decoder_target_tokens': one,
    'decoder_loss_weights': one,
  }
  if config.qformer.instruction:
    batch['qformer_input_tokens'] = one
  return batch


def abstract_params(config: MMICLConfig) -> dict[str, Any]:
  """Shapes, dtypes and logical axes of all parameters, computing nothing."""
  # A tree of the caller's own, whose branches it may change.
  return jax.tree.map(lambda x: x, _abstract_params(config))


@functools.lru_cache(maxsize=16)
def _abstract_params(config: MMICLConfig) -> dict[str, Any]:
  """The tree for each of the last few models: a second or two to trace."""
  key = jax.random.key(0)
  batch = example_batch(config)
  return jax.eval_shape(MMICL(config).init, key, batch)['params']


def init_params(config: MMICLConfig, key: jax.Array) -> dict[str, Any]:
  """Random parameters as plain arrays; call under jit for large models."""
  return nn.unbox(MMICL(config).init(key, example_batch(config))['params'])

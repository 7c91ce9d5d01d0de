"""T5 1.1: encoder, decoder, and the decoder's cache for generation.

A decoder layer runs in three ways. Training gives `encoded` and no cache. The
first step of generation gives both, and the layer stores the prompt's keys and
values in the cache. Later steps give the cache alone. The prompt's keys and
values have one row for each example, however many beams or candidates share it.
"""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mmicl_jax.models.configs import Execution, T5Config
from mmicl_jax.models.dropout import dropout, dropout_key, dropped
from mmicl_jax.models.gelu import gelu
from mmicl_jax.models.layers import (
  Attention,
  Dense,
  Embed,
  KeyValues,
  RMSNorm,
  constrain,
  param,
  stack,
)
from mmicl_jax.models.recompute import recomputed

ACTIVATIONS = {
  'gelu': gelu,
  'gelu_new': lambda x: jax.nn.gelu(x, approximate=True),
  'relu': jax.nn.relu,
  'silu': jax.nn.silu,
}


class LayerCache(NamedTuple):
  """What one decoder layer remembers; scanned layers have an axis in front.

  own: keys and values of the tokens so far, [R, H, U, K], filled up to `index`.
  prompt: keys and values of the encoder's output, [B, H, S, K].
  """

  own: KeyValues
  prompt: KeyValues | None


class Segments(NamedTuple):
  """The number of each token's example in its row, from 1 on; 0 is padding."""

  prompt: Int[Array, 'B T']
  answer: Int[Array, 'B U']


def relative_buckets(
  relative: Int[Array, '*R T S'],
  *,
  bidirectional: bool,
  num_buckets: int,
  max_distance: int,
) -> Int[Array, '*R T S']:
  """T5's buckets of relative positions: the key's minus the query's.

  Each near distance has its own bucket; far ones share buckets that grow wider
  with distance. Source: T5Attention._relative_position_bucket of transformers.
  """
  if bidirectional:
    num_buckets //= 2
    offset = jnp.where(relative > 0, num_buckets, 0)
    distance = jnp.abs(relative)
  else:
    offset = jnp.zeros_like(relative)
    distance = jnp.maximum(-relative, 0)
  exact = num_buckets // 2
  far = jnp.log(jnp.maximum(distance, 1).astype(jnp.float32) / exact)
  far = far / jnp.log(max_distance / exact) * (num_buckets - exact)
  far = jnp.minimum(exact + far.astype(jnp.int32), num_buckets - 1)
  return offset + jnp.where(distance < exact, distance, far)


def same_segment(
  query: Int[Array, 'B T'], key: Int[Array, 'B S']
) -> Bool[Array, 'B 1 T S']:
  """Which keys belong to the same example as each query."""
  return (query[:, :, None] == key[:, None])[:, None]


class RelativeBias(nn.Module):
  """The bias that attention adds by distance, the same for a stack's layers."""

  config: T5Config
  execution: Execution
  bidirectional: bool

  @nn.compact
  def __call__(
    self, query: Int[Array, '#R T'], key: Int[Array, 'S']
  ) -> Float[Array, '#R H T S']:
    """query, key: their positions; those of queries may differ by row."""
    c = self.config
    # A large deviation, so that a new model's heads look at different
    # distances: Adam's steps are small beside the biases of sharp attention.
    table = param(
      self,
      'embedding',
      nn.initializers.normal(3.0),
      (c.relative_buckets, c.num_heads),
      ('relpos_buckets', 'heads'),
      self.execution,
    )
    buckets = relative_buckets(
      key - query[..., None],
      bidirectional=self.bidirectional,
      num_buckets=c.relative_buckets,
      max_distance=c.relative_max_distance,
    )
    return jnp.moveaxis(table[buckets], -1, 1).astype(jnp.float32)


class MLP(nn.Module):
  """Gated feed-forward: wo(activation(wi_0 x) * wi_1 x)."""

  config: T5Config
  execution: Execution

  @nn.compact
  def __call__(self, x: Float[Array, 'B T D']) -> Float[Array, 'B T D']:
    c = self.config

    def dense(features: int, axes: tuple[str, str], name: str) -> Dense:
      return Dense((features,), axes, self.execution, False, name=name)

    gate = dense(c.mlp_dim, ('embed', 'mlp'), 'wi_0')(x)
    y = dense(c.mlp_dim, ('embed', 'mlp'), 'wi_1')(x)

    def gated(gate, y, key):
      y = ACTIVATIONS[c.activation](gate) * y
      return dropped(self.execution, y, key, c.dropout_rate)

    key = dropout_key(self, c.dropout_rate)
    y = recomputed(self.execution, gated)(gate, y, key)
    return dense(c.hidden_size, ('mlp', 'embed'), 'wo')(y)


def t5_attention(
  config: T5Config, execution: Execution, name: str
) -> Attention:
  """The attention of T5's layers: no bias, unscaled scores."""
  return Attention(
    config.num_heads,
    config.head_dim,
    execution,
    dropout_rate=config.dropout_rate,
    name=name,
  )


class EncoderLayer(nn.Module):
  """Pre-norm self-attention over the whole prompt, then the MLP."""

  config: T5Config
  execution: Execution

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'B T D'],
    mask: Bool[Array, 'B 1 #T T'],
    bias: Float[Array, '1 H T T'],
  ) -> tuple[Float[Array, 'B T D'], None]:
    c, run = self.config, self.execution
    own = t5_attention(c, run, 'self_attention')
    y = RMSNorm(c.layer_norm_eps, run, name='pre_attention_norm')(x)
    x += dropout(self, own(y, own.project(y), mask, bias), c.dropout_rate)
    y = RMSNorm(c.layer_norm_eps, run, name='pre_mlp_norm')(x)
    x += dropout(self, MLP(c, run, name='mlp')(y), c.dropout_rate)
    return constrain(x), None


class DecoderLayer(nn.Module):
  """Causal self-attention, then attention to the prompt, then the MLP."""

  config: T5Config
  execution: Execution

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'R U D'],
    cache: LayerCache | None,
    encoded: Float[Array, 'B T D'] | None,
    encoder_mask: Bool[Array, 'B 1 #U T'],
    mask: Bool[Array, '#R 1 U S'],
    bias: Float[Array, '#R H U S'],
    index: Int[Array, '*#R'],
  ) -> tuple[Float[Array, 'R U D'], LayerCache | None]:
    c, run = self.config, self.execution
    own_attention = t5_attention(c, run, 'self_attention')
    cross_attention = t5_attention(c, run, 'cross_attention')

    y = RMSNorm(c.layer_norm_eps, run, name='pre_attention_norm')(x)
    own = own_attention.project(y)
    if cache is not None:
      own = KeyValues(
        *(
          _write(old, new, index)
          for old, new in zip(cache.own, own, strict=True)
        )
      )
    x += dropout(self, own_attention(y, own, mask, bias), c.dropout_rate)

    y = RMSNorm(c.layer_norm_eps, run, name='pre_cross_attention_norm')(x)
    if encoded is not None:
      prompt = cross_attention.project(encoded)
    else:
      assert cache and cache.prompt, 'a prompt, or its keys and values'
      prompt = cache.prompt
    x += dropout(self, cross_attention(y, prompt, encoder_mask), c.dropout_rate)

    y = RMSNorm(c.layer_norm_eps, run, name='pre_mlp_norm')(x)
    x += dropout(self, MLP(c, run, name='mlp')(y), c.dropout_rate)
    return constrain(x), None if cache is None else LayerCache(own, prompt)


def _write(
  old: Float[Array, 'R H S K'],
  new: Float[Array, 'R H U K'],
  index: Int[Array, '*#R'],
) -> Float[Array, 'R H S K']:
  """Puts new keys or values at position `index`, or each row's at its own."""
  if not index.ndim:
    return jax.lax.dynamic_update_slice_in_dim(old, new, index, axis=2)
  put = functools.partial(jax.lax.dynamic_update_slice_in_dim, axis=1)
  return jax.vmap(put)(old, new, index)


class Encoder(nn.Module):
  """Turns the embeddings of a prompt into its encoding."""

  config: T5Config
  execution: Execution

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'B T D'],
    is_token: Bool[Array, 'B T'],
    segments: Int[Array, 'B T'] | None = None,
  ) -> Float[Array, 'B T D']:
    """is_token, segments: see T5.encode."""
    c, run = self.config, self.execution
    mask = is_token[:, None, None]
    if segments is not None:
      mask &= same_segment(segments, segments)
    positions = jnp.arange(x.shape[1])
    bias = RelativeBias(c, run, True, name='relative_bias')
    layers = stack(
      EncoderLayer,
      {'config': c, 'execution': run},
      c.num_encoder_layers,
      (nn.broadcast, nn.broadcast),
    )
    x = constrain(dropout(self, x, c.dropout_rate))
    x, _ = layers(x, mask, bias(positions[None], positions))
    x = RMSNorm(c.layer_norm_eps, run, name='final_norm')(x)
    return dropout(self, x, c.dropout_rate)


class Decoder(nn.Module):
  """Turns the embeddings of tokens into features that predict the next one."""

  config: T5Config
  execution: Execution

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'R U D'],
    encoded: Float[Array, 'B T D'] | None,
    is_token: Bool[Array, 'B T'],
    cache: LayerCache | tuple[LayerCache, ...] | None = None,
    index: Int[Array, '*#R'] | int = 0,
    segments: Segments | None = None,
  ) -> tuple[Float[Array, 'R U D'], LayerCache | tuple[LayerCache, ...] | None]:
    """Runs U tokens that start at position `index` (0 without a cache).

    index: one position for all rows, or one for each.
    """
    c, run = self.config, self.execution
    index = jnp.asarray(index, jnp.int32)
    query = index.reshape(-1, 1) + jnp.arange(x.shape[1])
    length = x.shape[1]
    if cache is not None:
      length = jax.tree.leaves(cache)[0].shape[-2]
    key = jnp.arange(length)
    bias = RelativeBias(c, run, False, name='relative_bias')(query, key)
    mask = (key <= query[..., None])[:, None]
    encoder_mask = is_token[:, None, None]
    if segments is not None:
      mask &= same_segment(segments.answer, segments.answer)
      encoder_mask &= same_segment(segments.answer, segments.prompt)
    layers = stack(
      DecoderLayer,
      {'config': c, 'execution': run},
      c.num_decoder_layers,
      (0, *[nn.broadcast] * 5),
    )
    x, cache = layers(
      dropout(self, x, c.dropout_rate),
      cache,
      encoded,
      encoder_mask,
      mask,
      bias,
      index,
    )
    x = RMSNorm(c.layer_norm_eps, run, name='final_norm')(x)
    return dropout(self, x, c.dropout_rate), cache


class T5(nn.Module):
  """The language model, in three steps: `embed`, `encode`, `decode`."""

  config: T5Config
  execution: Execution

  def setup(self):
    c, run = self.config, self.execution
    self.token_embedder = Embed(
      c.vocab_size, c.hidden_size, ('vocab', 'embed'), run, init_std=1.0
    )
    self.encoder = Encoder(c, run)
    self.decoder = Decoder(c, run)
    self.lm_head = Dense((c.vocab_size,), ('embed', 'vocab'), run, False)

  def embed(self, tokens: Int[Array, 'B T']) -> Float[Array, 'B T D']:
    """The vectors of tokens."""
    # Without the constraint the partitioner of jaxlib 0.10 splits these vectors
    # by width and, on a (2, 2, 2) mesh, then computes wrong logits (see
    # tests/models/execution_test.py).
    return constrain(self.token_embedder(tokens))

  def encode(
    self,
    x: Float[Array, 'B T D'],
    is_token: Bool[Array, 'B T'],
    segments: Int[Array, 'B T'] | None = None,
  ) -> Float[Array, 'B T D']:
    """The encoding of embeddings.

    is_token: which are not padding. segments: the number of each token's
    example, if rows hold several; they do not attend to each other.
    """
    return self.encoder(x, is_token, segments)

  def decode(
    self,
    tokens: Int[Array, 'R U'],
    encoded: Float[Array, 'B T D'] | None,
    is_token: Bool[Array, 'B T'],
    cache: LayerCache | tuple[LayerCache, ...] | None = None,
    index: Int[Array, '*#R'] | int = 0,
    segments: Segments | None = None,
  ) -> tuple[Float[Array, 'R U V'], LayerCache | tuple[LayerCache, ...] | None]:
    """Float32 logits of each next token, and the new cache if one is given.

    index: the position of the first of `tokens` in all rows, or in each row.
    segments: only without a cache, if rows hold several examples.
    """
    x = self.embed(tokens)
    x, cache = self.decoder(x, encoded, is_token, cache, index, segments)
    return self.lm_head(x).astype(jnp.float32), cache

  def empty_cache(
    self, rows: int, length: int
  ) -> LayerCache | tuple[LayerCache, ...]:
    """Room for `length` tokens in each row; `decode` adds the prompt's part."""
    c, run = self.config, self.execution
    shape = (rows, c.num_heads, length, c.head_dim)

    def zeros(leading: tuple[int, ...]) -> LayerCache:
      own = (jnp.zeros((*leading, *shape), run.dtype) for _ in range(2))
      return LayerCache(KeyValues(*own), None)

    if run.scan_layers:
      return zeros((c.num_decoder_layers,))
    return tuple(zeros(()) for _ in range(c.num_decoder_layers))

"""The Q-Former: a fixed number of queries read an image, by BERT's layers.

BLIP-2's variant has queries only. InstructBLIP's appends the instruction's
words to the queries: they share self-attention, only queries attend to the
image, and queries and words each have a feed-forward. Norms follow each
sublayer, as in BERT.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mmicl_jax.models.configs import Execution, QFormerConfig
from mmicl_jax.models.dropout import dropout
from mmicl_jax.models.gelu import gelu
from mmicl_jax.models.layers import (
  Attention,
  Dense,
  Embed,
  LayerNorm,
  constrain,
  stack,
)

Tokens = Float[Array, 'B QT D']  # the queries, then the words
Patches = Float[Array, 'B P E']
Mask = Bool[Array, 'B 1 1 QT'] | None


class QFormerLayer(nn.Module):
  """Self-attention, feed-forward and, in some layers, a look at the image."""

  config: QFormerConfig
  execution: Execution
  has_cross_attention: bool

  @nn.compact
  def __call__(self, x: Tokens, image: Patches, mask: Mask) -> Tokens:
    c = self.config

    def attention(name: str) -> Attention:
      return Attention(
        c.num_heads,
        c.hidden_size // c.num_heads,
        self.execution,
        use_bias=True,
        scaled=True,
        dropout_rate=c.dropout_rate,
        name=name,
      )

    own = attention('self_attention')
    x = self.add(x, own(x, own.project(x), mask), 'self_attention_norm')
    queries, words = jnp.split(x, [c.num_queries], axis=1)
    if self.has_cross_attention:
      cross = attention('cross_attention')
      y = cross(queries, cross.project(image))
      queries = self.add(queries, y, 'cross_attention_norm')
    queries = self.feed_forward(queries, 'query_mlp')
    if c.instruction:
      # Many prompts have no words, but the parameters must always exist.
      words = self.feed_forward(words, 'text_mlp')
    return jnp.concatenate([queries, words], axis=1)

  def add(self, x, y, norm: str):
    """Adds a sublayer's output to its input, then normalises."""
    y = dropout(self, y, self.config.dropout_rate)
    norm_layer = LayerNorm(
      self.config.layer_norm_eps, self.execution, name=norm
    )
    return norm_layer(x + y)

  def feed_forward(self, x, name: str):
    """The sublayer of two linear maps with an erf-GELU between them."""
    c, run = self.config, self.execution
    y = Dense((c.mlp_dim,), ('embed', 'mlp'), run, name=f'{name}_wi')(x)
    y = gelu(y)
    y = Dense((c.hidden_size,), ('mlp', 'embed'), run, name=f'{name}_wo')(y)
    return self.add(x, y, f'{name}_norm')


class QFormerGroup(nn.Module):
  """The layers from one cross-attention to the next; groups are scanned."""

  config: QFormerConfig
  execution: Execution
  num_layers: int

  @nn.compact
  def __call__(
    self, x: Tokens, image: Patches, mask: Mask
  ) -> tuple[Tokens, None]:
    for i in range(self.num_layers):
      layer = QFormerLayer(
        self.config, self.execution, i == 0, name=f'layer_{i}'
      )
      x = layer(x, image, mask)
    return constrain(x), None


class QFormer(nn.Module):
  """Reads images' features; gives one vector for each query and image."""

  config: QFormerConfig
  execution: Execution

  @nn.compact
  def __call__(
    self,
    queries: Float[Array, 'Q D'],
    images: Float[Array, 'B N P E'],
    words: Int[Array, 'B S'] | Int[Array, 'B N S'] | None = None,
  ) -> Float[Array, 'B N Q D']:
    """queries: the learned ones. words: of a row's images, or of each image."""
    c, run = self.config, self.execution
    rows, count = images.shape[:2]
    image = images.reshape(rows * count, *images.shape[2:])
    x = jnp.broadcast_to(
      queries.astype(image.dtype), (rows * count, *queries.shape)
    )
    mask = None
    if c.instruction:
      word_table = Embed(
        c.vocab_size, c.hidden_size, ('vocab', 'embed'), run, name='words'
      )
      position_table = Embed(
        c.max_positions, c.hidden_size, (None, 'embed'), run, name='positions'
      )
      if words is None:
        words = jnp.zeros((rows, 0), jnp.int32)
      if words.ndim == 3:
        tokens = words.reshape(rows * count, -1)
      else:
        tokens = jnp.repeat(words, count, axis=0)
      text = word_table(tokens) + position_table(jnp.arange(tokens.shape[1]))
      x = jnp.concatenate([x, constrain(text)], axis=1)  # as in T5.embed
      is_query = jnp.ones((rows * count, c.num_queries), bool)
      mask = jnp.concatenate([is_query, tokens != 0], axis=1)[:, None, None]
    x = LayerNorm(c.layer_norm_eps, run, name='embedding_norm')(x)
    x = dropout(self, x, c.dropout_rate)

    def group(layers: int) -> dict:
      return {'config': c, 'execution': run, 'num_layers': layers}

    repeats, rest = divmod(c.num_layers, c.cross_attention_frequency)
    if repeats:
      groups = stack(
        QFormerGroup,
        group(c.cross_attention_frequency),
        repeats,
        (nn.broadcast, nn.broadcast),
        name='groups',
      )
      x, _ = groups(x, image, mask)
    if rest:
      x, _ = QFormerGroup(**group(rest), name='last_group')(x, image, mask)
    return x[:, : c.num_queries].reshape(rows, count, *queries.shape)

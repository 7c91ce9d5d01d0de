"""The vision tower: EVA-CLIP's ViT as BLIP-2 and InstructBLIP use it."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmicl_jax.models.configs import Execution, ViTConfig
from mmicl_jax.models.gelu import gelu
from mmicl_jax.models.layers import Dense, LayerNorm, constrain, param, stack
from mmicl_jax.models.products import for_cpu, product
from mmicl_jax.models.recompute import recomputed


class ViTLayer(nn.Module):
  """Pre-norm attention with one fused kernel, then an erf-GELU MLP."""

  config: ViTConfig
  execution: Execution

  @nn.compact
  def __call__(
    self, x: Float[Array, 'B P E']
  ) -> tuple[Float[Array, 'B P E'], None]:
    c, run = self.config, self.execution
    heads = (c.num_heads, c.hidden_size // c.num_heads)

    y = LayerNorm(c.layer_norm_eps, run, name='pre_attention_norm')(x)
    qkv = Dense((3, *heads), ('embed', None, 'heads', 'kv'), run, name='qkv')(y)
    query, key, value = jnp.moveaxis(qkv, 2, 0)  # each B P H K

    def attend(query, key, value):
      scores = product('bthk,bshk->bhts', query, key, jnp.float32)
      scores *= heads[1] ** -0.5
      if not for_cpu():
        weights = jax.nn.softmax(scores).astype(run.dtype)
        return product('bhts,bshk->bthk', weights, value)
      most = jax.lax.stop_gradient(scores.max(-1, keepdims=True))
      weights = jnp.exp(scores - most)
      y = product('bhts,bshk->bthk', weights.astype(run.dtype), value)
      # Softmax divides by the sums. A CPU has fewer numbers to divide here; by
      # the compiler's estimate a TPU takes longer for their other layout.
      sums = weights.sum(-1).swapaxes(1, 2)
      return (y / sums[..., None]).astype(run.dtype)

    y = recomputed(run, attend)(query, key, value)
    x += Dense((c.hidden_size,), ('heads', 'kv', 'embed'), run, name='out')(y)

    y = LayerNorm(c.layer_norm_eps, run, name='pre_mlp_norm')(x)
    y = Dense((c.mlp_dim,), ('embed', 'mlp'), run, name='wi')(y)
    y = gelu(y)
    x += Dense((c.hidden_size,), ('mlp', 'embed'), run, name='wo')(y)
    return constrain(x), None


class ViT(nn.Module):
  """Features of each image's patches, with the class token's first."""

  config: ViTConfig
  execution: Execution

  @nn.compact
  def __call__(
    self, images: Float[Array, '*B H W 3']
  ) -> Float[Array, '*B P E']:
    c, run = self.config, self.execution
    p, width = c.patch_size, c.hidden_size
    *leading, height, _, _ = images.shape
    batch = math.prod(leading)

    # A convolution whose stride is its size is a matrix product with patches.
    grid = height // p
    x = images.astype(run.dtype)
    x = x.reshape(batch, grid, p, grid, p, 3).swapaxes(2, 3)
    x = x.reshape(batch, grid * grid, p, p, 3)
    x = Dense(
      (width,), (None, None, None, 'embed'), run, name='patch_embedding'
    )(x)

    init = nn.initializers.normal(0.02)
    cls = param(self, 'class_embedding', init, (width,), ('embed',), run)
    cls = jnp.broadcast_to(cls.astype(run.dtype), (batch, 1, width))
    positions = param(
      self,
      'position_embedding',
      init,
      (c.num_patches + 1, width),
      (None, 'embed'),
      run,
    ).astype(run.dtype)
    x = constrain(jnp.concatenate([cls, x], axis=1) + positions)
    fields = {'config': c, 'execution': run}
    x, _ = stack(ViTLayer, fields, c.num_layers, ())(x)
    x = LayerNorm(c.layer_norm_eps, run, name='final_norm')(x)
    return x.reshape(*leading, *x.shape[1:])

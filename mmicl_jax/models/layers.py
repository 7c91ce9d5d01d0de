"""What all towers are made of: Dense, norms, attention, stacks.

Activations and matrix products are in `dtype`; attention scores, softmax and
norms are in float32. Dropout is on if the caller gives `rngs={'dropout': key}`,
and off otherwise.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmicl_jax.models import partitioning
from mmicl_jax.models.configs import Execution, LoRA
from mmicl_jax.models.dropout import dropout_key, dropped
from mmicl_jax.models.products import product, times_kernel
from mmicl_jax.models.quantized import Quantized
from mmicl_jax.models.recompute import recomputed, recomputed_layer

ATTENTION = 'attention'  # the collection that has attention's weights


class KeyValues(NamedTuple):
  """Keys and values of one attention; heads come before positions."""

  key: Float[Array, 'B H S K']
  value: Float[Array, 'B H S K']


def kernel_init(contracted: int, scale: float = 1.0):
  """A truncated normal initialiser with variance scale / fan-in.

  contracted: how many of the kernel's first axes are its inputs.
  """

  def init(key, shape, dtype):
    inputs = jnp.prod(jnp.array(shape[:contracted]))
    std = jnp.sqrt(scale / inputs)
    sample = jax.random.truncated_normal(key, -2, 2, shape, jnp.float32)
    return (sample * std / 0.87962566).astype(dtype)

  return init


def param(
  module: nn.Module,
  name: str,
  init: Callable[..., Any],
  shape: tuple[int, ...],
  axes: tuple[str | None, ...],
  execution: Execution,
) -> Any:
  """Makes a parameter of `module` in param_dtype: an array.

  axes: the logical name of each axis, or None. A kernel in eight bits is
  returned in its box.
  """
  boxed = nn.with_logical_partitioning(init, axes)
  dtype = jnp.dtype(execution.param_dtype)
  value = module.param(name, boxed, shape, dtype, unbox=False)
  return value if isinstance(value, Quantized) else nn.unbox(value)


class Dense(nn.Module):
  """A linear map from the last axes of x to `features`.

  axes: the logical names of all axes of the kernel. Those before the features
  are the axes of x that it contracts.
  """

  features: tuple[int, ...]
  axes: tuple[str | None, ...]
  execution: Execution
  use_bias: bool = True
  init_scale: float = 1.0

  @nn.compact
  def __call__(self, x: Float[Array, '...']) -> Float[Array, '...']:
    dtype = jnp.dtype(self.execution.dtype)
    contracted = len(self.axes) - len(self.features)
    shape = (*x.shape[-contracted:], *self.features)
    init = kernel_init(contracted, self.init_scale)
    kernel = param(self, 'kernel', init, shape, self.axes, self.execution)
    y = times_kernel(x.astype(dtype), kernel, contracted)
    lora = self.execution.lora
    if lora is not None and re.search(lora.on, '/'.join(self.path)):
      y += self._low_rank(x.astype(dtype), contracted, lora)
    if self.use_bias:
      bias = param(
        self,
        'bias',
        nn.initializers.zeros,
        self.features,
        self.axes[contracted:],
        self.execution,
      )
      y += bias.astype(dtype)
    return y

  def _low_rank(
    self, x: Float[Array, '...'], contracted: int, lora: LoRA
  ) -> Float[Array, '...']:
    """What the adapter adds: zero at first, since its second factor is zero."""
    a = param(
      self,
      'lora_a',
      kernel_init(contracted),
      (*x.shape[-contracted:], lora.rank),
      (*self.axes[:contracted], None),
      self.execution,
    )
    b = param(
      self,
      'lora_b',
      nn.initializers.zeros,
      (lora.rank, *self.features),
      (None, *self.axes[contracted:]),
      self.execution,
    )
    low = times_kernel(x, a, contracted)
    return times_kernel(low, b, 1) * (lora.alpha / lora.rank)


class LayerNorm(nn.Module):
  """Layer norm with scale and bias, computed in float32."""

  eps: float
  execution: Execution

  @nn.compact
  def __call__(self, x: Float[Array, '... D']) -> Float[Array, '... D']:
    scale, bias = (
      param(
        self, name, init, (x.shape[-1],), ('embed',), self.execution
      ).astype(jnp.float32)
      for name, init in (
        ('scale', nn.initializers.ones),
        ('bias', nn.initializers.zeros),
      )
    )

    def normalised(x, scale, bias):
      x = x.astype(jnp.float32)
      x -= x.mean(-1, keepdims=True)
      x *= jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + self.eps)
      return (x * scale + bias).astype(self.execution.dtype)

    return recomputed(self.execution, normalised)(x, scale, bias)


class RMSNorm(nn.Module):
  """T5's layer norm: no mean and no bias, computed in float32."""

  eps: float
  execution: Execution

  @nn.compact
  def __call__(self, x: Float[Array, '... D']) -> Float[Array, '... D']:
    ones = nn.initializers.ones
    shape = (x.shape[-1],)
    scale = param(self, 'scale', ones, shape, ('embed',), self.execution)

    def normalised(x, scale):
      x = x.astype(jnp.float32)
      x *= jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + self.eps)
      return (x * scale.astype(jnp.float32)).astype(self.execution.dtype)

    return recomputed(self.execution, normalised)(x, scale)


class Embed(nn.Module):
  """A table of `rows` vectors; the vectors of ids are returned in `dtype`."""

  rows: int
  features: int
  axes: tuple[str | None, str | None]
  execution: Execution
  init_std: float = 0.02

  @nn.compact
  def __call__(self, ids: Any) -> Float[Array, '... D']:
    table = param(
      self,
      'embedding',
      nn.initializers.normal(self.init_std),
      (self.rows, self.features),
      self.axes,
      self.execution,
    )
    return table[ids].astype(self.execution.dtype)


class Attention(nn.Module):
  """Multi-head attention in two calls.

  `project` computes the keys and values of a sequence; `__call__` attends to
  them. If x has n times as many rows as the memory, then n consecutive rows
  (the beams or candidates of one example) share a row of it, without copies.
  """

  num_heads: int
  head_dim: int
  execution: Execution
  use_bias: bool = False
  scaled: bool = False  # T5 does not divide the scores by sqrt(head_dim)
  dropout_rate: float = 0.0

  def setup(self):
    heads = (self.num_heads, self.head_dim)
    # Unscaled scores need smaller queries from the start.
    query_scale = 1.0 if self.scaled else 1 / self.head_dim

    def dense(scale: float = 1.0) -> Dense:
      return Dense(
        heads, ('embed', 'heads', 'kv'), self.execution, self.use_bias, scale
      )

    self.query, self.key, self.value = dense(query_scale), dense(), dense()

  def project(self, x: Float[Array, 'B S D']) -> KeyValues:
    """The keys and values of a sequence."""
    return KeyValues(
      *(by_heads(f(x).swapaxes(1, 2)) for f in (self.key, self.value))
    )

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'R T D'],
    memory: KeyValues,
    mask: Bool[Array, '#B #1 #T S'] | None = None,
    bias: Float[Array, '#B #H #T S'] | None = None,
  ) -> Float[Array, 'R T D']:
    rows, length, width = x.shape
    query = by_heads(self.query(x).swapaxes(1, 2))  # R H T K
    shared = rows // memory.key.shape[0]
    if shared > 1:
      query = query.reshape(-1, shared, *query.shape[1:]).swapaxes(1, 2)
      query = query.reshape(*query.shape[:2], -1, self.head_dim)  # B H (n T) K
    key = dropout_key(self, self.dropout_rate)
    attend = self.attend
    if not self.is_mutable_collection(ATTENTION):  # nothing is stored within
      attend = recomputed(self.execution, attend)
    y = by_heads(attend(query, memory, mask, bias, key))
    if shared > 1:
      y = y.reshape(*y.shape[:2], shared, length, -1).swapaxes(1, 2)
      y = y.reshape(rows, *y.shape[2:])
    out = Dense(
      (width,),
      ('heads', 'kv', 'embed'),
      self.execution,
      self.use_bias,
      name='out',
    )
    return out(y.swapaxes(1, 2))

  def attend(
    self,
    query: Float[Array, 'B H T K'],
    memory: KeyValues,
    mask: Bool[Array, '#B #1 #T S'] | None,
    bias: Float[Array, '#B #H #T S'] | None,
    key: jax.Array | None,
  ) -> Float[Array, 'B H T K']:
    """The sums of values, weighted by the scores' softmax.

    key: of the weights' dropout; None drops nothing.
    """
    scores = product('bhtk,bhsk->bhts', query, memory.key, jnp.float32)
    if self.scaled:
      scores *= self.head_dim**-0.5
    if bias is not None:
      scores += bias
    if mask is not None:
      scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores)
    if not self.is_initializing():
      # Nothing, unless the caller makes the collection mutable: attended.py.
      self.sow(ATTENTION, 'weights', weights)
    weights = weights.astype(memory.value.dtype)
    weights = dropped(self.execution, weights, key, self.dropout_rate)
    return product('bhts,bhsk->bhtk', weights, memory.value)


def constrain(x: Float[Array, 'B T D']) -> Float[Array, 'B T D']:
  """Splits activations by batch and length; does nothing without a mesh."""
  return partitioning.shard_activation(
    x, 'activation_batch', 'activation_length', 'activation_embed'
  )


def by_heads(x: Float[Array, 'B H T K']) -> Float[Array, 'B H T K']:
  """Splits what attention works on by batch and heads.

  Without this the partitioner splits scores by length, as activations are.
  """
  return partitioning.shard_activation(
    x, 'activation_batch', 'heads', None, 'kv'
  )


def stack(
  layer: type[nn.Module],
  fields: dict[str, Any],
  num_layers: int,
  in_axes: Sequence[Any],
  name: str = 'layers',
) -> Callable[..., Any]:
  """Joins `num_layers` layers into one call: (x, *args) -> (x, outputs).

  layer: made by layer(**fields), with `execution` among the fields, and called
  as (x, *args) -> (x, output). in_axes: for each of args, nn.broadcast if all
  layers share it, or 0 if layer i takes its i-th entry. With scan_layers such
  an argument is a tree of stacked arrays, otherwise a sequence.
  """
  execution: Execution = fields['execution']
  layer = recomputed_layer(execution, layer)
  if execution.scan_layers:
    scanned = nn.scan(
      layer,
      variable_axes={'params': 0, ATTENTION: 0},
      split_rngs={'params': True, 'dropout': True},
      in_axes=cast(Any, tuple(in_axes)),  # declared as int
      length=num_layers,
      metadata_params={nn.PARTITION_NAME: 'layers'},
    )
    return scanned(name=name, **fields)

  layers = [layer(name=f'{name}_{i}', **fields) for i in range(num_layers)]

  def run(x, *args):
    outputs = []
    for i, each in enumerate(layers):
      own = (
        a if axis is nn.broadcast or a is None else a[i]
        for a, axis in zip(args, in_axes, strict=True)
      )
      x, output = each(x, *own)
      outputs.append(output)
    return x, None if outputs[0] is None else tuple(outputs)

  return run

"""One training step: loss, gradients of the trainable half, update.

The frozen half is an argument of the step but not of the gradient, so it has no
gradients, accumulators or moments. `apply_fn` and `to_device` give a step its
model and its batches.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AbstractMesh, Mesh
from jaxtyping import Array, Float, Int

from mmicl_jax.models import partitioning
from mmicl_jax.models.configs import MMICLConfig
from mmicl_jax.models.mmicl import MMICL, logits
from mmicl_jax.training import stages
from mmicl_jax.types import Batch

Params = Mapping[str, Any]
Metrics = dict[str, jax.Array]
# (parameters, batch, dropout key or None) -> logits B U V
Apply = Callable[[Params, Batch, jax.Array | None], jax.Array]

LOSS_MEANS = ('tokens', 'microbatch')


@flax.struct.dataclass
class TrainState:
  """What a step changes; the frozen parameters are kept apart.

  The leaves are arrays, or jax.ShapeDtypeStructs where only shapes and
  shardings matter.
  """

  step: Any  # i32 scalar
  params: Params  # the trainable half
  opt_state: Any


def apply_fn(model: MMICLConfig, mesh: Mesh | AbstractMesh) -> Apply:
  """The model as a function (parameters, batch, dropout key or None) -> logits.

  Call it under jit, with parameters and batch on the mesh. It reads stored
  features instead of images if the batch holds them.
  """
  module = MMICL(model)

  def apply(params: Params, batch: Batch, rng: jax.Array | None) -> Any:
    rngs = {} if rng is None else {'dropout': rng}
    with partitioning.use_mesh(mesh, in_jit=True):
      return logits(module, params, batch, rngs)

  return apply


def to_device(
  batch: Mapping[str, np.ndarray], mesh: Mesh
) -> dict[str, jax.Array]:
  """Joins each process's rows to one batch over the whole mesh.

  batch: this process's rows, which `hosts.batch_share` tells.
  """
  sharding = partitioning.batch_sharding(mesh)
  return {
    name: jax.make_array_from_process_local_data(sharding, np.asarray(x))
    for name, x in batch.items()
  }


def cross_entropy(
  logits: Float[Array, 'B U V'],
  targets: Int[Array, 'B U'],
  weights: Int[Array, 'B U'],
) -> Float[Array, '']:
  """The sum of the tokens' cross-entropies times weights, in float32."""
  losses = optax.losses.softmax_cross_entropy_with_integer_labels(
    logits.astype(jnp.float32), targets
  )
  return jnp.sum(losses * weights)


def token_sums(apply: Apply, params: Params, batch: Batch, rng=None) -> Metrics:
  """Sums over target tokens: 'loss', 'accuracy' (hits), 'tokens' (number)."""
  logits = apply(params, batch, rng)
  targets = batch['decoder_target_tokens']
  weights = batch['decoder_loss_weights']
  hits = (jnp.argmax(logits, axis=-1) == targets) * weights
  return {
    'loss': cross_entropy(logits, targets, weights),
    'accuracy': jnp.sum(hits).astype(jnp.float32),
    'tokens': jnp.sum(weights).astype(jnp.float32),
  }


def gradients(
  apply: Apply,
  trainable: Params,
  frozen: Params,
  batch: Batch,
  rng: jax.Array | None,
  *,
  num_microbatches: int = 1,
  loss_mean: str = 'tokens',
  batch_sharding: jax.sharding.NamedSharding | None = None,
) -> tuple[Params, Metrics]:
  """Gradients of the trainable half, and mean loss, accuracy and token count.

  loss_mean: 'tokens' gives every target token of the batch the same weight,
    however many microbatches there are. 'microbatch' takes the mean of the
    microbatches' means, as MMICL's published code does, which accumulates
    gradients.
  rng: the key of dropout; None drops nothing. All microbatches of a step use
    the second half of its split, as they do under T5X.
  batch_sharding: of the batch; if given, each microbatch is split over all
    devices, too.
  """
  total = jnp.sum(batch['decoder_loss_weights']).astype(jnp.float32)

  def loss_fn(params, microbatch, key):
    sums = token_sums(
      apply, stages.merge_params(params, frozen), microbatch, key
    )
    tokens = total if loss_mean == 'tokens' else sums['tokens']
    share = 1 if loss_mean == 'tokens' else num_microbatches
    loss = sums['loss'] / (jnp.maximum(tokens, 1) * share)
    return loss, sums | {'loss': loss}

  differentiate = jax.grad(loss_fn, has_aux=True)
  if num_microbatches == 1:
    grads, metrics = differentiate(trainable, batch, rng)
  else:
    # For each microbatch T5X splits the same key again, so that it takes the
    # same second half every time.
    key = None if rng is None else jax.random.split(rng)[1]

    def body(sums, microbatch):
      found = differentiate(trainable, microbatch, key)
      return jax.tree.map(jnp.add, sums, found), None

    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), trainable)
    zero = jnp.zeros((), jnp.float32)
    start = (zeros, dict.fromkeys(('loss', 'accuracy', 'tokens'), zero))
    (grads, metrics), _ = jax.lax.scan(
      body, start, _divided(batch, num_microbatches, batch_sharding)
    )
  metrics['accuracy'] /= jnp.maximum(metrics['tokens'], 1)
  return grads, metrics


def _divided(
  batch: Batch, parts: int, sharding: jax.sharding.NamedSharding | None
) -> Batch:
  """Cuts a batch into parts of consecutive rows, stacked on a first axis.

  Each part is split over all devices. If the loop sliced the parts out of the
  whole batch, XLA would copy that batch with its images to every device.
  """
  divided = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), batch)
  if sharding is None:
    return divided
  spec = jax.sharding.PartitionSpec(None, *sharding.spec)
  place = jax.sharding.NamedSharding(sharding.mesh, spec)
  return jax.lax.with_sharding_constraint(divided, place)


def train_step(
  state: TrainState,
  frozen: Params,
  batch: Batch,
  *,
  apply: Apply,
  optimizer: optax.GradientTransformation,
  learning_rate: optax.Schedule,
  rng: jax.Array | None,
  **options: Any,
) -> tuple[TrainState, Metrics]:
  """Updates the state once; returns (state, metrics).

  rng: the root key of dropout. Step k uses fold_in(rng, k), so that a resumed
    run draws the same numbers as an uninterrupted one.
  options: those of `gradients`.
  The norms among the metrics are those of the trainable half.
  """
  key = None if rng is None else jax.random.fold_in(rng, state.step)
  grads, metrics = gradients(apply, state.params, frozen, batch, key, **options)
  updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
  params: Any = optax.apply_updates(state.params, updates)
  metrics['learning_rate'] = jnp.asarray(learning_rate(state.step), jnp.float32)
  metrics |= norms('grad_norm', grads) | norms('param_norm', params)
  return TrainState(state.step + 1, params, opt_state), metrics


def norms(name: str, tree: Params) -> Metrics:
  """The L2 norm of a tree as `name`, and of each top module as name/module."""
  squares = {
    module: optax.tree.norm(part, squared=True).astype(jnp.float32)
    for module, part in tree.items()
  }
  parts = {f'{name}/{m}': jnp.sqrt(x) for m, x in squares.items()}
  return {name: jnp.sqrt(sum(squares.values()))} | parts

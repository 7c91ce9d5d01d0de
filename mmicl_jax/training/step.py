"""One step of training: loss, gradients of the trainable half, update.

The frozen half is an argument of the step but not of the gradient, so there
are no gradients, accumulators or moments for it. `gradients` is the whole
numerical content; the T5X adapter calls it too.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from mmicl_jax.training import stages
from mmicl_jax.types import Batch

Params = Mapping[str, Any]
Metrics = dict[str, jax.Array]
# (parameters, batch, dropout key or None) -> logits B U V
Apply = Callable[[Params, Batch, jax.Array | None], jax.Array]

LOSS_MEANS = ('tokens', 'microbatch')


@flax.struct.dataclass
class TrainState:
  """What a step replaces; the frozen parameters stand beside it.

  Its leaves are arrays, or their shapes or shardings where only those matter.
  """

  step: Any  # i32 scalar
  params: Params  # the trainable half
  opt_state: Any


def cross_entropy(
  logits: Float[Array, 'B U V'],
  targets: Int[Array, 'B U'],
  weights: Int[Array, 'B U'],
) -> Float[Array, '']:
  """The weighted sum of the tokens' cross-entropies, in float32."""
  losses = optax.losses.softmax_cross_entropy_with_integer_labels(
    logits.astype(jnp.float32), targets
  )
  return jnp.sum(losses * weights)


def token_sums(apply: Apply, params: Params, batch: Batch, rng=None) -> Metrics:
  """Sums over a batch's target tokens: loss, accuracy, and their number."""
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
  """Gradients of the trainable half, and loss, accuracy and tokens.

  loss_mean: 'tokens' weighs every target token of the batch alike, whatever
  the number of microbatches; 'microbatch' is the mean of the microbatches'
  means, as gradient accumulation in the published PyTorch code has it.
  rng: of dropout; None for none. As under T5X, all microbatches of a step
  draw from one key, the second half of its split.
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
    # T5X forgets the other half: what it hands on is the key that it split.
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
  """Consecutive rows on an axis in front; each part is split over all devices.

  Taken out of the whole batch one by one, they would make XLA copy that batch,
  its images included, to every device.
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
  """One update; see `gradients` for the options.

  rng: the root of dropout; step k uses fold_in(rng, k), so that a resumed run
  draws what an uninterrupted one does. Norms are of the trainable half.
  """
  key = None if rng is None else jax.random.fold_in(rng, state.step)
  grads, metrics = gradients(apply, state.params, frozen, batch, key, **options)
  updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
  params: Any = optax.apply_updates(state.params, updates)
  metrics['learning_rate'] = jnp.asarray(learning_rate(state.step), jnp.float32)
  metrics |= norms('grad_norm', grads) | norms('param_norm', params)
  return TrainState(state.step + 1, params, opt_state), metrics


def norms(name: str, tree: Params) -> Metrics:
  """The global norm, and that of each top-level module."""
  squares = {
    module: optax.tree.norm(part, squared=True).astype(jnp.float32)
    for module, part in tree.items()
  }
  parts = {f'{name}/{m}': jnp.sqrt(x) for m, x in squares.items()}
  return {name: jnp.sqrt(sum(squares.values()))} | parts

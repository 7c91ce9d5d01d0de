"""The arrays of a run: their shapes and shardings, and how they begin."""

import dataclasses
import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AbstractMesh, Mesh

from mmicl_jax.checkpoints import store
from mmicl_jax.checkpoints.checkpointer import Checkpointer
from mmicl_jax.checkpoints.tree import opt_state_of, state_tree
from mmicl_jax.models import lora, mmicl, partitioning
from mmicl_jax.models.configs import MMICLConfig
from mmicl_jax.training import stages
from mmicl_jax.training.settings import StepSettings
from mmicl_jax.training.step import (
  Params,
  TrainState,
  apply_fn,
  train_step,
)


@dataclasses.dataclass(frozen=True)
class RunLayout:
  """The shapes, dtypes and shardings of a run's arrays, without the arrays.

  state, frozen: trees of jax.ShapeDtypeStruct with shardings.
  """

  config: MMICLConfig
  profile: stages.Profile
  optimizer: optax.GradientTransformation
  mesh: Mesh | AbstractMesh
  state: TrainState
  frozen: Params

  @classmethod
  def of(
    cls,
    config: MMICLConfig,
    profile: stages.Profile,
    optimizer: optax.GradientTransformation,
    mesh: Mesh | AbstractMesh,
    frozen_dtype: str | None = None,
    frozen_room: float = 0.0,
  ) -> 'RunLayout':
    """Plans the arrays of a run; nothing is computed.

    frozen_dtype: of the frozen half; None keeps the model's. frozen_room: if
    the frozen half takes at most so many bytes of a device, the mesh's `fsdp`
    axis does not split it, so that no step gathers it. Raises UserError if the
    profile matches no parameter.
    """
    trainable, frozen = stages.split_params(
      mmicl.abstract_params(config), profile
    )
    if frozen_dtype is not None:
      frozen = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, jnp.dtype(frozen_dtype)), frozen
      )
    whole = _placed(frozen, mesh, over_fsdp=False)
    if device_bytes(whole) > frozen_room:
      whole = _placed(frozen, mesh)
    # The weights are still in flax's boxes, which name their axes. So the
    # optimizer's moments are in such boxes, too, and are sharded like them.
    state = TrainState(
      jax.ShapeDtypeStruct((), jnp.int32),
      trainable,
      jax.eval_shape(optimizer.init, trainable),
    )
    return cls(
      config,
      profile,
      optimizer,
      mesh,
      _placed(state, mesh),
      whole,
    )

  @property
  def params(self) -> Params:
    """The parameters of both halves."""
    return stages.merge_params(self.state.params, self.frozen)

  def ledger(self) -> stages.Ledger:
    """Which modules train, with their parameters and memory."""
    return stages.ledger_of(self.params, self.profile, self.optimizer)

  def random(self, key: jax.Array) -> tuple[TrainState, Params]:
    """Step 0 with random parameters, made on the devices that hold them.

    Returns (state, frozen half).
    """

    def init(key):
      params = mmicl.init_params(self.config, key)
      trainable, frozen = stages.split_params(params, self.profile)
      frozen = jax.tree.map(lambda x, y: x.astype(y.dtype), frozen, self.frozen)
      return self._start(trainable), frozen

    return jax.jit(init, out_shardings=shardings_of((self.state, self.frozen)))(
      key
    )

  def with_weights(
    self, path: str, key: jax.Array
  ) -> tuple[TrainState, Params]:
    """Step 0 with the weights of a checkpoint; the optimizer's state is new.

    Low-rank adapters are random if the checkpoint has none. Returns (state,
    frozen half).
    """
    wanted, adapters = lora.split_adapters(self.params)
    if store.has_any(path, adapters):
      wanted, adapters = self.params, {}
    params = store.load_weights(path, wanted)
    if adapters:
      fresh = jax.jit(
        lambda key: lora.split_adapters(mmicl.init_params(self.config, key))[1],
        out_shardings=shardings_of(adapters),
      )
      params = stages.merge_params(fresh(key), params)
    trainable, frozen = stages.split_params(params, self.profile)
    # If the weights were a result of this program, they would be copied.
    begin = jax.jit(
      lambda x: (jnp.zeros((), jnp.int32), self.optimizer.init(x)),
      out_shardings=shardings_of((self.state.step, self.state.opt_state)),
    )
    step, opt_state = begin(trainable)
    return TrainState(step, trainable, opt_state), frozen

  def save_tree(self, state: TrainState, frozen: Params) -> dict:
    """The tree that a checkpoint of this step holds."""
    params = stages.merge_params(state.params, frozen)
    return state_tree(params, state.step, state.opt_state)

  def resume(
    self, checkpointer: Checkpointer
  ) -> tuple[TrainState, Params, Any] | None:
    """Reads the newest checkpoint that can be read; None if there is none.

    Returns (state, frozen half, position of the data iterator); the position
    is None if none was saved.
    """
    like = self.save_tree(self.state, self.frozen)
    found = checkpointer.restore_latest(like)
    if found is None:
      return None
    _, tree, iterator_state = found
    trainable, frozen = stages.split_params(tree['target'], self.profile)
    opt_state = opt_state_of(tree, self.state.opt_state)
    state = TrainState(tree['state']['step'], trainable, opt_state)
    return state, frozen, iterator_state

  def _start(self, trainable: Params) -> TrainState:
    return TrainState(
      jnp.zeros((), jnp.int32), trainable, self.optimizer.init(trainable)
    )


def root_key(seed: int) -> jax.Array:
  """The key that all of a run's random numbers come from.

  Seeds from 0 to 2**32 - 1 give T5X's key. Of others, PRNGKey would take only
  the lower 32 bits.
  """
  high, low = divmod(seed % 2**64, 2**32)
  key = jax.random.PRNGKey(np.uint32(low))
  return jax.random.fold_in(key, np.uint32(high)) if high else key


def shardings_of(tree: Any) -> Any:
  """The shardings of a tree of jax.ShapeDtypeStruct."""
  return jax.tree.map(lambda x: x.sharding, tree)


def _placed(
  boxed: Any, mesh: Mesh | AbstractMesh, *, over_fsdp: bool = True
) -> Any:
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    nn.unbox(boxed),
    partitioning.shardings(boxed, mesh, over_fsdp=over_fsdp),
  )


def device_bytes(placed: Any) -> int:
  """The bytes that each device holds of ShapeDtypeStructs with shardings."""
  return sum(
    math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
    for x in jax.tree.leaves(placed)
  )


def compiled_step(
  layout: RunLayout, steps: StepSettings, rng: jax.Array | None = None
):
  """`train_step` under jit: (state, frozen, batch) -> (state, metrics).

  rng: the root key of dropout; a model without dropout ignores it. The state's
  buffers are donated; the frozen half is only read.
  """
  batch = partitioning.batch_sharding(layout.mesh)
  state = shardings_of(layout.state)
  step = functools.partial(
    train_step,
    apply=apply_fn(layout.config, layout.mesh),
    optimizer=layout.optimizer,
    learning_rate=steps.learning_rate,
    rng=rng if layout.config.has_dropout else None,
    num_microbatches=steps.num_microbatches,
    loss_mean=steps.loss_mean,
    batch_sharding=batch,
  )
  return jax.jit(
    step,
    in_shardings=(state, shardings_of(layout.frozen), batch),
    out_shardings=(state, partitioning.replicated(layout.mesh)),
    donate_argnums=0,
  )

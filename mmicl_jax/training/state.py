"""The state of a run: its abstract form, its initial value, its checkpoint."""

import dataclasses
import functools
from collections.abc import Mapping
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
from mmicl_jax.training.step import Apply, Params, TrainState, train_step
from mmicl_jax.types import Batch


@dataclasses.dataclass(frozen=True)
class RunLayout:
  """Shapes, dtypes and shardings of a run's arrays; nothing is computed.

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
  ) -> 'RunLayout':
    """frozen_dtype: of the frozen half; None keeps the model's."""
    trainable, frozen = stages.split_params(
      mmicl.abstract_params(config), profile
    )
    if frozen_dtype is not None:
      frozen = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, jnp.dtype(frozen_dtype)), frozen
      )
    # Boxes pass through the optimizer, so moments lie where weights do.
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
      _placed(frozen, mesh),
    )

  @property
  def params(self) -> Params:
    """All parameters, both halves."""
    return stages.merge_params(self.state.params, self.frozen)

  def ledger(self) -> stages.Ledger:
    return stages.ledger_of(self.params, self.profile, self.optimizer)

  def random(self, key: jax.Array) -> tuple[TrainState, Params]:
    """Step 0 with random parameters, made where they will live."""

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
    """Step 0 with the weights of a checkpoint: step and optimizer are new.

    Adapters, which it has none of, are random.
    """
    wanted, adapters = lora.split_adapters(self.params)
    params = store.load_weights(path, wanted)
    if adapters:
      fresh = jax.jit(
        lambda key: lora.split_adapters(mmicl.init_params(self.config, key))[1],
        out_shardings=shardings_of(adapters),
      )
      params = stages.merge_params(fresh(key), params)
    trainable, frozen = stages.split_params(params, self.profile)
    start = jax.jit(self._start, out_shardings=shardings_of(self.state))
    return start(trainable), frozen

  def save_tree(self, state: TrainState, frozen: Params) -> dict:
    """What a checkpoint holds."""
    params = stages.merge_params(state.params, frozen)
    return state_tree(params, state.step, state.opt_state)

  def resume(
    self, checkpointer: Checkpointer
  ) -> tuple[TrainState, Params, Any] | None:
    """The newest readable checkpoint and its iterator state, if any."""
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


def shardings_of(tree: Any) -> Any:
  """The shardings of a tree of placed jax.ShapeDtypeStruct."""
  return jax.tree.map(lambda x: x.sharding, tree)


def _placed(boxed: Any, mesh: Mesh | AbstractMesh) -> Any:
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    nn.unbox(boxed),
    partitioning.shardings(boxed, mesh),
  )


def apply_fn(model: MMICLConfig, mesh: Mesh) -> Apply:
  """The model as a function of (parameters, batch, dropout key or None).

  To be called under jit, with parameters and batch placed on the mesh.
  """
  module = mmicl.MMICL(model)

  def apply(params: Params, batch: Batch, rng: jax.Array | None) -> Any:
    rngs = {} if rng is None else {'dropout': rng}
    # The mesh for activations: jax.set_mesh is not allowed inside jit.
    with (
      jax.sharding.use_abstract_mesh(mesh.abstract_mesh),
      nn.logical_axis_rules(partitioning.activation_rules()),
    ):
      return module.apply({'params': params}, batch, rngs=rngs)

  return apply


def compiled_step(layout: RunLayout, **options: Any):
  """train_step under jit: (state, frozen, batch) -> (state, metrics).

  The state's buffers are donated; the frozen half is only read.
  """
  batch = partitioning.batch_sharding(layout.mesh)
  state = shardings_of(layout.state)
  return jax.jit(
    functools.partial(train_step, batch_sharding=batch, **options),
    in_shardings=(state, shardings_of(layout.frozen), batch),
    out_shardings=(state, partitioning.replicated(layout.mesh)),
    donate_argnums=0,
  )


def to_device(
  batch: Mapping[str, np.ndarray], mesh: Mesh
) -> dict[str, jax.Array]:
  """This process's rows as part of a batch over the whole mesh.

  Which rows those are, multihost.batch_share tells.
  """
  sharding = partitioning.batch_sharding(mesh)
  return {
    name: jax.make_array_from_process_local_data(sharding, np.asarray(x))
    for name, x in batch.items()
  }

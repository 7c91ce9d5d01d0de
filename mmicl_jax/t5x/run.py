"""Builds the data and checkpoint settings that gin_configs/t5x gives to T5X.

gin calls these functions to make the arguments of T5X's `train`, `evaluate` or
`infer`. So they refuse what cannot work before T5X compiles anything or writes
a file.
"""

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import seqio
from t5x import checkpoints as t5x_checkpoints
from t5x import gin_utils as t5x_gin
from t5x import utils

from mmicl_jax.checkpoints import model_dir, steps, store
from mmicl_jax.errors import UserError
from mmicl_jax.models import lora, mmicl, partitioning
from mmicl_jax.runtime import lock, remote
from mmicl_jax.runtime.files import write_text
from mmicl_jax.t5x.model import T5XModel
from mmicl_jax.training.settings import (
  ModelSettings,
  RunSettings,
  StepSettings,
)
from mmicl_jax.training.state import RunLayout


class CheckpointManager(t5x_checkpoints.OrbaxCheckpointManagerInterface):
  """Restores each parameter in the dtype that it has in this run.

  T5X itself has one dtype for all, so a float32 checkpoint would make the
  frozen half float32 again.
  """

  def restore(self, *args: Any, **options: Any) -> Any:
    """T5X's restore; then it casts the parameters."""
    state = super().restore(*args, **options)
    params = jax.tree.map(
      lambda x, y: x.astype(jnp.dtype(y.dtype)),
      state.params,
      self._train_state.params,
    )
    return state.replace_params(params)


def checkpoint_config(
  model: T5XModel,
  initial: ModelSettings,
  step: StepSettings,
  run: RunSettings,
  eval_data: str | Sequence[str] | None = None,
) -> utils.CheckpointConfig:
  """When a run saves, and what it starts with if there is nothing to resume.

  Raises UserError if the checkpoint to resume has another architecture,
  trainable set or optimizer, or is past the last step; if a batch cannot be
  split evenly; or if neither of SAVE_EVERY and EVAL_EVERY is a multiple of the
  other. Raises it, too, if another process writes this MODEL_DIR.
  """
  if jax.process_index() == 0:
    if not remote.is_remote(run.model_dir):
      Path(run.model_dir).parent.mkdir(parents=True, exist_ok=True)
    lock.hold(run.model_dir)  # T5X's own program does not end in our hands
  mesh = run.mesh or partitioning.make_mesh()
  step.check_mesh(mesh)
  if eval_data is not None and run.eval_every is not None:
    _check_periods(run.save_every, run.eval_every)
  layout = RunLayout.of(model.config, model.profile, model.chain, mesh)
  like = layout.save_tree(layout.state, layout.frozen)
  restore = None
  if store.resumable(run.model_dir, like):
    _check_last_step(run.model_dir, step.train_steps)
  elif initial.init_from is not None:
    path = steps.step_path(*steps.locate(initial.init_from))
    # Low-rank adapters are random, since the checkpoint has none.
    store.check_tree(path, {'target': lora.split_adapters(layout.params)[0]})
    restore = utils.RestoreCheckpointConfig(
      path=os.fspath(path),
      mode='specific',
      assignment_map=[(r'state/.*', None)],  # a new step and optimizer state
      fallback_to_scratch=True,
      checkpoint_manager_cls=CheckpointManager,
    )
  save = utils.SaveCheckpointConfig(
    dtype=None,  # keeps each parameter's own: the frozen half may be bfloat16
    period=run.save_every,
    keep=run.keep,
    checkpoint_manager_cls=(
      restore.checkpoint_manager_cls
      if restore is not None
      else t5x_checkpoints.OrbaxCheckpointManagerInterface
    ),
  )
  return utils.CheckpointConfig(save=save, restore=restore)


def _check_periods(save_every: int, eval_every: int) -> None:
  if max(save_every, eval_every) % min(save_every, eval_every):
    raise UserError(
      f'T5X saves and evaluates at the ends of the same stretches of steps, so '
      f'SAVE_EVERY ({save_every}) and EVAL_EVERY ({eval_every}) cannot both '
      'hold: make one a multiple of the other'
    )


def _check_last_step(directory: str | os.PathLike, train_steps: int) -> None:
  done = steps.latest_step(directory) or 0
  if done > train_steps:
    raise UserError(
      f'{directory} has {steps.PREFIX}_{done}, and TRAIN_STEPS is '
      f'{train_steps}: give at least {done}, or another MODEL_DIR'
    )


def weights(path: str, model: T5XModel) -> utils.RestoreCheckpointConfig:
  """Restores the parameters of a MODEL_DIR's newest, or of one, checkpoint.

  Raises UserError if there is none, or if another model wrote it.
  """
  place = steps.step_path(*steps.locate(path))
  store.check_tree(
    place, {'target': nn.unbox(mmicl.abstract_params(model.config))}
  )
  return utils.RestoreCheckpointConfig(
    path=os.fspath(place),
    mode='specific',
    strict=False,
  )


def task(
  name: str,
  module: str | None = None,
  split: str = 'train',
  use_cached: bool = False,
) -> str:
  """Imports `module`, which registers a task, and returns the task's name.

  Raises UserError if the module is missing or does not register the task, and
  if the task has no such split or, with use_cached, no cache.
  """
  if module is not None:
    try:
      importlib.import_module(module)
    except ModuleNotFoundError as error:
      raise UserError(
        f'TASK_MODULE {module!r} cannot be imported ({error}): correct it, or '
        'add the folder it lies in to PYTHONPATH'
      ) from error
  try:
    found = seqio.get_mixture_or_task(name)
  except ValueError as error:
    raise UserError(
      f'SeqIO has no task {name!r}: correct TASK, or name in TASK_MODULE the '
      'module that registers it'
    ) from error
  if split not in found.splits:
    raise UserError(
      f'the task {name} has no records for the split {split!r}, only for '
      f'{", ".join(sorted(found.splits))}: correct SPLIT, or give EVAL_DATA '
      "for 'validation'"
    )
  for one in found.tasks if isinstance(found, seqio.Mixture) else [found]:
    if use_cached and one.cache_dir is None:
      raise UserError(
        f'the task {one.name} is not cached: write a cache with '
        'seqio_cache_tasks and name it with --seqio_additional_cache_dirs, or '
        'drop USE_CACHED_TASKS'
      )
  return name


def eval_dataset(
  config: type[utils.DatasetConfig], eval_data: Any
) -> utils.DatasetConfig | None:
  """The configuration of the held-out records; None if there are none."""
  return None if eval_data is None else config()


def get_dataset(
  cfg: utils.DatasetConfig,
  shard_id: int,
  num_shards: int,
  feature_converter_cls: Any,
  num_epochs: int | None = None,
  continue_from_last_checkpoint: bool = False,
  *,
  model_dir: str,
) -> Any:
  """T5X's dataset without the batches that a resumed run has seen already.

  So either trainer can resume a run of the other: neither can read the other's
  position in the data, but both know the step. T5X would save tf.data's
  iterator, which `mmicl train` cannot read.
  """
  del continue_from_last_checkpoint
  dataset = utils.get_dataset(
    cfg, shard_id, num_shards, feature_converter_cls, num_epochs
  )
  done = steps.latest_step(model_dir)
  return dataset.skip(done) if done else dataset


def describe(
  model_dir: str,
  summary_writer: Any,
  step: int,
  *,
  model: T5XModel,
  vocabulary: str,
) -> None:
  """Writes the files that make a MODEL_DIR usable by itself."""
  t5x_gin.summarize_gin_config(model_dir, summary_writer, step)
  if jax.process_index() == 0:
    _describe(model_dir, model, vocabulary)


def _describe(directory: str, model: T5XModel, vocabulary: str) -> None:
  model_dir.write_config(directory, model.config)
  model_dir.copy_vocabulary(directory, vocabulary)
  path = os.path.join(directory, model_dir.LEDGER)
  write_text(path, model.ledger().to_json() + '\n')

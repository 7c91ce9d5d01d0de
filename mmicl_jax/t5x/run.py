"""What T5X's commands are given by gin_configs/t5x: data, mesh, checkpoints.

Everything here runs when gin builds the arguments of T5X's `train`, before
anything is compiled, so mistakes end in one sentence as under `mmicl train`.
"""

import importlib
import os
import sys
import traceback
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import seqio
from absl import app, flags
from gin import config as gin_config
from jax.sharding import Mesh
from t5x import checkpoints as t5x_checkpoints
from t5x import gin_utils as t5x_gin
from t5x import utils

from mmicl_jax.checkpoints import model_dir, steps, store
from mmicl_jax.configure import gin_files
from mmicl_jax.errors import UserError
from mmicl_jax.models import lora, mmicl, partitioning
from mmicl_jax.runtime.files import write_text
from mmicl_jax.runtime.remote import absolute_path
from mmicl_jax.t5x.model import T5XModel
from mmicl_jax.training.settings import StepSettings
from mmicl_jax.training.state import RunLayout


class _OneSentence(app.ExceptionHandler):
  """Mistakes end T5X's commands as they end `mmicl`: a sentence and 2."""

  def wants(self, exc: BaseException) -> bool:
    return isinstance(exc, UserError) or _from_gin(exc)

  def handle(self, exc: BaseException) -> None:
    if not isinstance(exc, UserError):
      try:
        check_gin()
      except UserError as error:
        exc = error
      else:
        exc = gin_files.explained(exc) if isinstance(exc, ValueError) else exc
    text = str(exc).split('\n  In call to configurable')[0]
    print(f'mmicl: {" ".join(text.split())}', file=sys.stderr, flush=True)
    os._exit(2)  # absl would print the traceback and return 1


def _from_gin(error: BaseException) -> bool:
  """Whether gin itself raised it, reading or evaluating a file."""
  frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
  file = frames[-1].f_code.co_filename if frames else ''
  return os.path.dirname(file) == os.path.dirname(gin_config.__file__)


app.install_exception_handler(_OneSentence())


class CheckpointManager(t5x_checkpoints.OrbaxCheckpointManagerInterface):
  """Restores each parameter in the dtype that this run gives it.

  T5X knows one dtype for all: weights from a float32 checkpoint would make the
  frozen half float32 again.
  """

  def restore(self, *args: Any, **options: Any) -> Any:
    state = super().restore(*args, **options)
    params = jax.tree.map(
      lambda x, y: x.astype(jnp.dtype(y.dtype)),
      state.params,
      self._train_state.params,
    )
    return state.replace_params(params)


def absolute(path: str) -> str:
  """T5X writes to no other path; a URL is one already."""
  return absolute_path(path)


def num_partitions(mesh: Mesh) -> int:
  """The size of T5X's model axis: that of our `tensor` axis."""
  return mesh.shape['tensor']


def axis_rules(mesh: Mesh) -> list[tuple[str, str | None]]:
  """partitioning.RULES for T5X's axes: `data` is our data and fsdp in one."""
  sharded = mesh.shape['fsdp'] > 1
  names = {'data': 'data', 'fsdp': 'data', 'tensor': 'model'}
  rules: list[tuple[str, str | None]] = [('batch', 'data')]
  for name, axes in partitioning.RULES:
    target = names[axes[0]] if axes else None
    if axes == ('fsdp',) and not sharded:
      target = None
    rules.append((name, target))
  return rules


def checkpoint_config(
  model: T5XModel,
  model_dir: str,
  mesh: Mesh,
  batch_size: int,
  train_steps: int,
  save_every: int = 1000,
  keep: int | None = 3,
  init_from: str | None = None,
) -> utils.CheckpointConfig:
  """Saves each `save_every` steps; a new run starts with init_from's weights.

  Raises UserError if the checkpoint to go on from is of another architecture,
  trainable set or optimizer, if a batch does not divide, or if a name was given
  that nothing reads.
  """
  check_gin()
  StepSettings(
    train_steps,
    batch_size,
    model.learning_rate,
    num_microbatches=model.num_microbatches,
    loss_mean=model.loss_mean,
  ).check_mesh(mesh)
  layout = RunLayout.of(model.config, model.profile, model.chain, mesh)
  like = layout.save_tree(layout.state, layout.frozen)
  restore = None
  if not store.resumable(model_dir, like) and init_from is not None:
    directory, step = steps.locate(init_from)
    path = steps.step_path(directory, step)
    # Adapters, which it has none of, are random.
    store.check_tree(path, {'target': lora.split_adapters(layout.params)[0]})
    restore = utils.RestoreCheckpointConfig(
      path=os.fspath(path),
      mode='specific',
      assignment_map=[(r'state/.*', None)],  # step and optimizer are new
      fallback_to_scratch=True,
      checkpoint_manager_cls=CheckpointManager,
    )
  save = utils.SaveCheckpointConfig(
    dtype=None,  # as they are: the frozen half may be bfloat16
    period=save_every,
    keep=keep,
    checkpoint_manager_cls=(
      restore.checkpoint_manager_cls
      if restore is not None
      else t5x_checkpoints.OrbaxCheckpointManagerInterface
    ),
  )
  return utils.CheckpointConfig(save=save, restore=restore)


def weights(path: str, model: T5XModel) -> utils.RestoreCheckpointConfig:
  """The parameters of a MODEL_DIR's newest checkpoint, or of a checkpoint.

  Raises UserError if there is none or if it is not this model's.
  """
  check_gin()
  directory, step = steps.locate(path)
  store.check_tree(
    steps.step_path(directory, step),
    {'target': nn.unbox(mmicl.abstract_params(model.config))},
  )
  return utils.RestoreCheckpointConfig(
    path=os.fspath(steps.step_path(directory, step)),
    mode='specific',
    strict=False,
  )


def task(
  name: str,
  module: str | None = None,
  split: str = 'train',
  use_cached: bool = False,
) -> str:
  """The name of a task, as SeqIO knows it once `module` is imported.

  Raises UserError if it does not know it, or if the task has no such split or,
  where it should be cached, no cache.
  """
  if module is not None:
    importlib.import_module(module)
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
  """The configuration of the held-out records, None without any."""
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
  """T5X's dataset, from behind the batches that a resumed run has seen.

  So runs can go on with either trainer: neither can read the other's place in
  the data, but both know the step. T5X's own way, saving tf.data's iterator,
  would not survive the change.
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
  """Writes beside the checkpoints what a MODEL_DIR needs to be used alone."""
  t5x_gin.summarize_gin_config(model_dir, summary_writer, step)
  if jax.process_index() == 0:
    _describe(model_dir, model, vocabulary)


def _describe(directory: str, model: T5XModel, vocabulary: str) -> None:
  model_dir.write_config(directory, model.config)
  model_dir.copy_vocabulary(directory, vocabulary)
  path = os.path.join(directory, model_dir.LEDGER)
  write_text(path, model.ledger().to_json() + '\n')


def check_gin() -> None:
  """Raises UserError for gin's files and names as `mmicl train` does.

  T5X itself takes two stages, and --gin.TRAIN_STEPSS=9, in silence.
  """
  gin_files.check_files(flags.FLAGS.gin_file or ())
  gin_files.check_names()
  gin_files.check_required()

"""The settings of a run in four parts; each checks itself when it is made."""

import dataclasses
import math
import os
from collections.abc import Callable, Mapping

import optax
from jax.sharding import AbstractMesh, Mesh

from mmicl_jax.checkpoints.kept import of_task
from mmicl_jax.errors import UserError
from mmicl_jax.models import partitioning
from mmicl_jax.models.configs import DTYPES, MMICLConfig, check_choice
from mmicl_jax.runtime.remote import is_remote
from mmicl_jax.training import optim, stages
from mmicl_jax.training.step import LOSS_MEANS
from mmicl_jax.types import BatchSource


@dataclasses.dataclass(frozen=True)
class ModelSettings:
  """The model, which half of it trains, and the weights it starts with.

  trainable: the name of a profile in stages.PROFILES, or regular expressions.
  frozen_dtype: of the frozen half's parameters; None keeps the model's.
  frozen_whole: whether each device holds the frozen half whole (or what the
  mesh's `tensor` axis leaves of it), so that no step gathers it; False splits
  it over `fsdp`, too; None: whole if that takes at most half of a device's
  memory, which is known of TPUs.
  init_from: a checkpoint whose weights a new run starts with: for stage 2, one
  of stage 1 or converted weights. A run that is resumed does not read it.
  Raises UserError for a profile or a dtype that does not exist.
  """

  config: MMICLConfig
  trainable: stages.Profile
  frozen_dtype: str | None = None
  frozen_whole: bool | None = None
  init_from: str | os.PathLike | None = None

  def __post_init__(self):
    stages.patterns(self.trainable)
    check_choice('FROZEN_DTYPE', self.frozen_dtype or DTYPES[0], DTYPES)
    if not isinstance(self.frozen_whole, bool | None):
      raise UserError(
        f'FROZEN_WHOLE is {self.frozen_whole!r}: give True, False or None'
      )

  def frozen_room(self, memory: int | None) -> float:
    """The bytes that a whole frozen half may take of each device.

    memory: a device's, in bytes; None if it is not known.
    """
    if self.frozen_whole is None:
      return (memory or 0) / 2
    return math.inf if self.frozen_whole else 0.0


@dataclasses.dataclass(frozen=True)
class DataSettings:
  """The data of a run.

  train: the batches to train on. held_out: those to evaluate on. vocabulary: a
  file that is copied to the run's directory and used to show its first prompts.
  feature_cache: the folder of the features that `train` reads instead of
  images.
  """

  train: BatchSource
  held_out: BatchSource | None = None
  vocabulary: str | os.PathLike | None = None
  feature_cache: str | os.PathLike | None = None


@dataclasses.dataclass(frozen=True)
class StepSettings:
  """What a step computes, and how many steps there are.

  train_steps: the run ends at this step, even if it was resumed.
  batch_size: rows of all processes together.
  optimizer: makes the optax chain from the schedule `learning_rate`.
  num_microbatches: how many equal parts a batch is computed in.
  loss_mean: 'tokens' or 'microbatch': see step.gradients.
  Raises UserError for numbers below 1 and an unknown loss_mean.
  """

  train_steps: int
  batch_size: int
  learning_rate: optax.Schedule
  optimizer: Callable[..., optax.GradientTransformation] = optim.adamw
  num_microbatches: int = 1
  loss_mean: str = 'tokens'

  def __post_init__(self):
    _check_counts(
      {
        'TRAIN_STEPS': self.train_steps,
        'BATCH_SIZE': self.batch_size,
        'NUM_MICROBATCHES': self.num_microbatches,
      }
    )
    if self.loss_mean not in LOSS_MEANS:
      raise UserError(
        f'LOSS_MEAN is {self.loss_mean!r}: choose {" or ".join(LOSS_MEANS)}'
      )

  def chain(self) -> optax.GradientTransformation:
    """The optimizer with its schedule."""
    return self.optimizer(self.learning_rate)

  def check_mesh(self, mesh: Mesh | AbstractMesh) -> None:
    """Raises UserError unless microbatches and shards divide a batch evenly."""
    shards = partitioning.batch_shards(mesh)
    parts = self.num_microbatches * shards
    if self.batch_size % parts:
      raise UserError(
        f'BATCH_SIZE {self.batch_size} does not divide into '
        f'{self.num_microbatches} microbatches over {shards} shards (data x '
        f'fsdp): use a multiple of {parts}'
      )


@dataclasses.dataclass(frozen=True)
class RunSettings:
  """Where a run is stored, and after how many steps it saves and reports.

  mesh: None takes all devices as the axis `data`.
  save_every, eval_every, log_every: in steps; eval_every None never evaluates.
  keep, best_by: see checkpoints/kept.py. With best_by each evaluation saves.
  tensorboard: None writes summaries if the package is installed.
  benchmarks: called at each evaluation with model_dir and a step whose
  checkpoint is saved; gives metrics such as 'eval/mme/perception'.
  Raises UserError for numbers that no run can have.
  """

  model_dir: str | os.PathLike
  mesh: Mesh | None = None
  seed: int = 0
  save_every: int = 1000
  eval_every: int | None = None
  log_every: int = 10
  keep: int | None = 3
  best_by: str | None = None
  tensorboard: bool | None = False
  benchmarks: Callable[[str | os.PathLike, int], Mapping[str, float]] | None = (
    None
  )

  def __post_init__(self):
    _check_counts(
      {
        'SAVE_EVERY': self.save_every,
        'LOG_EVERY': self.log_every,
        'EVAL_EVERY': self.eval_every,
        'KEEP': self.keep,
      }
    )
    if self.benchmarks is not None and is_remote(self.model_dir):
      raise UserError(
        f'MODEL_DIR {self.model_dir} is on a bucket, where EVAL_TASKS cannot '
        'write predictions: choose a folder, or run mmicl eval afterwards'
      )
    if abs(self.seed) >= 2**63:
      raise UserError(
        f'SEED is {self.seed}: give a number of at most 18 digits'
      )

  def evaluates(self, data: DataSettings) -> bool:
    """Whether the run evaluates; raises UserError if best_by needs it to."""
    if self.benchmarks is not None and self.eval_every is None:
      raise UserError('EVAL_TASKS needs EVAL_EVERY: give a number of steps')
    found = data.held_out is not None and self.eval_every is not None
    of_tasks = self.best_by is not None and of_task(self.best_by)
    if of_tasks and self.benchmarks is None:
      raise UserError(
        f'BEST_BY={self.best_by!r} is of a benchmark: give EVAL_TASKS'
      )
    if self.best_by is not None and not of_tasks and not found:
      raise UserError(
        f'BEST_BY={self.best_by!r} needs an evaluation: give EVAL_DATA and '
        'EVAL_EVERY'
      )
    return found


def _check_counts(counts: Mapping[str, int | None]) -> None:
  """Raises UserError for a number below 1; None, for 'never', is allowed."""
  for name, count in counts.items():
    if count is not None and count < 1:
      raise UserError(f'{name} is {count}: give at least 1')

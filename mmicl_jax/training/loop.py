"""Training, both stages: from gin files (`mmicl train`) or as a function.

A run is a function of its arguments and of the step: the step's dropout key
is fold_in(root, step), the data iterator's position is in every checkpoint,
and a resumed run computes bit for bit what an uninterrupted one does.
"""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from typing import NoReturn

import jax
import optax
from jax.sharding import Mesh

from mmicl_jax.checkpoints import model_dir as files
from mmicl_jax.checkpoints.checkpointer import Checkpointer
from mmicl_jax.cost.utilisation import Meter
from mmicl_jax.errors import UserError
from mmicl_jax.models import partitioning, trees
from mmicl_jax.models.configs import DTYPES, MMICLConfig, check_choice
from mmicl_jax.runtime import hosts, show
from mmicl_jax.runtime.files import write_text
from mmicl_jax.runtime.progress import ProgressBar
from mmicl_jax.tokenizer import Tokenizer
from mmicl_jax.training import limits, optim, stages
from mmicl_jax.training.features import check_features as check_features
from mmicl_jax.training.held_out import Evaluation
from mmicl_jax.training.log import RunLog
from mmicl_jax.training.preview import sample_prompts
from mmicl_jax.training.profile import StepTrace
from mmicl_jax.training.sigterm import Preemption
from mmicl_jax.training.state import (
  RunLayout,
  apply_fn,
  compiled_step,
  to_device,
)
from mmicl_jax.training.step import Params, TrainState
from mmicl_jax.training.tensorboard import Summaries
from mmicl_jax.types import BatchSource


@dataclasses.dataclass(frozen=True)
class TrainResult:
  """What a run leaves: all parameters, its last step and metrics."""

  params: Params
  step: int
  metrics: Mapping[str, float]
  ledger: stages.Ledger


# A signal is the process's: so is what notices it.
preemption = Preemption()


@preemption
def train(
  *,
  model: MMICLConfig,
  trainable: stages.Profile,
  train_data: BatchSource,
  model_dir: str | os.PathLike,
  train_steps: int,
  batch_size: int,
  learning_rate: optax.Schedule,
  optimizer: Callable[..., optax.GradientTransformation] = optim.adamw,
  num_microbatches: int = 1,
  loss_mean: str = 'tokens',
  frozen_dtype: str | None = None,
  init_from: str | os.PathLike | None = None,
  mesh: Mesh | None = None,
  seed: int = 0,
  save_every: int = 1000,
  keep: int | None = 3,
  best_by: str | None = None,
  log_every: int = 10,
  eval_data: BatchSource | None = None,
  eval_every: int | None = None,
  feature_cache: str | os.PathLike | None = None,
  vocabulary: str | os.PathLike | None = None,
  tensorboard: bool | None = False,
  on_metrics: Callable[[int, Mapping[str, float]], None] | None = None,
  name: str = 'training',
  config_text: str | None = None,
  profile: bool = False,
) -> TrainResult:
  """Trains until step `train_steps`, resuming what is in `model_dir`.

  trainable: a profile of stages.PROFILES, or regular expressions.
  optimizer: makes the optax chain of a schedule.
  batch_size: over all processes; `num_microbatches` must divide it.
  loss_mean: 'tokens' or 'microbatch', see train_step.gradients.
  init_from: a checkpoint whose weights a new run starts with (stage 1 to
    stage 2, or converted weights); a run being resumed does not read it.
  keep, best_by: see Checkpointer; with best_by each evaluation saves.
  feature_cache: where the features in train_data come from; its fingerprint
    must be that of the weights.
  on_metrics: is given the step and the means since the last call.
  tensorboard: None writes summaries where the package is installed.
  config_text: saved as config.gin.
  profile: traces five of the first steps for xprof, in model_dir.
  On SIGTERM the run saves and raises SystemExit(0). Raises UserError for
  settings that cannot work, before anything is compiled.
  """
  mesh = mesh or partitioning.make_mesh()
  limits.check_settings(
    batch_size, num_microbatches, mesh, loss_mean, train_steps
  )
  limits.check_counts(
    {
      'SAVE_EVERY': save_every,
      'LOG_EVERY': log_every,
      'EVAL_EVERY': eval_every,
      'KEEP': keep,
    }
  )
  check_choice('FROZEN_DTYPE', frozen_dtype or DTYPES[0], DTYPES)
  if abs(seed) >= 2**63:
    raise UserError(f'SEED is {seed}: give a number of at most 18 digits')
  if best_by is not None and (eval_data is None or not eval_every):
    raise UserError(
      f'BEST_BY={best_by!r} needs an evaluation: give EVAL_DATA and EVAL_EVERY'
    )
  _, parts = hosts.batch_share(mesh)
  chain = optimizer(learning_rate)
  layout = RunLayout.of(model, trainable, chain, mesh, frozen_dtype)
  ledger = layout.ledger()
  checkpointer = Checkpointer(model_dir, keep=keep, best_by=best_by)

  # As T5X splits them, so that both trainers start and drop alike.
  init_key, root = jax.random.split(jax.random.PRNGKey(seed))
  run = _begin(layout, checkpointer, train_data, init_from, init_key)
  start, resumed = int(run.state.step), run.saved is not None

  if feature_cache is not None:
    check_features(feature_cache, model, run.state.params, run.params)
  # Not before: a run that is refused must leave another's files as they are.
  if jax.process_index() == 0:
    _describe(checkpointer.directory, model, vocabulary, ledger, config_text)
  apply = apply_fn(model, mesh)
  step_fn = compiled_step(
    layout,
    apply=apply,
    optimizer=chain,
    learning_rate=learning_rate,
    rng=root if model.has_dropout else None,
    num_microbatches=num_microbatches,
    loss_mean=loss_mean,
  )
  evaluation = None
  if eval_data is not None and eval_every:
    stopped = preemption.requested
    evaluation = Evaluation(apply, mesh, eval_data, eval_every, stopped)
  stream = iter(train_data)
  log = RunLog(
    ProgressBar(name, train_steps, start),
    Summaries(checkpointer.directory) if _writes(tensorboard) else None,
    on_metrics if jax.process_index() == 0 else None,
    batch_size,
  )

  def leave(step: int) -> NoReturn:
    run.save(step)
    checkpointer.close()
    log.say(f'stopped by SIGTERM: saved at step {step}')
    raise SystemExit(0)

  def evaluate(step: int) -> None:
    if evaluation is None or not evaluation.due(step):
      return
    found = evaluation(run.params)
    if found is None:
      leave(step)
    log.write(step, found)
    if best_by is not None:
      run.save(step, found)

  trace = StepTrace(checkpointer.directory, start, profile)
  with log, trace:
    log.say(f'trainable: {ledger.profile}\n{show.table(ledger.rows())}')
    if resumed:
      log.say(f'resuming at step {start} from {checkpointer.directory}')
      evaluate(start)  # SIGTERM may have cut it short
    for step in range(start + 1, train_steps + 1):
      if preemption.requested():
        leave(step - 1)
      batch = _next(stream, batch_size, parts, step)
      if step == start + 1:
        kind = jax.devices()[0].device_kind
        trained = trees.flatten(run.state.params)
        meter = Meter(model, trained, batch, kind, jax.device_count())
        log.first(step, meter, _samples(batch, vocabulary))
      trace.before(step)
      batch = to_device(batch, mesh)
      run.state, metrics = step_fn(run.state, run.frozen, batch)
      trace.after(step, metrics)
      log.add(metrics)
      if step % log_every == 0 or step == train_steps:
        log.flush(step, getattr(train_data, 'skipped', 0))
      log.show(step)
      evaluate(step)
      if step % save_every == 0:
        run.save(step)
    run.save(max(start, train_steps))
    checkpointer.close()
    if best_by is not None:
      log.say(f'best by {best_by}: checkpoint_{checkpointer.best()}')
  return TrainResult(run.params, int(run.state.step), log.last, ledger)


@dataclasses.dataclass
class _Run:
  """The state of a run under way, and what of it is saved."""

  layout: RunLayout
  checkpointer: Checkpointer
  train_data: BatchSource
  state: TrainState
  frozen: Params
  saved: int | None  # the step of the newest checkpoint

  @property
  def params(self) -> Params:
    return stages.merge_params(self.state.params, self.frozen)

  def save(self, step: int, metrics: Mapping[str, float] | None = None) -> None:
    if step != self.saved:
      tree = self.layout.save_tree(self.state, self.frozen)
      place = self.train_data.get_state()
      self.checkpointer.save(step, tree, place, metrics)
      self.saved = step


def _begin(
  layout: RunLayout,
  checkpointer: Checkpointer,
  train_data: BatchSource,
  init_from: str | os.PathLike | None,
  key: jax.Array,
) -> _Run:
  """From the newest checkpoint; else from other weights; else random."""
  resumed = layout.resume(checkpointer)
  if resumed is not None:
    state, frozen, position = resumed
    step = int(state.step)
    if position is not None:
      train_data.set_state(position)
    elif seek := getattr(train_data, 'seek', None):
      seek(step)  # T5X saves no place that we can read
    return _Run(layout, checkpointer, train_data, state, frozen, step)
  if init_from is not None:
    state, frozen = layout.with_weights(os.fspath(init_from), key)
  else:
    state, frozen = layout.random(key)
  return _Run(layout, checkpointer, train_data, state, frozen, None)


def _samples(batch, vocabulary) -> list[tuple[str, bytes | None]]:
  """For a person's eye; without a vocabulary there is no text to show."""
  if vocabulary is None or not os.path.isfile(vocabulary):
    return []
  return sample_prompts(batch, Tokenizer(vocabulary))


def _writes(tensorboard: bool | None) -> bool:
  wanted = Summaries.available() if tensorboard is None else tensorboard
  return wanted and jax.process_index() == 0


def _describe(directory, model, vocabulary, ledger, config_text) -> None:
  files.write_config(directory, model)
  write_text(directory / files.LEDGER, ledger.to_json() + '\n')
  if vocabulary is not None:
    files.copy_vocabulary(directory, vocabulary)
  if config_text is not None:
    write_text(directory / files.GIN, config_text)


def _next(stream: Iterator, batch_size: int, parts: int, step: int):
  try:
    batch, _ = next(stream)
  except StopIteration:
    raise UserError(
      f'the training data ended before step {step}: let it repeat, or lower '
      'TRAIN_STEPS'
    ) from None
  rows = len(next(iter(batch.values())))
  if rows * parts != batch_size:
    raise UserError(
      f'the data gives {rows} rows a batch in each of {parts} processes, but '
      f'BATCH_SIZE is {batch_size}: make them agree'
    )
  return batch

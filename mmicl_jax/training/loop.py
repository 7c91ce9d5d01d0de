"""The training loop of both stages, for `mmicl train` and for Python.

A resumed run computes bit for bit what an uninterrupted one does: a step's
dropout key is fold_in(root, step), and every checkpoint holds the position of
the data iterator.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mmicl_jax.checkpoints.checkpointer import Checkpointer
from mmicl_jax.cost import chips
from mmicl_jax.errors import UserError
from mmicl_jax.models import partitioning
from mmicl_jax.runtime import hosts, show
from mmicl_jax.runtime.lock import only_writer
from mmicl_jax.runtime.remote import is_remote
from mmicl_jax.training import stages
from mmicl_jax.training.describe import describe_run, open_log, show_first
from mmicl_jax.training.features import check_features
from mmicl_jax.training.held_out import Evaluation
from mmicl_jax.training.log import dropped_counts
from mmicl_jax.training.profile import StepTrace
from mmicl_jax.training.settings import (
  DataSettings,
  ModelSettings,
  RunSettings,
  StepSettings,
)
from mmicl_jax.training.sigterm import Preempted, Preemption
from mmicl_jax.training.state import RunLayout, compiled_step, root_key
from mmicl_jax.training.step import Params, to_device
from mmicl_jax.training.trainee import Trainee


@dataclasses.dataclass(frozen=True)
class TrainResult:
  """What a run leaves: all parameters, its last step and metrics."""

  params: Params
  step: int
  metrics: Mapping[str, float]
  ledger: stages.Ledger


# A process gets the signal, so there is one of these for the process.
preemption = Preemption()


def _sole_writer(run_training: Callable[..., TrainResult]) -> Any:
  """Makes a run hold the lock of its MODEL_DIR: two would mix their files."""

  @functools.wraps(run_training)
  def locked(
    model: ModelSettings,
    data: DataSettings,
    steps: StepSettings,
    run: RunSettings,
    **rest: Any,
  ) -> TrainResult:
    if jax.process_index():  # the first process holds it for all of them
      return run_training(model, data, steps, run, **rest)
    if not is_remote(run.model_dir):
      with contextlib.suppress(OSError, ValueError):  # named below
        Path(run.model_dir).parent.mkdir(parents=True, exist_ok=True)
    with only_writer(run.model_dir):
      return run_training(model, data, steps, run, **rest)

  return locked


@preemption
@_sole_writer
def train(
  model: ModelSettings,
  data: DataSettings,
  steps: StepSettings,
  run: RunSettings,
  *,
  name: str = 'training',
  on_metrics: Callable[[int, Mapping[str, float]], None] | None = None,
  config_text: str | None = None,
  profile: bool = False,
  note: str | None = None,
) -> TrainResult:
  """Trains until step `steps.train_steps`; resumes a run in `run.model_dir`.

  name: the title of the progress bar. on_metrics: called with a step and the
  mean metrics since its last call. config_text: saved as config.gin. profile:
  traces five of the first steps for xprof into the run's directory. note:
  printed when the run begins. On SIGTERM the run saves and raises
  SystemExit(0). Raises UserError for settings that cannot work, before
  anything is compiled, and for bad data or numbers that are not finite.
  """
  mesh = run.mesh or partitioning.make_mesh()
  steps.check_mesh(mesh)
  run.evaluates(data)
  _, parts = hosts.batch_share(mesh)
  layout = RunLayout.of(
    model.config,
    model.trainable,
    steps.chain(),
    mesh,
    model.frozen_dtype,
    model.frozen_room(chips.tpu_memory(mesh.devices.flat[0].device_kind)),
  )
  checkpointer = Checkpointer(run.model_dir, keep=run.keep, best_by=run.best_by)
  # T5X splits the key like this, so both trainers begin with the same weights
  # and drop the same entries.
  init_key, dropout_key = jax.random.split(root_key(run.seed))
  trainee = Trainee.begin(
    layout, checkpointer, data.train, model.init_from, init_key
  )
  start, ledger = trainee.step, layout.ledger()
  if data.feature_cache is not None:
    check_features(
      data.feature_cache, model.config, trainee.state.params, trainee.params
    )
  # Only now: a run that is refused must not overwrite another run's files.
  describe_run(checkpointer.directory, layout, data, config_text)
  checkpointer.publish()

  step_fn = compiled_step(layout, steps, dropout_key)
  evaluation = None
  if run.evaluates(data):
    evaluation = Evaluation(model.config, mesh, data, run, preemption)
  if run.benchmarks is not None and jax.process_count() > 1:
    raise UserError(
      'EVAL_TASKS work in one process: leave them out, and run mmicl eval on '
      'the checkpoints'
    )
  log = open_log(name, checkpointer.directory, steps, run, start, on_metrics)

  def evaluate() -> None:
    due = run.eval_every is not None and trainee.step % run.eval_every == 0
    if not due or (evaluation is None and run.benchmarks is None):
      return
    trainee.check()
    if run.best_by is not None or run.benchmarks is not None:
      trainee.save()  # before the evaluation, which may fail or be interrupted
    found = {} if evaluation is None else evaluation(trainee.params)
    if run.benchmarks is not None:
      checkpointer.wait()
      found |= run.benchmarks(run.model_dir, trainee.step)
    if run.best_by is not None:
      if run.best_by not in found:
        raise UserError(
          f'BEST_BY is {run.best_by!r}: choose one of {", ".join(found)}'
        )
      checkpointer.rate(trainee.step, found)
    log.evaluated(trainee.step, found)

  with log, StepTrace(checkpointer.directory, start, profile) as trace:
    log.say(f'trainable: {ledger.profile}\n{show.table(ledger.rows())}')
    if note is not None:
      log.say(note)
    if shapes := getattr(data.train, 'shapes', ''):
      log.say(shapes)
    try:
      if trainee.saved is not None:
        log.say(f'resuming at step {start} from {run.model_dir}')
        evaluate()  # SIGTERM may have ended it early
      stream = iter(data.train)
      for step in range(start + 1, steps.train_steps + 1):
        preemption.check()
        # Before any process begins a step that another one cannot take.
        with hosts.failing_together(hosts.all_agree_meanwhile):
          batch, info = _next(stream, steps.batch_size, parts, step)
        log.dropped(info)
        if step == start + 1:
          show_first(log, step, batch, layout, data.vocabulary)
        trace.before(step)
        metrics = trainee.advance(step_fn, to_device(batch, mesh), info)
        trace.after(step, metrics)
        log.count(batch, info)
        log.add(step, metrics, dropped_counts(data.train))
        if step % run.log_every == 0:
          trainee.check()
        if step % run.save_every == 0:
          trainee.save()
        evaluate()
    except Preempted:
      trainee.save()
      checkpointer.close()
      log.say(f'stopped by SIGTERM: saved at step {trainee.step}')
      raise SystemExit(0) from None
    except hosts.AllFailed as failed:
      trainee.rescue()
      raise failed.error from failed.error.__cause__
    except Exception:
      # With several processes the others would wait for this one's save.
      if jax.process_count() == 1:
        trainee.rescue()
      raise
    trainee.save()
    checkpointer.close()
    if run.best_by is not None:
      log.say(f'best by {run.best_by}: checkpoint_{checkpointer.best()}')
  return TrainResult(trainee.params, trainee.step, log.last, ledger)


def _next(
  stream: Iterator[tuple[Mapping[str, np.ndarray], Any]],
  batch_size: int,
  parts: int,
  step: int,
) -> tuple[Mapping[str, np.ndarray], Any]:
  """The next batch; raises UserError if there is none or its size is wrong."""
  try:
    batch, info = next(stream)
  except StopIteration:
    raise UserError(
      f'the training data ended before step {step}: let it repeat, or lower '
      'TRAIN_STEPS'
    ) from None
  rows = len(batch['encoder_input_tokens'])
  if rows * parts != batch_size:
    raise UserError(
      f'the data gives {rows} rows a batch in each of {parts} processes, but '
      f'BATCH_SIZE is {batch_size}: make them agree'
    )
  return batch, info

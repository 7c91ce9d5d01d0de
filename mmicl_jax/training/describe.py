"""Writes what tells a person about a run: files beside checkpoints, the log."""

import os
from collections.abc import Callable, Mapping

import jax
import numpy as np
from etils import epath

from mmicl_jax.checkpoints import model_dir
from mmicl_jax.cost.utilisation import Meter
from mmicl_jax.models import trees
from mmicl_jax.runtime.files import write_text
from mmicl_jax.runtime.progress import ProgressBar
from mmicl_jax.runtime.remote import is_file
from mmicl_jax.tokenizer import Tokenizer
from mmicl_jax.training.log import RunLog
from mmicl_jax.training.preview import sample_prompts
from mmicl_jax.training.settings import DataSettings, RunSettings, StepSettings
from mmicl_jax.training.state import RunLayout
from mmicl_jax.training.tensorboard import Summaries


def describe_run(
  directory: epath.Path,
  layout: RunLayout,
  data: DataSettings,
  config_text: str | None,
) -> None:
  """Writes the files that make a checkpoint usable by itself.

  They are model.json, the ledger, the vocabulary and the gin configuration.
  Only process 0 writes.
  """
  if jax.process_index() != 0:
    return
  model_dir.write_config(directory, layout.config)
  write_text(directory / model_dir.LEDGER, layout.ledger().to_json() + '\n')
  if data.vocabulary is not None:
    model_dir.copy_vocabulary(directory, data.vocabulary)
  if config_text is not None:
    write_text(directory / model_dir.GIN, config_text)


def open_log(
  name: str,
  directory: epath.Path,
  steps: StepSettings,
  run: RunSettings,
  start: int,
  on_metrics: Callable[[int, Mapping[str, float]], None] | None,
) -> RunLog:
  """Opens the log of a run that begins after step `start`.

  directory: that of the summaries. on_metrics: called with a step and its
  metrics.
  """
  first = jax.process_index() == 0
  wanted = run.tensorboard
  if wanted is None:
    wanted = Summaries.available()
  return RunLog(
    ProgressBar(name, steps.train_steps, start),
    Summaries(directory) if wanted and first else None,
    on_metrics if first else None,
    steps,
    run.log_every,
  )


def show_first(
  log: RunLog,
  step: int,
  batch: Mapping[str, np.ndarray],
  layout: RunLayout,
  vocabulary: str | os.PathLike | None,
) -> None:
  """Gives the log what a run's first batch tells.

  That is how many FLOPs a step needs and, if there is a vocabulary, the first
  prompts.
  """
  trained = trees.flatten(layout.state.params)
  kind = jax.devices()[0].device_kind
  log.meter = Meter(layout.config, trained, batch, kind, jax.device_count())
  if vocabulary is not None and is_file(vocabulary):
    log.show_prompts(step, sample_prompts(batch, Tokenizer(vocabulary)))

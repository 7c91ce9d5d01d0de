"""`mmicl bench demo`: how fast the demo's model trains and answers here."""

import functools
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from mmicl_jax.checkpoints import model_dir, store
from mmicl_jax.demo import data
from mmicl_jax.demo.lessons import PHASES, SIZE, LessonStream, Phase
from mmicl_jax.demo.phases import config
from mmicl_jax.inference.load import load
from mmicl_jax.models import partitioning
from mmicl_jax.models.configs import MMICLConfig
from mmicl_jax.tokenizer import Tokenizer
from mmicl_jax.training import optim
from mmicl_jax.training.settings import StepSettings
from mmicl_jax.training.state import RunLayout, compiled_step
from mmicl_jax.training.step import to_device

STEPS = 20  # timed together in each round


def measure_demo(rounds: int = 5) -> list[dict[str, Any]]:
  """Rows of both stages (examples/s), generation (tokens/s) and memory (MiB).

  The weights are random. The steps' time leaves out making the batches, which
  a thread does ahead during training.
  """
  with tempfile.TemporaryDirectory() as folder:
    vocabulary = Path(folder) / model_dir.VOCABULARY
    vocabulary.write_bytes(data.demo_vocabulary())
    tokenizer = Tokenizer(vocabulary)
    model = config(tokenizer)
    rows = [
      _row(
        f'{phase.name}, batch {phase.batch_size}',
        'examples/s',
        _stage(phase, model, tokenizer, rounds),
      )
      for phase in PHASES[1:]
    ]
    rows.append(
      _row(
        'greedy answers, batch 64',
        'tokens/s',
        _generation(model, tokenizer, Path(folder), rounds),
      )
    )
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  mebibytes = peak / 2 ** (20 if sys.platform == 'darwin' else 10)
  return [*rows, _row('peak memory', 'MiB', [mebibytes])]


def _stage(
  phase: Phase, model: MMICLConfig, tokenizer: Tokenizer, rounds: int
) -> list[float]:
  mesh = partitioning.make_mesh()
  settings = StepSettings(
    STEPS, phase.batch_size, optim.constant(phase.learning_rate)
  )
  layout = RunLayout.of(model, phase.profile, settings.chain(), mesh)
  state, frozen = layout.random(jax.random.key(0))
  step = compiled_step(layout, settings)
  batch = to_device(LessonStream(phase, tokenizer, 0).batch(0), mesh)

  def steps() -> int:
    nonlocal state
    for _ in range(STEPS):
      state, _ = step(state, frozen, batch)
    jax.block_until_ready(state)
    return STEPS * phase.batch_size

  return _rates(steps, rounds)


def _generation(
  model: MMICLConfig, tokenizer: Tokenizer, folder: Path, rounds: int
) -> list[float]:
  mesh = partitioning.make_mesh()
  layout = RunLayout.of(model, 'all', optim.adamw(optim.constant(1.0)), mesh)
  state, _ = layout.random(jax.random.key(0))
  model_dir.write_config(folder, model)
  store.save_weights(folder, state.params)
  answerer = load(folder, batch_size=64)
  items = [
    data.make_item('icl_words_4', 0, i, 'heldout', SIZE).example
    for i in range(64)
  ]
  answer = functools.partial(
    answerer.generate, items, min_new_tokens=16, max_new_tokens=16
  )

  def work() -> int:
    # Otherwise later rounds would find the first one's images in the cache.
    answerer.engine.reader.forget()
    return sum(len(a.tokens) for a in answer())

  return _rates(work, rounds)


def _rates(work: Callable[[], int], rounds: int) -> list[float]:
  """Units per second of each round, after an untimed one that compiles."""
  work()
  rates = []
  for _ in range(rounds):
    begin = time.monotonic()
    rates.append(work() / (time.monotonic() - begin))
  return rates


def _row(what: str, unit: str, values: list[float]) -> dict[str, Any]:
  return {
    'what': what,
    'unit': unit,
    'median': round(statistics.median(values), 1),
    'least': round(min(values), 1),
    'most': round(max(values), 1),
  }

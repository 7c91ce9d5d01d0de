"""A run of a few steps on batches without files, and how runs compare."""

import contextlib
import dataclasses

import jax
import numpy as np
import pytest
import tiny_records
from flax import traverse_util

from mmicl_jax.training import loop, optim
from mmicl_jax.training.settings import (
  DataSettings,
  ModelSettings,
  RunSettings,
  StepSettings,
)

SCHEDULE = optim.log_warmup(1e-2, 10)
CONFIG = tiny_records.model(vocab_size=24, image_token=20)
STEPS = 6


class Data:
  """Batches that are a function of the position alone."""

  def __init__(self, batch_size=4, config=CONFIG, limit=None):
    self.limit = limit
    self.position, self.batch_size = 0, batch_size
    self.config = config

  def __iter__(self):
    while self.limit is None or self.position < self.limit:
      self.position += 1
      yield self.batch(self.position - 1), None

  def batch(self, position):
    rng = np.random.default_rng(position)
    b, size = self.batch_size, self.config.vit.image_size
    tokens = rng.integers(2, 20, (b, 5), np.int32)
    tokens[:, :2] = self.config.image_token
    targets = rng.integers(2, 20, (b, 3), np.int32)
    starts = np.pad(targets, ((0, 0), (1, 0)))[:, :-1]
    weights = rng.integers(0, 2, (b, 3), np.int32)
    weights[:, 0] = 1
    return {
      'encoder_input_tokens': tokens,
      'encoder_images': rng.integers(0, 256, (b, 1, size, size, 3), np.uint8),
      'decoder_input_tokens': starts,
      'decoder_target_tokens': targets,
      'decoder_loss_weights': weights,
    }

  def get_state(self):
    return {'position': self.position}

  def set_state(self, state):
    self.position = state['position']


def train_with(**values):
  """loop.train; each value goes to the part of the settings that has it."""
  parts = []
  for part in (ModelSettings, DataSettings, StepSettings, RunSettings):
    own = {field.name for field in dataclasses.fields(part)} & values.keys()
    parts.append(part(**{name: values.pop(name) for name in own}))
  return loop.train(*parts, **values)


def run(directory, steps=STEPS, **changes):
  settings = {
    'config': CONFIG,
    'trainable': 'tune',
    'train': Data(),
    'model_dir': directory,
    'train_steps': steps,
    'batch_size': 4,
    'learning_rate': SCHEDULE,
    'num_microbatches': 2,
    'save_every': 2,
    'log_every': 2,
  }
  return train_with(**settings | changes)


@contextlib.contextmanager
def one_step_for_equal_runs():
  """Runs that compute the same share one compiled step.

  Tracing and compiling it takes longer than the few steps of a test's run.
  """
  real, steps_of = loop.compiled_step, {}

  def compiled_step(layout, steps, rng=None):
    arrays = jax.tree.map(
      lambda x: (x.shape, str(x.dtype), x.sharding),
      (layout.state, layout.frozen),
    )
    key = (
      *(layout.config, str(arrays), rng if rng is None else str(rng)),
      *(steps.learning_rate, steps.optimizer, steps.num_microbatches),
      steps.loss_mean,
    )
    if key not in steps_of:
      steps_of[key] = real(layout, steps, rng)
    return steps_of[key]

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(loop, 'compiled_step', compiled_step)
    yield


def flat(tree):
  return traverse_util.flatten_dict(tree, sep='/')


def assert_bits_equal(a, b):
  a, b = flat(a), flat(b)
  assert a.keys() == b.keys()
  for name in a:
    np.testing.assert_array_equal(a[name], b[name], err_msg=name)

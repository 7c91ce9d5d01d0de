"""A SeqIO mixture whose tasks take the turns that the Grain loader gives them.

SeqIO's own mixtures draw the next task at random. Here the task of a position
is that of data.order.MixedOrder, so rates are exact, and unshuffled data come
in the same order under both trainers.
"""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from mmicl_jax.data.order import proportions, whose_turn


class ExactMixture(seqio.Mixture):
  """A mixture of tasks, not of mixtures, in the order they are given in."""

  def __init__(self, *args: Any, **options: Any):
    super().__init__(*args, sample_fn=in_turns, **options)

  @property
  def tasks(self) -> list[seqio.Task]:
    """As they were given; SeqIO would sort them by name."""
    return list(self._tasks)


def in_turns(
  datasets: Sequence[tf.data.Dataset], rates: Sequence[float | int], seed: Any
) -> tf.data.Dataset:
  """Interleaves datasets in exact proportion to `rates`; ends with the first.

  seed: not used, as nothing is drawn.
  """
  del seed
  shares = proportions(rates)

  def turn(position: np.int64) -> np.int64:
    return np.int64(whose_turn(int(position), shares)[0])

  def choice(position: tf.Tensor) -> tf.Tensor:
    found = tf.numpy_function(turn, [position], tf.int64, stateful=False)
    return tf.ensure_shape(found, [])

  turns = tf.data.Dataset.range(sys.maxsize).map(choice)
  return tf.data.Dataset.choose_from_datasets(
    list(datasets), turns, stop_on_empty_dataset=True
  )

"""What a run trains: begun or restored, advanced step by step, saved."""

import dataclasses
import os
from collections.abc import Callable, Mapping

import jax

from mmicl_jax.checkpoints.checkpointer import Checkpointer
from mmicl_jax.training import stages
from mmicl_jax.training.state import RunLayout
from mmicl_jax.training.step import Metrics, Params, TrainState
from mmicl_jax.types import BatchSource

# (state, frozen parameters, batch) -> the state behind the step, its metrics
StepFunction = Callable[..., tuple[TrainState, Metrics]]


@dataclasses.dataclass
class Trainee:
  """Both halves of the parameters, the optimizer's state and the step.

  saved: the step of the newest checkpoint; None before the first.
  """

  layout: RunLayout
  checkpointer: Checkpointer
  data: BatchSource
  state: TrainState
  frozen: Params
  step: int
  saved: int | None

  @classmethod
  def begin(
    cls,
    layout: RunLayout,
    checkpointer: Checkpointer,
    data: BatchSource,
    init_from: str | os.PathLike | None,
    key: jax.Array,
  ) -> 'Trainee':
    """Starts with the newest checkpoint; else other weights; else random ones.

    Sets `data` to the place where the checkpoint's run was.
    """
    resumed = layout.resume(checkpointer)
    if resumed is not None:
      state, frozen, position = resumed
      step = int(state.step)
      if position is not None:
        data.set_state(position)
      elif seek := getattr(data, 'seek', None):
        seek(step)  # T5X saves no place that we can read
      return cls(layout, checkpointer, data, state, frozen, step, step)
    if init_from is not None:
      state, frozen = layout.with_weights(os.fspath(init_from), key)
    else:
      state, frozen = layout.random(key)
    return cls(layout, checkpointer, data, state, frozen, 0, None)

  @property
  def params(self) -> Params:
    """All parameters."""
    return stages.merge_params(self.state.params, self.frozen)

  def advance(
    self, step_fn: StepFunction, batch: Mapping[str, jax.Array]
  ) -> Metrics:
    """Takes one step; returns before the device has computed it."""
    self.state, metrics = step_fn(self.state, self.frozen, batch)
    self.step += 1
    return metrics

  def save(self, metrics: Mapping[str, float] | None = None) -> None:
    """Saves this step, unless it is saved; metrics: of its evaluation."""
    if self.step != self.saved:
      tree = self.layout.save_tree(self.state, self.frozen)
      place = self.data.get_state()
      self.checkpointer.save(self.step, tree, place, metrics)
      self.saved = self.step

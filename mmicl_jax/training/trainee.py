"""What a run trains: it begins or is restored, takes steps, and is saved."""

import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax

from mmicl_jax.checkpoints.checkpointer import Checkpointer
from mmicl_jax.errors import UserError
from mmicl_jax.runtime.malloc import returning_large_blocks
from mmicl_jax.training import stages
from mmicl_jax.training.state import RunLayout
from mmicl_jax.training.step import Metrics, Params, TrainState
from mmicl_jax.types import BatchSource

# (state, frozen parameters, batch) -> (state after the step, its metrics)
StepFunction = Callable[..., tuple[TrainState, Metrics]]
# The metrics that tell whether a step was sound.
LOOKED_AT = ('loss', 'grad_norm', 'param_norm', 'tokens')


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
  _unchecked: list[tuple[int, Metrics, Any]] = dataclasses.field(
    default_factory=list
  )

  def __post_init__(self):
    self._place = self.data.get_state()  # in the data, after this step

  @classmethod
  def begin(
    cls,
    layout: RunLayout,
    checkpointer: Checkpointer,
    data: BatchSource,
    init_from: str | os.PathLike | None,
    key: jax.Array,
  ) -> 'Trainee':
    """Begins with the newest checkpoint, or `init_from`, or random weights.

    If there is a checkpoint, it sets `data` to the position saved in it.
    """
    with returning_large_blocks():
      resumed = layout.resume(checkpointer)
    if resumed is not None:
      state, frozen, position = resumed
      step = int(state.step)
      if position is not None:
        data.set_state(position)
      elif seek := getattr(data, 'seek', None):
        seek(step)  # T5X's checkpoints hold no position that we can read
      return cls(layout, checkpointer, data, state, frozen, step, step)
    if init_from is not None:
      with returning_large_blocks():
        state, frozen = layout.with_weights(os.fspath(init_from), key)
    else:
      state, frozen = layout.random(key)
    return cls(layout, checkpointer, data, state, frozen, 0, None)

  @property
  def params(self) -> Params:
    """All parameters."""
    return stages.merge_params(self.state.params, self.frozen)

  def advance(
    self, step_fn: StepFunction, batch: Mapping[str, jax.Array], info: Any
  ) -> Metrics:
    """Starts one step; returns before the device has computed it.

    info: what the data says about the batch, for the error message of an
    unsound step.
    """
    self.state, metrics = step_fn(self.state, self.frozen, batch)
    self.step += 1
    # Not when it is saved: then a batch may have been read for a step that
    # another process could not take.
    self._place = self.data.get_state()
    self._unchecked.append((self.step, metrics, info))
    return metrics

  def check(self) -> None:
    """Waits for all steps so far; raises UserError if one was unsound.

    A step is unsound if its loss, gradients or parameters are not finite, or if
    its batch had no target token.
    """
    steps = self._unchecked
    found = jax.device_get(
      [{name: metrics[name] for name in LOOKED_AT} for _, metrics, _ in steps]
    )
    for (step, _, info), values in zip(steps, found, strict=True):
      if not values['tokens']:
        raise UserError(
          f'the batch of step {step} has no target token'
          f'{_reason(info)}: correct the records, or raise BATCH_SIZE or '
          'TARGETS_LENGTH'
        )
      if not all(map(math.isfinite, values.values())):
        told = ', '.join(f'{n} {values[n]:.3g}' for n in LOOKED_AT[:3])
        raise UserError(
          f'step {step} gave no finite numbers ({told}). {self._last_sound()} '
          'Try a smaller PEAK_RATE, a longer warm-up, or float32 '
          '(presets.model.dtype, FROZEN_DTYPE)'
        )
    self._unchecked = []  # only now: nothing may be saved after an error

  def _last_sound(self) -> str:
    if self.saved is None:
      return 'Nothing was saved.'
    path = self.checkpointer.directory / f'checkpoint_{self.saved}'
    return f'The last sound checkpoint is {path}.'

  def rescue(self) -> None:
    """Saves what was trained, if it is sound, while an error ends the run.

    Errors of the save are ignored, so that the first error is shown.
    """
    with contextlib.suppress(Exception):
      if self.step:
        self.save()
    with contextlib.suppress(Exception):
      self.checkpointer.close()

  def save(self) -> None:
    """Saves this step unless it is saved already.

    Raises UserError and saves nothing if a step was unsound.
    """
    self.check()
    if self.step != self.saved:
      tree = self.layout.save_tree(self.state, self.frozen)
      self.checkpointer.save(self.step, tree, self._place)
      self.saved = self.step


def _reason(info: Any) -> str:
  """Why a batch may have no target token: a bad record, or its examples."""
  if skipped := getattr(info, 'skipped', ()):
    return f' ({skipped[0]})'
  names = ', '.join(name for name in getattr(info, 'ids', ()) if name)
  return f' ({names})' if names else ''

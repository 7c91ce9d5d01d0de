"""The model FLOP/s of a run, and their share of its devices' peak."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from mmicl_jax.cost import flops
from mmicl_jax.cost.chips import peak
from mmicl_jax.models.configs import MMICLConfig


class Meter:
  """Turns rows per second into model FLOP/s and their share of the peak.

  Padding counts; recomputed activations do not: see flops.train_step_flops.
  """

  def __init__(
    self,
    model: MMICLConfig,
    trainable: Iterable[str],
    batch: Mapping[str, Any],
    kind: str,
    devices: int,
  ):
    """Counts the FLOPs of one row.

    batch: one of the run's; only its shapes count. trainable: as for
    flops.train_step_flops. kind: JAX's device_kind of each device.
    """
    self._model, self._trainable = model, set(trainable)
    self._known: dict[flops.Lengths, int] = {}
    self._flops = self._cost(batch)
    self._steps: list[float] = []
    self._devices = devices
    self._peak = peak(kind)

  def count(self, batch: Mapping[str, Any]) -> None:
    """Takes the shape of a step's batch into the mean of the next call."""
    self._steps.append(self._cost(batch))

  def _cost(self, batch: Mapping[str, Any]) -> int | float:
    words = batch.get('qformer_input_tokens')
    images = batch.get('encoder_images')  # absent: the features are cached
    rows, inputs = batch['encoder_input_tokens'].shape
    none, one = (
      flops.Lengths(
        inputs=inputs,
        targets=batch['decoder_target_tokens'].shape[1],
        images=count,
        instruction=0 if words is None else words.shape[-1],
      )
      for count in (0, 1)
    )
    # Packed images are not even a whole number for each row.
    each = 0 if images is None else math.prod(images.shape[:2]) / rows
    return self._of(none) + each * (self._of(one) - self._of(none))

  def _of(self, lengths: flops.Lengths) -> int:
    if lengths not in self._known:
      self._known[lengths] = flops.train_step_flops(
        self._model, self._trainable, lengths
      )
    return self._known[lengths]

  def __call__(self, rows_per_second: float) -> dict[str, float]:
    """Rates for each device; `mfu` only if the device's peak is known."""
    if self._steps:
      self._flops = sum(self._steps) / len(self._steps)
      self._steps.clear()
    rate = rows_per_second * self._flops / self._devices
    found = {'model_tflops_per_second': rate / 1e12}
    return found if self._peak is None else found | {'mfu': rate / self._peak}

"""The model FLOP/s of a run, and their share of its devices' peak."""

from collections.abc import Iterable, Mapping
from typing import Any

from mmicl_jax.cost import flops
from mmicl_jax.cost.chips import peak
from mmicl_jax.models.configs import MMICLConfig


class Meter:
  """Turns examples per second into model FLOP/s and their share of the peak.

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
    """Counts the FLOPs of one example.

    batch: one of the run's; only its shapes count. trainable: as for
    flops.train_step_flops. kind: JAX's device_kind of each device.
    """
    words = batch.get('qformer_input_tokens')
    images = batch.get('encoder_images')  # absent: the features are cached
    lengths = flops.Lengths(
      inputs=batch['encoder_input_tokens'].shape[1],
      targets=batch['decoder_target_tokens'].shape[1],
      images=0 if images is None else images.shape[1],
      instruction=0 if words is None else words.shape[1],
    )
    self._flops = flops.train_step_flops(model, trainable, lengths)
    self._devices = devices
    self._peak = peak(kind)

  def __call__(self, examples_per_second: float) -> dict[str, float]:
    """Rates for each device; `mfu` only if the device's peak is known."""
    rate = examples_per_second * self._flops / self._devices
    found = {'model_tflops_per_second': rate / 1e12}
    return found if self._peak is None else found | {'mfu': rate / self._peak}

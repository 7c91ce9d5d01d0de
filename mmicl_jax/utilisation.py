"""How much of its devices' arithmetic a run uses: MFU, by the sums of flops.py.

Peaks are the vendors' dense bfloat16 figures, copied by hand.
"""

import re
from collections.abc import Mapping
from typing import Any

from mmicl_jax import flops, stages
from mmicl_jax.compile.chips import CHIPS
from mmicl_jax.models.configs import MMICLConfig

# JAX's device kind -> FLOP/s; the first that matches. 'TPU v5' is a v5p.
PEAKS = (
  (r'^TPU v4', CHIPS['v4'].flops),
  (r'^TPU v5 ?(lite|e)', CHIPS['v5e'].flops),
  (r'^TPU v5', CHIPS['v5p'].flops),
  (r'^TPU v6', CHIPS['v6e'].flops),
  (r'A40\b', 149.7e12),
  (r'A100', 312e12),
  (r'H100 PCIe', 756e12),
  (r'H[12]00', 989e12),
)


def peak(kind: str) -> float | None:
  """FLOP/s of a device by its kind; None for one that is not in the table."""
  return next((x for pattern, x in PEAKS if re.search(pattern, kind)), None)


class Meter:
  """Rates of a run in model FLOP/s, padding counted, and in parts of the peak.

  model FLOPs are flops.train_step's: what is recomputed does not count.
  """

  def __init__(
    self,
    model: MMICLConfig,
    trainable: stages.Profile,
    batch: Mapping[str, Any],
    kind: str,
    devices: int,
  ):
    """batch: one of the run's; its shapes say the lengths.

    kind: of each device, as JAX has it.
    """
    words = batch.get('qformer_input_tokens')
    images = batch.get('encoder_images')  # none: cached, no tower runs
    lengths = flops.Lengths(
      inputs=batch['encoder_input_tokens'].shape[1],
      targets=batch['decoder_target_tokens'].shape[1],
      images=0 if images is None else images.shape[1],
      instruction=0 if words is None else words.shape[1],
    )
    self._flops = flops.train_step(model, trainable, lengths)
    self._devices = devices
    self._peak = peak(kind)

  def __call__(self, examples_per_second: float) -> dict[str, float]:
    """Per device; `mfu` only where the device's peak is known."""
    rate = examples_per_second * self._flops / self._devices
    found = {'model_tflops_per_second': rate / 1e12}
    return found if self._peak is None else found | {'mfu': rate / self._peak}

"""What a chip can compute, hold and move, by its vendor's figures.

The TPUs' figures are the peaks of one chip that Google Cloud publishes, copied
by hand: bfloat16 FLOP/s, capacity and bandwidth of HBM, and the bandwidth of
all interconnect links in one direction. What a chip multiplies in a cycle is
that of its matrix units: 128 x 128 multiply-adds each, on a v6e 256 x 256.
Nothing here was measured.
"""

import dataclasses
import math
import re

from mmicl_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Chip:
  """One chip: bfloat16 FLOP/s, bytes of HBM, and bandwidths in bytes/s.

  ici_bandwidth: of all links. wraps: the length from which an axis of a slice
  is closed to a ring.
  """

  name: str
  flops: float
  hbm_bytes: int
  hbm_bandwidth: float
  ici_bandwidth: float
  links: int
  wraps: int
  flops_per_cycle: int
  cores: int = 1  # XLA joins them into one device

  @property
  def clock(self) -> float:
    """Cycles per second: the published FLOP/s over those of one cycle."""
    return self.flops / self.flops_per_cycle


GIB = 2**30
CHIPS = {
  chip.name: chip
  for chip in (
    Chip('v4', 275e12, 32 * GIB, 1228e9, 300e9, 6, 4, 2 * 8 * 128**2, cores=2),
    Chip('v5e', 197e12, 16 * GIB, 819e9, 200e9, 4, 16, 2 * 4 * 128**2),
    Chip('v5p', 459e12, 95 * GIB, 2765e9, 600e9, 6, 4, 2 * 8 * 128**2, cores=2),
    Chip('v6e', 918e12, 32 * GIB, 1640e9, 448e9, 4, 16, 2 * 4 * 256**2),
  )
}


@dataclasses.dataclass(frozen=True)
class Topology:
  """A slice of a pod: 'v5e:2x4' is 8 chips."""

  chip: Chip
  shape: tuple[int, ...]

  @property
  def chips(self) -> int:
    """The number of chips."""
    return math.prod(self.shape)

  @property
  def ici_bandwidth(self) -> float:
    """Bytes per second that a chip sends over the links which the slice uses.

    An axis of two chips, or one that is not closed to a ring, uses one link of
    each chip for a ring in one direction; a closed one uses two.
    """
    chip = self.chip
    if chip.links == 6:  # cubes of 4 x 4 x 4 close all three axes together
      closed = [all(not n % chip.wraps for n in self.shape)] * len(self.shape)
    else:
      closed = [n == chip.wraps for n in self.shape]
    used = sum(
      1 + ring for n, ring in zip(self.shape, closed, strict=True) if n > 1
    )
    return chip.ici_bandwidth * used / chip.links

  def __str__(self) -> str:
    return f'{self.chip.name}:{"x".join(map(str, self.shape))}'


def parse_topology(text: str) -> Topology:
  """Reads a text such as 'v5e:2x4'.

  Raises UserError for an unknown generation or a text of another form.
  """
  match = re.fullmatch(r'(\w+):(\d+(?:x\d+)+)', text)
  if match is None or match[1] not in CHIPS:
    raise UserError(
      f'the topology {text!r} is not GENERATION:SHAPE, such as v5e:2x4 or '
      f'v4:2x2x1; known generations are {", ".join(CHIPS)}'
    )
  found = Topology(CHIPS[match[1]], tuple(map(int, match[2].split('x'))))
  if not found.chips:
    raise UserError(f'the topology {text!r} has no chips')
  return found


# Patterns of JAX's device_kind, of which the first match counts. 'TPU v5' is a
# v5p.
_TPUS = (
  (r'^TPU v4', CHIPS['v4']),
  (r'^TPU v5 ?(lite|e)', CHIPS['v5e']),
  (r'^TPU v5', CHIPS['v5p']),
  (r'^TPU v6', CHIPS['v6e']),
)
# And dense bfloat16 FLOP/s: the vendors' figures, copied by hand.
PEAKS = (
  *((pattern, chip.flops) for pattern, chip in _TPUS),
  (r'A40\b', 149.7e12),
  (r'A100', 312e12),
  (r'H100 PCIe', 756e12),
  (r'H[12]00', 989e12),
)

# Bytes a second of each device's memory: the vendors' figures, copied by hand.
BANDWIDTHS = (
  *((pattern, chip.hbm_bandwidth) for pattern, chip in _TPUS),
  (r'A40\b', 696e9),
  (r'A100.*80GB', 2039e9),
  (r'A100', 1555e9),
  (r'H100 PCIe', 2000e9),
  (r'H100', 3350e9),
  (r'H200', 4800e9),
)


def tpu_memory(kind: str) -> int | None:
  """Bytes of a TPU's memory by its device_kind; None for other devices."""
  return next(
    (chip.hbm_bytes for pattern, chip in _TPUS if re.search(pattern, kind)),
    None,
  )


def peak(kind: str) -> float | None:
  """Peak bfloat16 FLOP/s of a device by its device_kind; None if unknown."""
  return next((x for pattern, x in PEAKS if re.search(pattern, kind)), None)


def bandwidth(kind: str) -> float | None:
  """Bytes per second of a device's memory; None for an unknown kind."""
  return next(
    (x for pattern, x in BANDWIDTHS if re.search(pattern, kind)), None
  )

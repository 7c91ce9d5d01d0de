"""The few shapes of prompts that a server compiles programs for."""

import dataclasses
from collections.abc import Sequence

from mmicl_jax.errors import UserError
from mmicl_jax.inference.prompts import bucket

# Long prompts are rare and their keys and values large, so they have fewer
# slots. Short ones are encoded together: alone they would leave a device idle.
LENGTHS = {128: (16, 4), 256: (16, 2), 512: (8, 1), 1024: (4, 1)}


@dataclasses.dataclass(frozen=True)
class PoolShape:
  """Prompts of up to `length` tokens.

  slots: how many can be answered at a time, without beams. together: how many
  are encoded at a time.
  """

  length: int
  slots: int
  together: int = 1

  def __post_init__(self):
    if not 1 <= self.together <= self.slots:
      raise UserError(
        f'{self.together} prompts together in {self.slots} slots: give at '
        'least one, and not more than slots.'
      )

  @property
  def counts(self) -> tuple[int, ...]:
    """How many prompts a program encodes: one, or as many as go together."""
    return tuple(sorted({1, self.together}))

  @property
  def steps(self) -> tuple[int, ...]:
    """How many of the slots a program runs: a quarter of them, or all."""
    return tuple(sorted({max(self.slots // 4, 1), self.slots}))


def pool_shapes(longest: int) -> tuple[PoolShape, ...]:
  """The shapes for prompts of up to `longest` tokens."""
  shapes = []
  for length, (slots, together) in LENGTHS.items():
    own = min(length, bucket(longest, 16))
    shapes.append(PoolShape(own, slots, together))
    if own >= longest:
      return tuple(shapes)
  return (*shapes, PoolShape(bucket(longest, 16), shapes[-1].slots))


def shape_for(shapes: Sequence[PoolShape], tokens: int) -> PoolShape:
  """The smallest shape with room; raises UserError if there is none."""
  for shape in sorted(shapes, key=lambda shape: shape.length):
    if tokens <= shape.length:
      return shape
  most = max(shape.length for shape in shapes)
  raise UserError(
    f'the prompt has {tokens} tokens, but the server takes {most}: give fewer '
    'demonstrations, images or words.'
  )

"""The few shapes of prompts that a server compiles programs for."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TypeVar

from mmicl_jax.errors import UserError
from mmicl_jax.inference.prompts import bucket

Item = TypeVar('Item')


@dataclasses.dataclass(frozen=True)
class PoolShape:
  """Prompts of up to `length` tokens.

  slots: how many can be answered at a time, without beams. together: how many
  are encoded at a time. steps: for how many rows the decoder has a program; by
  default for one and for all.
  """

  length: int
  slots: int
  together: int = 1
  steps: tuple[int, ...] = ()

  def __post_init__(self):
    if not 1 <= self.together <= self.slots:
      raise UserError(
        f'{self.together} prompts together in {self.slots} slots: give at '
        'least one, and not more than slots.'
      )
    if not self.steps:
      object.__setattr__(self, 'steps', tuple(sorted({1, self.slots})))
    if max(self.steps) != self.slots:
      raise UserError(
        f'steps is {self.steps}, but there are {self.slots} slots: the largest '
        'step has all of them.'
      )

  @property
  def counts(self) -> tuple[int, ...]:
    """How many prompts a program encodes: one, or as many as go together."""
    return tuple(sorted({1, self.together}))

  @property
  def programs(self) -> int:
    """How many are compiled for greedy answers and samples."""
    return len(self.counts) + 1 + len(self.steps)

  def step(self, rows: int) -> int:
    """The rows of the smallest program that has room for so many."""
    return min(count for count in self.steps if count >= rows)

  def parts(self, items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Cuts prompts, or what belongs to them, into those of one program.

    Half of a program's rows at most are empty: each costs as much as a prompt.
    """
    while items:
      count = self.together if 2 * len(items) >= self.together else 1
      yield items[:count]
      items = items[count:]


# Most prompts are one image and a question: they have the most slots, and are
# encoded together, since alone they would leave a device idle. Long ones are
# rare and their keys and values large. With the programs for images there are
# 24 of them, which is as many as a start should have to wait for.
SHAPES = (
  PoolShape(64, 32, 8, (1, 8, 32)),
  PoolShape(128, 16),
  PoolShape(256, 16),
  PoolShape(512, 8),
  PoolShape(1024, 4, 1, (4,)),
)


def pool_shapes(longest: int) -> tuple[PoolShape, ...]:
  """The shapes for prompts of up to `longest` tokens."""
  shapes = []
  for shape in SHAPES:
    own = min(shape.length, bucket(longest, 16))
    shapes.append(dataclasses.replace(shape, length=own))
    if own >= longest:
      return tuple(shapes)
  # The longest takes the place of a short one, so that there are not more.
  last = dataclasses.replace(shapes[-1], length=bucket(longest, 16))
  return (shapes[0], *shapes[2:], last)


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

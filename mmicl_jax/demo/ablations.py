"""The demo without a part of its training, as the paper ablates MMICL's.

The first phases stand in for pre-trained towers and a pre-trained language
model, and stay as they are.
"""

import dataclasses
import itertools
import re
from collections.abc import Callable, Sequence

from mmicl_jax.context.text import IMAGE
from mmicl_jax.context.turns import Example
from mmicl_jax.data.ablations import ABLATIONS, ablated
from mmicl_jax.demo.lessons import Phase


def _without_names(example: Example) -> Example:
  """The demo's short declaration is a name alone: '<image0>图' -> '图'."""
  inputs = re.sub(f'<image[0-9]+>(?={IMAGE})', '', example.inputs)
  # Its turns would be declared again.
  return dataclasses.replace(example, inputs=inputs, turns=())


# What the prompts of both stages lack, and how a prompt is made to lack it.
_OF_DATA: dict[str, tuple[str, Callable[[Example], Example | None]]] = {
  'no_declarations': ('images have no names before them', _without_names),
  'no_interconnected': (
    ABLATIONS['interconnected'],
    lambda example: ablated(example, ('interconnected',)),
  ),
  'no_few_shot': (
    ABLATIONS['few_shot'],
    lambda example: ablated(example, ('few_shot',)),
  ),
}
DEMO_ABLATIONS = (*_OF_DATA, 'stage_1_only', 'stages_1_and_2')

Change = Callable[[Sequence[Example]], list[Example]]


def ablated_phases(
  phases: Sequence[Phase], name: str | None
) -> tuple[Phase, ...]:
  """The phases that are trained, whose notes say what they lack."""
  if name == 'stage_1_only':
    return tuple(phases[:-1])
  if name not in _OF_DATA:
    return tuple(phases)
  about, _ = _OF_DATA[name]
  rest = (
    dataclasses.replace(phase, note=f'{phase.note} ({name}: {about})')
    for phase in phases[1:]
  )
  return phases[0], *rest


def lesson_change(name: str | None, place: int) -> Change | None:
  """How a phase, from 0 on, has its prompts changed; None if it has not."""
  if name not in _OF_DATA or place == 0:
    return None
  _, lacking = _OF_DATA[name]

  def change(examples: Sequence[Example]) -> list[Example]:
    found = [lacking(example) for example in examples]
    left = [example for example in found if example is not None]
    if len(left) == len(found):
      return left
    # Others of the batch, again, stand for prompts that are left out.
    others = itertools.cycle(left)
    return [next(others) if x is None else x for x in found]

  return change

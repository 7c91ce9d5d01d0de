"""What the demo's training lacks under each ablation."""

import pytest

from mmicl_jax.context.text import IMAGE, match_images
from mmicl_jax.demo.ablations import (
  DEMO_ABLATIONS,
  ablated_phases,
  lesson_change,
)
from mmicl_jax.demo.data import batch_examples
from mmicl_jax.demo.lessons import PHASES


def prompts(name, place):
  examples, changed = [], []
  change = lesson_change(name, place) or list
  for shape in PHASES[place].lessons[-1].shapes:
    batch = [item.example for item in batch_examples(shape.mix, 0, 0, 64)]
    examples += batch
    changed += change(batch)
  return examples, changed


@pytest.mark.parametrize('name', [None, *DEMO_ABLATIONS])
def test_only_what_it_names_is_missing(name):
  phases = ablated_phases(PHASES, name)
  assert len(phases) == len(PHASES) - (name == 'stage_1_only')
  assert phases[0] == PHASES[0]
  assert (f'({name}: ' in phases[1].note) == str(name).startswith('no_')
  first, same = prompts(name, 0)  # the stand-in for pre-training
  assert same == first
  before, after = prompts(name, 2)
  assert len(after) == len(before)
  named = [one for one in after if f'<image0>{IMAGE}' in one.inputs]
  shown = [one for one in after if '\n\n' in one.inputs]
  # Images of the query, which stands last.
  several = [
    one for one in after if one.inputs.split('\n\n')[-1].count(IMAGE) > 1
  ]
  assert bool(named) == (name != 'no_declarations')
  assert bool(shown) == (name != 'no_few_shot')
  assert bool(several) == (name != 'no_interconnected')
  if name in (None, 'stage_1_only', 'stages_1_and_2'):
    assert after == before
  for one in after:  # each image has its place still
    _, problem = match_images(one.inputs, len(one.images))
    assert not problem


def test_without_names_images_are_spoken_of_by_number():
  before, after = prompts('no_declarations', 2)
  assert not any('<image' in one.inputs for one in after)
  assert any('like image' in one.inputs for one in after)
  assert [one.targets for one in after] == [one.targets for one in before]

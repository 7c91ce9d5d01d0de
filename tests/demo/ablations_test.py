"""What the demo's training lacks under each ablation."""

import pytest

from mmicl_jax.demo.ablations import (
  DEMO_ABLATIONS,
  ablated_phases,
  lesson_change,
)
from mmicl_jax.demo.data import batch_examples
from mmicl_jax.demo.lessons import PHASES


def prompts(name, place):
  mix = PHASES[place].lessons[-1].shapes[0].mix
  examples = [item.example for item in batch_examples(mix, 0, 0, 64)]
  change = lesson_change(name, place)
  return examples, change(examples) if change else examples


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
  declared = [one for one in after if 'image 0 is <image0>' in one.inputs]
  shown = [one for one in after if '\n\n' in one.inputs]
  several = [
    one
    for one in after
    if len(one.images) > 1 and one.inputs.count('\n\n') + 1 < len(one.images)
  ]
  assert bool(declared) == (name != 'no_declarations')
  assert bool(shown) == (name != 'no_few_shot')
  assert bool(several) == (name != 'no_interconnected')
  if name in (None, 'stage_1_only', 'stages_1_and_2'):
    assert after == before

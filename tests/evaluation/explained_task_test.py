"""A benchmark's items with demonstrations, ready to be explained."""

import os

import pytest
from benchmark_trees import TREES
from keyed_prompts import follows_the_key

from mmicl_jax.errors import UserError
from mmicl_jax.evaluation.declaration import load_benchmark
from mmicl_jax.evaluation.explained_task import TaskPlan, task_prompts
from mmicl_jax.evaluation.explanation import explain_records


def prompts_of(name, folder, limit=None, **settings):
  raw = TREES[name](folder / 'raw')
  plan = TaskPlan(load_benchmark(name), raw, **{'shots': 2, **settings})

  def look(paths):
    raise AssertionError('nothing is retrieved')

  return task_prompts(plan, folder / 'pictures', look, limit)


def test_items_are_asked_with_demonstrations(tmp_path):
  chosen, left_out = prompts_of('vsr', tmp_path)
  assert not left_out and len(chosen) > 1
  for record, example in chosen:
    assert 1 <= example.num_shots <= 2
    assert example.targets == record.output_text and record.dataset == 'vsr'
    assert record.where.startswith('vsr: ') and record.id in record.where
    assert all(map(os.path.isfile, example.images))
    # The answer is said as demonstrations say theirs.
    assert example.targets.capitalize() in ('Yes', 'No', 'True', 'False')
  assert len(prompts_of('vsr', tmp_path, 1)[0]) == 1
  again, _ = prompts_of('vsr', tmp_path)
  assert [x.inputs for _, x in again] == [x.inputs for _, x in chosen]
  facts = {'checkpoint': 'c', 'task': 'vsr'}
  out = tmp_path / 'out'
  found = explain_records(chosen, {}, follows_the_key, out, facts)
  assert found['records'] == len(chosen)
  assert {row['kind'] for row in found['effects']} >= {'drop', 'swap_image'}


def test_each_of_four_questions_has_its_own_answer(tmp_path):
  chosen, _ = prompts_of('winoground', tmp_path, 4, shots=1)
  assert sorted(record.id[-2:] for record, _ in chosen) == [
    *('/0', '/1', '/2', '/3')
  ]
  answers = [example.targets for _, example in chosen]
  assert sorted(answers) == ['No', 'No', 'Yes', 'Yes']


def test_mistakes(tmp_path):
  with pytest.raises(UserError, match='--shots 20'):
    prompts_of('vsr', tmp_path, shots=20)
  with pytest.raises(UserError, match="no split 'tset'"):
    prompts_of('vsr', tmp_path, splits=('tset',))
  with pytest.raises(UserError, match='--shot_source nearby'):
    prompts_of('vsr', tmp_path, shot_source='nearby')

"""Runs of the demo side by side: groups, medians, and what is refused."""

import json

import pytest

from mmicl_jax import __main__ as cli
from mmicl_jax.demo.compare import compare_demos
from mmicl_jax.demo.results import Results, Score
from mmicl_jax.demo.tasks import ROWS, SEVERAL
from mmicl_jax.errors import UserError


def write(folder, seed, right, ablation=None):
  """Results of a run that answered so many of 100 right in each row."""
  folder.mkdir(parents=True)
  shots = [
    Score(name, 100, right, 1 / ways, shots=ways * each, ways=ways)
    for name, (ways, each) in ROWS.items()
  ]
  found = Results(
    seed, 'cpu', 1.0, 1, 1, tuple(shots), (),
    tasks=tuple(Score(x, 10, 5, 0.2) for x in (*SEVERAL, 'composition')),
    digits=tuple(Score(f'digits_{x.name}', 10, 3, 0.5) for x in shots),
    ablation=ablation,
  )  # fmt: skip
  found.save(str(folder))
  return folder


def test_a_row_is_the_median_of_the_seeds_of_one_ablation(tmp_path):
  whole = write(tmp_path / 'whole', 0, 90)
  write(whole / 'seed_1', 1, 96)
  write(whole / 'seed_2', 2, 92)
  lacking = write(tmp_path / 'lacking', 0, 40, 'no_few_shot')
  more = write(tmp_path / 'more', 1, 50, 'no_few_shot')
  first, second = compare_demos([whole, lacking, more])
  assert first['ablation'] == 'none' and first['seeds'] == 3
  assert first['2 words, 2 each'] == '92.0 (90.0 to 96.0)'
  assert first['digits, 2 words, 2 each'] == '30.0 (30.0 to 30.0)'
  assert first['several images'] == '50.0 (50.0 to 50.0)'
  assert second['ablation'] == 'no_few_shot' and second['seeds'] == 2
  assert second['5 words, 1 each'] == '45.0 (40.0 to 50.0)'


def test_one_run_has_no_spread(tmp_path):
  (row,) = compare_demos([write(tmp_path / 'one', 0, 90)])
  assert row['2 words, 1 each'] == '90.0'


def test_folders_that_cannot_be_compared_are_named(tmp_path):
  one = write(tmp_path / 'one', 0, 90)
  with pytest.raises(UserError, match='other/results.json does not exist'):
    compare_demos([one, tmp_path / 'other'])
  same = write(tmp_path / 'same', 0, 80)
  with pytest.raises(UserError, match='seed of another run'):
    compare_demos([one, same])
  found = json.loads((same / 'results.json').read_text('utf-8'))
  del found['digits'], found['seed']
  (same / 'results.json').write_text(json.dumps({**found, 'seed': 1}), 'utf-8')
  with pytest.raises(UserError, match='of another version'):
    compare_demos([same])


def test_the_command_prints_markdown_and_json(tmp_path, capsys):
  one = str(write(tmp_path / 'one', 0, 90))
  assert cli.main(['demo', '--compare', one]) == 0
  heading, _, row = capsys.readouterr().out.splitlines()
  assert heading.startswith('| ablation | preset | seeds | 2 words, 1 each |')
  assert row.startswith('| none | default | 1 | 90.0 |')
  assert cli.main(['demo', '--compare', one, '--json']) == 0
  assert json.loads(capsys.readouterr().out)[0]['composition'] == '50.0'

"""The scorers' benchmark times scoring that works."""

import json
import sys

import pytest
from score_cases import score

from mmicl_jax.bench import score as bench
from mmicl_jax.bench.score_data import write_captions, write_vqa
from mmicl_jax.errors import UserError


@pytest.mark.slow
def test_each_case_has_a_row():
  rows = bench.measure_scoring(rounds=1, questions=3, images=2)
  assert [row['what'].split(',')[0] for row in rows][:3] == [
    'mmicl score --help',
    'VQAv2',
    'captions of 2 images',
  ]
  for row in rows:
    assert row['least'] == row['median'] == row['most'] > 0 and row['busy'] > 0


@pytest.mark.parametrize(
  'name, write', [('vqav2', write_vqa), ('coco_caption', write_captions)]
)
def test_the_data_is_scored_and_the_same_each_time(name, write, tmp_path):
  write(tmp_path / 'one', 30)
  write(tmp_path / 'two', 30)
  for path in (tmp_path / 'one').iterdir():
    assert path.read_bytes() == (tmp_path / 'two' / path.name).read_bytes()
  metrics = score(name, tmp_path / 'one', tmp_path / 'one/answers.jsonl')
  headline, value = next(iter(metrics['metrics'].items()))
  assert value > 0, headline


def test_a_case_that_fails_is_an_error():
  argv = [sys.executable, '-c', 'raise SystemExit("no such thing")']
  with pytest.raises(UserError, match='no such thing'):
    bench._seconds(argv, java=False)


def test_a_row_has_the_median_and_the_spread(monkeypatch):
  taken = iter([(3.0, 1.0), (1.0, 5.0), (2.0, 2.0)])
  monkeypatch.setattr(bench, '_seconds', lambda argv, java: next(taken))
  row = bench._row('x', [], rounds=3)
  assert json.loads(json.dumps(row)) == {
    **{'what': 'x', 'median': 2.0, 'least': 1.0, 'most': 3.0, 'busy': 2.0}
  }

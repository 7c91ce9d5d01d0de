"""Shards of `mmicl explain` give what one run gives, byte for byte."""

import json

import pytest
from keyed_prompts import follows_the_key, records_in

from mmicl_jax.__main__ import main
from mmicl_jax.errors import UserError
from mmicl_jax.evaluation.explanation import (
  explain_part,
  explain_records,
  explainable,
)
from mmicl_jax.evaluation.explanation_shards import run_digest, write_shard

FACTS = {'checkpoint': 'c', 'input': 'i'}
FILES = ['explain.json', 'explain.jsonl', 'index.html']


def some_too_long(ones):
  """Every third prompt does not fit."""
  scores = follows_the_key(ones)
  for i, one in enumerate(ones):
    if one.example.name.endswith(('3', '6', '9')):
      scores[i] = None
  return scores


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  """One run of 37 records in blocks of four, and three shards of it."""
  folder = tmp_path_factory.mktemp('runs')
  chosen, left_out = explainable(records_in(folder, 37))
  explain_records(chosen, left_out, some_too_long, folder / 'whole', FACTS)
  run = run_digest(chosen, 'model')
  for i in range(3):
    part = explain_part(chosen, some_too_long, shard=(i, 3))
    place = folder / f'part{i}'
    write_shard(place, (i, 3), run, len(chosen), FACTS, left_out, part)
  return folder


def merge(folder, *names, out='merged'):
  parts = [str(folder / f'part{name}') for name in names]
  return main(['merge', str(folder / out), *parts])


def test_merged_shards_are_the_whole(runs, capsys):
  assert merge(runs, 2, 0, 1) == 0
  merged = runs / 'merged'
  assert sorted(path.name for path in merged.iterdir()) == FILES
  for name in FILES:
    assert (merged / name).read_bytes() == (runs / 'whole' / name).read_bytes()
  found = json.loads((merged / 'explain.json').read_text())
  assert found['left_out']['too long'] > 5
  assert 12 < found['records'] < 37


def refused(capsys, *command, **options):
  assert merge(*command, **options) == 2
  return capsys.readouterr().err


def test_what_does_not_belong_together_is_refused(runs, capsys):
  assert 'shard 2/3 is missing' in refused(capsys, runs, 0, 1, out='no')
  assert 'are both shard 0/3' in refused(capsys, runs, 0, 1, 0, out='no')
  path = runs / 'part1' / 'shard.json'
  kept = path.read_text()
  value = json.loads(kept)
  value['told']['run'] = 'another'
  path.write_text(json.dumps(value))
  said = refused(capsys, runs, 0, 1, 2, out='no')
  assert 'are not shards of the same run' in said
  path.write_text(kept)
  lines = runs / 'part1' / 'explain.jsonl'
  whole = lines.read_text()
  lines.write_text(whole[:-20])
  said = refused(capsys, runs, 0, 1, 2, out='no')
  assert 'shard.json: not a shard of `mmicl explain`' in said
  lines.write_text(whole)
  assert not (runs / 'no').exists()
  chosen, _ = explainable(runs / 'some.jsonl', limit=2)
  with pytest.raises(UserError, match='nothing is left for shard 2/3'):
    explain_part(chosen, some_too_long, shard=(2, 3))

"""The whole demo, cut to a few steps, where PyTorch is not installed."""

import dataclasses
import importlib.util
import json

import pytest

from mmicl_jax import __main__ as cli
from mmicl_jax.demo import lessons, pictures, results, run

load = pictures.load_gallery


@pytest.fixture
def short(monkeypatch):
  """Two steps of both stages and of the towers, a few prompts of each kind."""
  phases = tuple(
    dataclasses.replace(
      phase,
      lessons=(lessons.Lesson(2, phase.lessons[-1].shapes[:1]),),
      batch_size=4,
    )
    for phase in run.PHASES[1:]
  )
  monkeypatch.setattr(run, 'PHASES', phases)
  monkeypatch.setattr(run, 'TOWER_STEPS', 2)
  monkeypatch.setattr(run.towers, 'KINDS', 4)
  monkeypatch.setattr(run, 'OTHER_TASKS', ('odd_one_out', 'composition'))
  whole = pictures.load_gallery('train', lessons.SIZE)
  few = dataclasses.replace(whole, kinds=whole.kinds[:64])
  monkeypatch.setattr(
    pictures,
    'load_gallery',
    lambda split='train', size=20: (
      few if split == 'train' else load(split, size)
    ),
  )
  held_out = run._held_out
  monkeypatch.setattr(
    run,
    '_held_out',
    lambda task, count, seed, split='heldout': held_out(
      task, min(count, 6) if task == 'which' else 3, seed, split
    ),
  )
  monkeypatch.setattr(
    run, 'HeldOut', lambda *args: _first(lessons.HeldOut(*args))
  )


def _first(held_out):
  held_out._batches = held_out._batches[:1]
  return held_out


@pytest.mark.slow
def test_demo_ends_with_all_it_promises(short, tmp_path, monkeypatch, capsys):
  find = importlib.util.find_spec
  monkeypatch.setattr(  # as if it were not there
    importlib.util, 'find_spec', lambda x, *a: x != 'torch' and find(x, *a)
  )
  out = tmp_path / 'demo'
  assert cli.main(['demo', '--out', str(out), '--json']) == 0
  printed = json.loads(capsys.readouterr().out)
  assert [row['items'] for row in printed['shots']] == [3] * 8
  assert [row['ways'] for row in printed['digits']] == [2] * 3 + [5] * 3
  assert 'pip install' in printed['export']
  for name in ('index.html', 'spiece.model', 'stage_2/model.json'):
    assert (out / name).is_file(), name
  for name in ('pytorch/model.safetensors', 'held_out/icl_words_4.jsonl'):
    assert (out / name).is_file(), name
  assert results.Results.load(str(out / 'results.json')).seed == 0

  words = printed['ask_command'].split("'")
  command = words[0].split()[1:] + [words[1]] + words[2].split()
  assert cli.main(command) == 0
  assert capsys.readouterr().out.strip() == printed['ask_answer'].strip()
  # A finished demo is not written over.
  assert cli.main(['demo', '--out', str(out)]) == 2

"""The whole demo, cut to a few steps, where PyTorch is not installed."""

import dataclasses
import importlib.util
import json

import pytest

from mmicl_jax import __main__ as cli
from mmicl_jax.demo import asking, lessons, phases, pictures, results

load = pictures.load_gallery


@pytest.fixture
def short(monkeypatch):
  """Two steps of both stages and of the towers, a few prompts of each kind."""
  few_steps = tuple(
    dataclasses.replace(
      phase,
      lessons=(lessons.Lesson(2, phase.lessons[-1].shapes[:1]),),
      batch_size=4,
    )
    for phase in lessons.PHASES[1:]
  )
  monkeypatch.setattr(phases, 'PHASES', few_steps)
  monkeypatch.setattr(phases, 'TOWER_STEPS', 2)
  monkeypatch.setattr(phases.towers, 'KINDS', 4)
  monkeypatch.setattr(asking, 'OTHER_TASKS', ('odd_one_out', 'composition'))
  whole = pictures.load_gallery('train', lessons.SIZE)
  few = dataclasses.replace(whole, kinds=whole.kinds[:64])
  monkeypatch.setattr(
    pictures,
    'load_gallery',
    lambda split='train', size=20: (
      few if split == 'train' else load(split, size)
    ),
  )
  held_out = asking.held_out
  monkeypatch.setattr(
    asking,
    'held_out',
    lambda task, count, seed, split='heldout': held_out(
      task, min(count, 6) if task == 'which' else 3, seed, split
    ),
  )
  monkeypatch.setattr(
    phases, 'HeldOut', lambda *args: _first(lessons.HeldOut(*args))
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
  assert [row['items'] for row in printed['shots']] == [3] * 9
  assert [row['ways'] for row in printed['digits']] == [2] * 4 + [5] * 3
  assert 'pip install' in printed['export']
  for name in ('index.html', 'spiece.model', 'stage_2/model.json'):
    assert (out / name).is_file(), name
  for name in ('pytorch/model.safetensors', 'held_out/icl_words_4.jsonl'):
    assert (out / name).is_file(), name
  found = results.Results.load(str(out / 'results.json'))
  assert found.seed == 0 and len(found.unseen) == 24
  # It may have answered all of a task wrongly, or all of it rightly.
  assert found.weighed
  for sample in found.weighed:
    assert len(sample.carried) == sample.shots
    assert all(carried is not None for carried in sample.carried)

  words = printed['ask_command'].split("'")
  command = words[0].split()[1:] + [words[1]] + words[2].split()
  assert cli.main(command) == 0
  assert capsys.readouterr().out.strip() == printed['ask_answer'].strip()
  # A finished demo is not written over.
  assert cli.main(['demo', '--out', str(out)]) == 2

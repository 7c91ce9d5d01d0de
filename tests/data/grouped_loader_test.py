"""Batches of grouped and packed examples, from any place, by any workers."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from grouped_data import grouping, loader, mixed
from loader_data import SPEC, make, take, write_records

from mmicl_jax.data.records import JsonlIndex
from mmicl_jax.errors import UserError


def assert_same(a, b):
  assert [info.ids for _, info in a] == [info.ids for _, info in b]
  assert [info.place for _, info in a] == [info.place for _, info in b]
  for (x, _), (y, _) in zip(a, b, strict=True):
    np.testing.assert_equal(x, y)


def read(tokenizer, batch, row):
  """The examples of a row: (answer, levels of its images)."""
  first = batch['encoder_image_starts'][row]
  group = row // (len(batch['encoder_image_starts']) // 2)
  prompts, answers = (
    batch.get(f'{side}_segment_ids', tokens != 0)[row]
    for side, tokens in (
      ('encoder', batch['encoder_input_tokens']),
      ('decoder', batch['decoder_loss_weights']),
    )
  )
  found = []
  for number in range(1, int(answers.max()) + 1):
    own = batch['encoder_input_tokens'][row][prompts == number]
    images = int((own == tokenizer.image_id).sum()) // SPEC.num_queries
    answer = batch['decoder_target_tokens'][row][answers == number]
    levels = batch['encoder_images'][group, first : first + images, 0, 0, 0]
    first += images
    found.append((int(tokenizer.decode(answer)), levels.tolist()))
  return found


@pytest.mark.parametrize('pack', [False, True])
def test_an_epoch_gives_each_record_once_with_its_images(tokenizer, pack):
  batches = list(loader(tokenizer, pack, num_epochs=1))
  shapes = {batch['encoder_input_tokens'].shape for batch, _ in batches}
  assert shapes == {(4, 20), (4, 40)}
  seen = []
  for batch, info in batches:
    assert batch['encoder_images'].shape[0] == 2
    for row in range(4):
      for number, levels in read(tokenizer, batch, row):
        assert levels == [number] * (number % 3)
        seen.append(number)
    assert info.examples == len(info.ids)
  assert sorted(seen) == list(range(50))
  assert sorted(i for _, info in batches for i in info.ids) == sorted(
    f'set:{i}' for i in range(50)
  )
  most = max(len(info.ids) for _, info in batches)
  assert most > 4 if pack else most == 4


@pytest.mark.parametrize('pack', [False, True])
def test_two_processes_make_the_same_global_batches(tokenizer, pack):
  alone = take(loader(tokenizer, pack), 6)
  parts = [take(loader(tokenizer, pack, 50, i, 2), 6) for i in range(2)]
  for (batch, info), *both in zip(alone, *parts, strict=True):
    together = {
      name: np.concatenate([part[name] for part, _ in both]) for name in batch
    }
    np.testing.assert_equal(together, batch)
    assert sum((part.ids for _, part in both), ()) == info.ids
    assert {part.examples for _, part in both} == {len(info.ids)}


@pytest.mark.parametrize('pack', [False, True])
def test_a_run_that_was_killed_goes_on_at_any_step(tokenizer, pack):
  steps = 9
  whole = take(loader(tokenizer, pack, count=21), steps)
  first = loader(tokenizer, pack, count=21)
  states = [json.dumps(first.get_state())]
  for _ in zip(first, range(steps), strict=False):
    states.append(json.dumps(first.get_state()))
  for step, state in enumerate(states[:steps]):
    other = loader(tokenizer, pack, count=21)
    other.set_state(json.loads(state))
    assert other.step == step and json.dumps(other.get_state()) == state
    assert_same(take(other, min(steps - step, 3)), whole[step : step + 3])
  with pytest.raises(UserError, match='groups was'):
    loader(tokenizer, not pack, count=21).set_state(json.loads(states[3]))
  plain = make(tokenizer, mixed(21), batch_size=4)
  with pytest.raises(UserError, match='groups was .* and is null'):
    plain.set_state(json.loads(states[3]))


def test_bad_records_keep_their_place_and_are_counted(tokenizer, tmp_path):
  path = write_records(tmp_path, 9, broken={2: 'no json'})
  (tmp_path / '5.png').write_bytes(b'no image')

  def found(**options):
    return make(
      tokenizer,
      JsonlIndex(path),
      batch_size=4,
      num_epochs=1,
      grouping=grouping(True),
      **options,
    )

  lenient = found(skip_bad_records=True)
  ids = [i for _, info in lenient for i in info.ids]
  good = [f'set:r{i}' for i in (0, 1, 3, 4, 6, 7, 8)]
  assert sorted(i for i in ids if i) == good
  assert lenient.skipped == 2 and lenient.get_state()['seen'] == 9
  with pytest.raises(UserError, match='train.jsonl:3|5.png'):
    list(found())


WORKERS = """
import json, pickle, sys
from loader_data import take
from grouped_data import loader
from mmicl_jax.tokenizer import Tokenizer

if __name__ == '__main__':
  _, vocabulary, state, out = sys.argv
  tokenizer = Tokenizer(vocabulary)
  one = take(loader(tokenizer, True, workers=1), 3)
  two = loader(tokenizer, True, num_epochs=1, workers=2)
  two.set_state(json.loads(state))
  with open(out, 'wb') as file:
    pickle.dump((one, list(two)), file)
"""


@pytest.mark.slow
def test_any_number_of_workers_makes_the_same_batches(tokenizer, tmp_path):
  script, out = tmp_path / 'script.py', tmp_path / 'out'
  script.write_text(WORKERS)
  tokenizer.save(tmp_path / 'spiece.model')
  first = loader(tokenizer, True, num_epochs=1)
  take(first, 3)
  state = json.dumps(first.get_state())
  tests = Path(__file__).parents[1]
  paths = [tests.parent, tests / 'helpers']
  subprocess.run(
    [sys.executable, script, tmp_path / 'spiece.model', state, out],
    check=True,
    timeout=1800,  # ends what hangs; a busy machine needs minutes
    env={**os.environ, 'PYTHONPATH': os.pathsep.join(map(str, paths))},
  )
  one, two = pickle.loads(out.read_bytes())
  assert_same(one, take(loader(tokenizer, True), 3))
  assert len(two) > 2
  assert_same(two, list(loader(tokenizer, True, num_epochs=1))[3:])

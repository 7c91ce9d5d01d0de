"""A checkpoint is of this model and what was saved, or it is not taken."""

import json
import logging
import shutil

import pytest
from saved_runs import assert_equal, run_tree, save_run, shapes, small_params

from mmicl_jax.checkpoints import checkpointer, store
from mmicl_jax.errors import UserError


def test_another_architecture_is_named(tmp_path):
  save_run(tmp_path, 5)
  c = checkpointer.Checkpointer(tmp_path)
  match = r'projector/kernel has shape \(2, 3\) there and \(2, 4\)'
  with pytest.raises(UserError, match=match):
    c.restore_latest(shapes(run_tree(0, width=4)))
  with pytest.raises(UserError, match=match):
    store.load_weights(tmp_path, shapes(small_params(4)))
  assert c.steps() == [5]


def test_another_stage_is_named(tmp_path):
  save_run(tmp_path, 5)
  other = shapes(run_tree(0, profile=('^projector/',)))
  with pytest.raises(UserError, match='another trainable set'):
    checkpointer.Checkpointer(tmp_path).restore_latest(other)


def test_a_torn_checkpoint_is_named_where_it_is_only_looked_at(tmp_path):
  save_run(tmp_path, 5)
  (tmp_path / 'checkpoint_5/state/_METADATA').write_text('{')
  with pytest.raises(UserError, match='checkpoint_5 is damaged'):
    store.resumable(tmp_path, shapes(run_tree(0)))


def test_a_truncated_checkpoint_is_named_and_skipped(tmp_path, caplog):
  save_run(tmp_path, 5, 10)
  for path in (tmp_path / 'checkpoint_10/state').rglob('*'):
    if path.is_file() and path.parent.name == 'd':
      path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  c = checkpointer.Checkpointer(tmp_path)
  with caplog.at_level(logging.WARNING):
    step, state, _ = c.restore_latest(shapes(run_tree(0)))
  assert step == 5
  assert_equal(state, run_tree(5, scale=5))
  assert 'checkpoint_10 is damaged' in caplog.text
  c.save(10, run_tree(10))  # the name is free again
  c.close()
  assert c.steps() == [5, 10]


@pytest.mark.parametrize(
  'name',
  [
    *('state/_METADATA', 'state/manifest.ocdbt', 'state', 'sums', 'dataset'),
    *('sums/metadata', 'dataset/process_0-of-1.json'),
  ],
)
def test_a_missing_file_is_a_torn_checkpoint(tmp_path, name):
  save_run(tmp_path, 5, 10)
  path = tmp_path / 'checkpoint_10' / name
  if path.is_dir():
    shutil.rmtree(path)
  else:
    path.unlink()
  step, *_ = checkpointer.Checkpointer(tmp_path).restore_latest(
    shapes(run_tree(0))
  )
  assert step == 5


@pytest.mark.parametrize(
  'name, text',
  [
    ('dataset/process_0-of-1.json', '{"posi'),
    ('dataset/process_0-of-1.json', '{"position": 12}'),
    ('sums/metadata', '{"target/'),
    ('sums/metadata', '[]'),
    ('sums/metadata', '{"target/projector/kernel": "x"}'),
  ],
)
def test_a_damaged_file_is_a_torn_checkpoint(tmp_path, name, text):
  save_run(tmp_path, 5, 10)
  (tmp_path / 'checkpoint_10' / name).write_text(text)
  step, *_ = checkpointer.Checkpointer(tmp_path).restore_latest(
    shapes(run_tree(0))
  )
  assert step == 5


def test_a_flipped_bit_is_found(tmp_path, caplog):
  """Where no checksum of the file format looks."""
  c = checkpointer.Checkpointer(tmp_path)
  for step in (5, 10):
    c.save(step, run_tree(step, scale=step), {'position': step})
  c.close()
  sums = tmp_path / 'checkpoint_10/sums/metadata'
  values = json.loads(sums.read_text())
  values['target/t5/key/kernel'] ^= 1
  sums.write_text(json.dumps(values))
  with pytest.raises(UserError, match='checkpoint_10 is damaged.*other bits'):
    store.load_weights(tmp_path)
  c = checkpointer.Checkpointer(tmp_path)
  with caplog.at_level(logging.WARNING):
    step, state, _ = c.restore_latest(shapes(run_tree(0)))
  assert step == 5
  assert_equal(state, run_tree(5, scale=5))
  assert 'target/t5/key/kernel has other bits' in caplog.text
  assert (tmp_path / 'torn_checkpoint_10').is_dir()


def test_flipped_bytes_of_the_files_cost_one_checkpoint(tmp_path):
  """Whatever byte it is: it is found, or it means nothing."""
  save_run(tmp_path, 5, 10)
  folder = tmp_path / 'checkpoint_10/state'
  (data,) = folder.glob('d/*')  # not what it was merged from, as large
  whole = data.read_bytes()
  found = 0
  for place in range(0, len(whole), len(whole) // 6):
    torn = bytearray(whole)
    torn[place] ^= 0xFF
    data.write_bytes(torn)
    copy = tmp_path / str(place)
    for step in (5, 10):
      name = f'checkpoint_{step}'
      shutil.copytree(tmp_path / name, copy / name)
    step, state, _ = checkpointer.Checkpointer(copy).restore_latest(
      shapes(run_tree(0))
    )
    assert_equal(state, run_tree(step, scale=step))
    found += step == 5
  assert found

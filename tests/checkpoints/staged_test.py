"""Checkpoints in a remote MODEL_DIR: there when they are whole."""

from pathlib import Path

import fsspec
import jax
import pytest
import saved_runs
from etils import epath

from mmicl_jax.checkpoints import (
  checkpointer,
  faults,
  model_dir,
  staged,
  steps,
  store,
)
from mmicl_jax.errors import UserError
from mmicl_jax.models import configs
from mmicl_jax.runtime import remote

URL = 'memory://bucket/run'


@pytest.fixture
def bucket(monkeypatch):
  monkeypatch.setattr(remote, 'PAUSES', (0, 0))
  monkeypatch.setattr(faults, 'PAUSES', (0, 0))
  system = fsspec.filesystem('memory')
  monkeypatch.setattr(system, 'store', {})
  monkeypatch.setattr(system, 'pseudo_dirs', [''])
  return system


def folders(bucket):
  return {name.split('/')[3] for name in bucket.find('/bucket/run')}


def like():
  return saved_runs.shapes(saved_runs.run_tree(0))


def test_a_run_goes_on_there_and_keeps_what_it_should(bucket):
  saved_runs.save_run(URL, 1, 2, 3, keep=2)
  assert folders(bucket) == {'checkpoint_2', 'checkpoint_3'}
  c = checkpointer.Checkpointer(URL, keep=2)
  step, tree, position = c.restore_latest(like())
  assert (step, position) == (3, {'position': 3})
  saved_runs.assert_equal(tree, saved_runs.run_tree(3, scale=3))
  # The arrays do not stay here, after they were read or sent.
  c.save(4, saved_runs.run_tree(4), {'position': 4})
  c.wait()
  assert not list(c.directory.glob('*/state'))
  c.close()
  assert folders(bucket) == {'checkpoint_3', 'checkpoint_4'}


def test_the_best_stays_over_restarts(bucket):
  for step, loss in enumerate((2.0, 1.0, 3.0, 4.0), 1):
    c = checkpointer.Checkpointer(URL, keep=1, best_by='eval/loss')
    c.save(step, saved_runs.run_tree(step))
    c.rate(step, {'eval/loss': loss})
    c.close()
  assert folders(bucket) == {'checkpoint_2', 'checkpoint_4'}
  assert checkpointer.Checkpointer(URL, best_by='eval/loss').best() == 2


def test_at_no_moment_a_part_is_taken_for_the_whole(bucket, monkeypatch):
  """At each file that is sent or removed: no checkpoint, or a sound one."""
  seen = []

  def look():
    for step in staged.complete_steps(URL, remote.listing(URL)):
      place = staged.local_checkpoint(f'{URL}/checkpoint_{step}')
      tree = store.read_arrays(epath.Path(place), like())
      saved_runs.assert_equal(tree, saved_runs.run_tree(step, scale=step))
      seen.append(step)

  for name in ('send', 'remove'):
    real = getattr(remote, name)

    def watched(*arguments, real=real):
      real(*arguments)
      if 'checkpoint_' in str(arguments[-1]):
        look()

    monkeypatch.setattr(remote, name, watched)
  monkeypatch.setattr('mmicl_jax.runtime.mirror.AT_ONCE', 1)
  saved_runs.save_run(URL, 1, 2, keep=1)
  assert {1, 2} <= set(seen)


def test_a_part_is_passed_over_and_written_anew(bucket, caplog):
  saved_runs.save_run(URL, 1, 2)
  for mark in (staged.COMMITTED, staged.METADATA):
    bucket.rm_file(f'/bucket/run/checkpoint_2/{mark}')
  bucket.pipe_file('/bucket/run/checkpoint_2/state/d/left', b'x')
  assert steps.locate(URL)[1] == 1
  c = checkpointer.Checkpointer(URL)
  assert 'checkpoint_2 is of a save that was interrupted' in caplog.text
  assert c.steps() == [1]
  c.save(2, saved_runs.run_tree(2), {'position': 2})
  c.close()
  assert steps.locate(URL)[1] == 2
  assert not bucket.exists('/bucket/run/checkpoint_2/state/d/left')


def test_a_damaged_one_is_set_aside_there(bucket, caplog):
  saved_runs.save_run(URL, 1, 2)
  for _ in range(2):
    bucket.pipe_file('/bucket/run/checkpoint_2/sums/metadata', b'x')
    c = checkpointer.Checkpointer(URL)
    assert c.restore_latest(like())[0] == 1
    c.save(2, saved_runs.run_tree(2), {'position': 2})
    c.close()
  aside = {'torn_checkpoint_2', 'torn_checkpoint_2_2'}
  assert folders(bucket) == aside | {'checkpoint_1', 'checkpoint_2'}
  assert 'memory://bucket/run/checkpoint_2 is damaged' in caplog.text


def test_a_folder_that_somebody_copied_there_counts(bucket, tmp_path):
  saved_runs.save_run(tmp_path / 'run', 5)
  # Earlier releases of Orbax did not write it on a disk.
  (tmp_path / 'run/checkpoint_5' / staged.COMMITTED).unlink()
  bucket.put(str(tmp_path / 'run'), '/bucket/run', recursive=True)
  assert steps.locate(URL)[1] == 5
  found = store.load_weights(f'{URL}/checkpoint_5')
  saved_runs.assert_equal(found, saved_runs.run_tree(5, scale=5)['target'])


@pytest.mark.parametrize('path', [URL, f'{URL}/checkpoint_3'])
def test_what_is_not_there_is_one_sentence(bucket, path):
  with pytest.raises(UserError, match='there is no checkpoint'):
    steps.locate(path)


def test_a_save_that_cannot_be_sent_is_told_and_leaves_those_before(
  bucket, monkeypatch
):
  c = checkpointer.Checkpointer(URL)
  c.save(1, saved_runs.run_tree(1), {'position': 1})
  c.wait()

  def refuse(*arguments):
    raise OSError(5, 'Internal Server Error')

  monkeypatch.setattr(remote, 'send', refuse)
  c.save(2, saved_runs.run_tree(2), {'position': 2})
  with pytest.raises(UserError, match='checkpoint_2/.* could not be written'):
    c.wait()
  assert steps.locate(URL)[1] == 1


def test_several_processes_need_a_folder_that_they_share(bucket, monkeypatch):
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  with pytest.raises(UserError, match='memory://bucket/run, which one process'):
    checkpointer.Checkpointer(URL)


def test_no_folder_is_called_gs(monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)

  def url_to_fs(path):
    raise ImportError('no gcsfs')

  monkeypatch.setattr(fsspec.core, 'url_to_fs', url_to_fs)
  for path in ('gs://bucket/run', Path('gs://bucket/run')):
    for count in (1, 2):
      monkeypatch.setattr(jax, 'process_count', lambda count=count: count)
      with pytest.raises(UserError, match='gs://bucket/run .*install gcsfs'):
        checkpointer.Checkpointer(path)
    with pytest.raises(UserError, match='gs://bucket/run.* .*install gcsfs'):
      store.load_weights(path)
    with pytest.raises(UserError, match='gs://bucket/run.* .*install gcsfs'):
      model_dir.write_config(path, configs.TINY)
  assert not list(tmp_path.iterdir())

"""The checkpoints of a run: which are kept, and which one is taken."""

import errno
import shutil

import jax
import jax.numpy as jnp
import pytest
from etils import epath
from saved_runs import (
  PROFILE,
  TX,
  assert_equal,
  run_tree,
  save_run,
  shapes,
  small_params,
)

from mmicl_jax.checkpoints import checkpointer, faults, kept
from mmicl_jax.checkpoints.steps import steps_in
from mmicl_jax.checkpoints.tree import opt_state_of, state_tree
from mmicl_jax.errors import UserError
from mmicl_jax.runtime import hosts as multihost
from mmicl_jax.training import stages


def test_restores_what_was_saved(tmp_path):
  save_run(tmp_path, 5)
  step, state, position = checkpointer.Checkpointer(tmp_path).restore_latest(
    shapes(run_tree(0))
  )
  assert step == 5 and position == {'position': 5}
  assert_equal(state, run_tree(5, scale=5))
  trainable, _ = stages.split_params(small_params(), PROFILE)
  assert_equal(opt_state_of(state, TX.init(trainable)), TX.init(trainable))


def test_a_checkpoint_behind_a_link_is_where_the_system_says(tmp_path):
  """TensorStore would cut 'current/..' away and write into another folder."""
  (tmp_path / 'disk' / 'v3').mkdir(parents=True)
  (tmp_path / 'runs').mkdir()
  (tmp_path / 'runs' / 'current').symlink_to('../disk/v3')
  save_run(tmp_path / 'runs' / 'current' / '..' / 'model', 5)
  assert list((tmp_path / 'runs').iterdir()) == [tmp_path / 'runs' / 'current']
  opened = checkpointer.Checkpointer(tmp_path / 'disk' / 'model')
  step, state, _ = opened.restore_latest(shapes(run_tree(0)))
  assert step == 5
  assert_equal(state, run_tree(5, scale=5))


def test_empty_directory_has_no_checkpoint(tmp_path):
  assert checkpointer.Checkpointer(tmp_path).restore_latest({}) is None


def test_keeps_the_newest(tmp_path):
  save_run(tmp_path, 1, 2, 3, keep=2)
  assert checkpointer.Checkpointer(tmp_path).steps() == [2, 3]


@pytest.fixture
def other_host(monkeypatch):
  """Lets another host answer what a function of its own says."""

  def answer(says):
    monkeypatch.setattr(multihost, 'gather', lambda own: [own, says(own)])

  return answer


def test_a_checkpoint_that_another_host_lacks_is_skipped(tmp_path, other_host):
  save_run(tmp_path, 5, 10)
  c = checkpointer.Checkpointer(tmp_path)
  other_host(lambda own: [5] if own == [5, 10] else own)
  step, state, _ = c.restore_latest(shapes(run_tree(0)))
  assert step == 5 and c.steps() == [5]
  assert_equal(state, run_tree(5, scale=5))
  assert (tmp_path / 'torn_checkpoint_10').is_dir()


def test_a_checkpoint_that_another_host_cannot_read_is_skipped(
  tmp_path, other_host
):
  save_run(tmp_path, 5, 10)
  # It sees no passing fault, but damage in checkpoint_10, none in 5.
  refusals = iter([[1], [0], [1], [1]])
  other_host(lambda own: own if len(own) > 1 else next(refusals))
  c = checkpointer.Checkpointer(tmp_path)
  step, *_ = c.restore_latest(shapes(run_tree(0)))
  assert step == 5 and c.steps() == [5]


def test_what_a_faster_host_moved_aside_stays(tmp_path, monkeypatch):
  save_run(tmp_path, 5, 10)
  verdicts = iter([True, False, True, True])

  def all_agree(yes):
    if agreed := next(verdicts):
      return agreed
    (tmp_path / 'checkpoint_10').rename(tmp_path / 'torn_checkpoint_10')
    return agreed

  monkeypatch.setattr(multihost, 'all_agree', all_agree)
  step, *_ = checkpointer.Checkpointer(tmp_path).restore_latest(
    shapes(run_tree(0))
  )
  assert step == 5
  assert (tmp_path / 'torn_checkpoint_10' / 'state').is_dir()


def test_hosts_without_a_checkpoint_in_common_stop(tmp_path, other_host):
  save_run(tmp_path, 5)
  other_host(lambda own: [10])
  with pytest.raises(UserError, match='must be storage that all hosts share'):
    checkpointer.Checkpointer(tmp_path).restore_latest(shapes(run_tree(0)))
  assert (tmp_path / 'checkpoint_5').is_dir()  # nothing was moved


def test_an_interrupted_save_is_named_and_ignored(tmp_path, caplog):
  save_run(tmp_path, 5)
  shutil.copytree(
    tmp_path / 'checkpoint_5',
    tmp_path / 'checkpoint_10.orbax-checkpoint-tmp-1',
  )
  c = checkpointer.Checkpointer(tmp_path)
  assert 'checkpoint_10' in caplog.text and 'interrupted' in caplog.text
  assert c.restore_latest(shapes(run_tree(0)))[0] == 5


def test_nothing_readable_is_an_error_each_time(tmp_path):
  """A second start must not begin anew beside what may yet be repaired."""
  save_run(tmp_path, 5, 10)
  for step in (5, 10):
    (tmp_path / f'checkpoint_{step}/state/_METADATA').unlink()
  for _ in range(2):
    c = checkpointer.Checkpointer(tmp_path)
    with pytest.raises(UserError, match=r'none of the checkpoints \[5, 10\]'):
      c.restore_latest(shapes(run_tree(0)))
    assert c.steps() == [5, 10]


def test_a_directory_that_cannot_be_made(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(UserError, match='model directory'):
    checkpointer.Checkpointer(tmp_path / 'file' / 'model')


def test_a_full_disk_is_one_sentence_and_costs_nothing(tmp_path):
  resource = pytest.importorskip('resource')
  save_run(tmp_path, 5)
  big = {'a': jax.random.normal(jax.random.key(0), (512, 512))}
  c = checkpointer.Checkpointer(tmp_path)
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
  try:
    with pytest.raises(UserError) as error:
      c.save(10, state_tree(big, jnp.int32(10)))
      c.wait()
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
  assert 'earlier checkpoints are intact: make room' in str(error.value)
  assert len(str(error.value).splitlines()) == 1
  c = checkpointer.Checkpointer(tmp_path)
  assert c.steps() == [5]
  assert c.restore_latest(shapes(run_tree(0)))[0] == 5


def names(folder):
  """The steps on disk."""
  return sorted(steps_in(epath.Path(folder)))


def test_the_best_stays_beside_the_newest(tmp_path):
  c = checkpointer.Checkpointer(tmp_path, keep=1, best_by='eval/loss')
  for step, loss in enumerate((3.0, 1.0, float('nan'), 2.0), 1):
    c.save(step, run_tree(step))
    c.rate(step, {'eval/loss': loss})
  assert c.steps() == names(tmp_path) == [2, 4] and c.best() == 2
  c.close()
  # A resumed run knows what the former one found.
  c = checkpointer.Checkpointer(tmp_path, keep=1, best_by='eval/loss')
  c.save(5, run_tree(5))
  c.rate(5, {'eval/loss': 1.5})
  assert c.steps() == [2, 5] and c.best() == 2
  c.save(6, run_tree(6))  # between evaluations
  c.wait()
  assert c.steps() == [2, 6]
  c.save(7, run_tree(7))
  c.rate(7, {'eval/loss': 0.5})  # what was best goes at once
  assert c.steps() == names(tmp_path) == [7] and c.best() == 7
  with pytest.raises(UserError, match="BEST_BY is 'loss': choose eval/loss or"):
    checkpointer.Checkpointer(tmp_path, best_by='loss')


def test_ratings_of_a_disk_that_fails_are_waited_for(tmp_path, monkeypatch):
  """The best must not go because its rating could not be read once."""
  c = checkpointer.Checkpointer(tmp_path, keep=1, best_by='eval/accuracy')
  for step, accuracy in ((1, 0.9), (2, 0.1)):
    c.save(step, run_tree(step))
    c.rate(step, {'eval/accuracy': accuracy})
  c.close()
  monkeypatch.setattr(faults, 'PAUSES', (0.0,))
  errors = iter([OSError(errno.EIO, 'io'), OSError(errno.EIO, 'io')])
  real = kept._read

  def read(path):
    if error := next(errors, None):
      raise error
    return real(path)

  monkeypatch.setattr(kept, '_read', read)
  with pytest.raises(UserError, match='cannot be read at present'):
    checkpointer.Checkpointer(tmp_path, keep=1, best_by='eval/accuracy')
  c = checkpointer.Checkpointer(tmp_path, keep=1, best_by='eval/accuracy')
  assert c.best() == 1

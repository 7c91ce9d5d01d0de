"""Errors of files that pass are waited for; only damage costs a checkpoint."""

import errno
import os
import shutil
from pathlib import Path

import jax.numpy as jnp
import pytest
import tensorstore
from failing_disk import Disk
from saved_runs import assert_equal, run_tree, save_run, shapes, small_params

from mmicl_jax.checkpoints import checkpointer, checksums, faults, store
from mmicl_jax.checkpoints.faults import Fault, fault_of, patiently
from mmicl_jax.checkpoints.tree import state_tree
from mmicl_jax.errors import UserError

FAULTS = (errno.EIO, errno.ETIMEDOUT)


@pytest.fixture
def disk(tmp_path, monkeypatch):
  return Disk(tmp_path, monkeypatch)


def names(folder):
  return sorted(str(p.relative_to(folder)) for p in Path(folder).rglob('*'))


def restore(folder):
  opened = checkpointer.Checkpointer(folder)
  return opened.restore_latest(shapes(run_tree(0)))


def load(folder):
  return store.load_weights(folder)


@pytest.mark.slow
@pytest.mark.parametrize('number', FAULTS)
@pytest.mark.parametrize('read', [restore, load])
def test_a_fault_at_any_call_of_a_restore_costs_nothing(
  tmp_path, disk, read, number
):
  save_run(tmp_path, 5, 10)
  before = names(tmp_path)
  disk.fail(1, 0)
  whole = read(tmp_path)
  calls = disk.calls
  assert calls > 10
  for lasting in (False, True):
    for first in range(1, calls + 1):
      disk.fail(first, 10**9 if lasting else first, number)
      try:
        found = read(tmp_path)
      except UserError as error:
        disk.fail(1, 0)
        assert '\n' not in str(error), first
        assert os.strerror(number) in str(error), first
        # Only making MODEL_DIR is not tried again: nothing has begun.
        assert lasting or 'cannot make the model directory' in str(error)
      else:
        disk.fail(1, 0)
        assert_equal(found, whole)
      assert names(tmp_path) == before, first


def save(folder):
  opened = checkpointer.Checkpointer(folder, keep=1)
  opened.save(10, run_tree(10, scale=10), {'position': 10})
  opened.close()


@pytest.mark.slow
@pytest.mark.parametrize('lasting, stride', [(False, 1), (True, 8)])
def test_a_fault_at_any_call_of_a_save_costs_no_more_than_it(
  tmp_path, disk, lasting, stride
):
  """It ends at once, in one sentence; what is there afterwards is complete."""
  save_run(tmp_path / 'before', 5)
  shutil.copytree(tmp_path / 'before', tmp_path / '0')
  disk.folder = tmp_path / '0'
  save(disk.folder)
  calls = disk.calls
  assert calls > 30
  saved = 0
  for first in range(1, calls + 1, stride):
    # Each in a folder of its own: threads of a former one may yet tidy up.
    disk.folder = folder = tmp_path / f'{first}'
    shutil.copytree(tmp_path / 'before', folder)
    disk.fail(first, 10**9 if lasting else first, FAULTS[first % 2])
    try:
      save(folder)
    except UserError as error:
      assert '\n' not in str(error), first
    failed = disk.failed
    disk.fail(1, 0)
    opened = checkpointer.Checkpointer(folder)
    step, state, position = opened.restore_latest(shapes(run_tree(0)))
    assert_equal(state, run_tree(step, scale=step))
    assert position == {'position': step}, failed
    saved += step == 10
    if step == 5 and first % 8 == 1:  # what is left is in nobody's way
      opened.save(10, run_tree(10, scale=10), {'position': 10})
      opened.close()
      assert restore(folder)[0] == 10, failed
  assert lasting or 0 < saved < calls


TIMED_OUT = (
  'UNKNOWN: Error opening "zarr" driver: Error reading "target.a/.zarray" in '
  'OCDBT database at local file "/m/": Connection timed out '
  "[os_error_code='110'] [tensorstore_spec='{\\\"context\\\"}']"
)
CHECKSUM = (
  'DATA_LOSS: Error opening "zarr" driver: Error decoding b-tree node: CRC-32C '
  'checksum verification failed: expected=1, actual=2'
)
MEMORY = 'RESOURCE_EXHAUSTED: Out of memory allocating 1048576 bytes.'


@pytest.fixture
def failing_store(monkeypatch):
  """Lets TensorStore's open fail so many times with a text."""
  real, left = tensorstore.open, {'count': 0, 'text': ''}

  def opens(*args, **options):
    if left['count'] > 0:
      left['count'] -= 1
      raise ValueError(left['text'])
    return real(*args, **options)

  monkeypatch.setattr(tensorstore, 'open', opens)

  def set_up(text, count):
    left.update(text=text, count=count)

  return set_up


@pytest.mark.parametrize('read', [restore, load])
def test_tensorstores_faults(tmp_path, failing_store, read):
  save_run(tmp_path, 5, 10)
  before = names(tmp_path)
  whole = read(tmp_path)
  failing_store(TIMED_OUT, 1)
  assert_equal(read(tmp_path), whole)
  for text, words in (
    (TIMED_OUT, 'cannot be read at present.*Connection timed out'),
    (MEMORY, 'not enough memory'),
  ):
    failing_store(text, 10**9)
    with pytest.raises(UserError, match=words) as error:
      read(tmp_path)
    assert 'tensorstore_spec' not in str(error.value)
    assert 'damaged' not in str(error.value)
    assert names(tmp_path) == before


def test_too_little_memory_for_the_sums(tmp_path, monkeypatch):
  save_run(tmp_path, 5, 10)
  before = names(tmp_path)

  def full(*_):
    raise RuntimeError(MEMORY)

  monkeypatch.setattr(checksums, 'changed', full)
  for read in (restore, load):
    with pytest.raises(UserError, match='not enough memory'):
      read(tmp_path)
  assert names(tmp_path) == before


def test_a_bug_is_no_damage(tmp_path, monkeypatch):
  save_run(tmp_path, 5)

  def wrong(*_):
    raise TypeError('unexpected')

  monkeypatch.setattr(checkpointer, 'read_arrays', wrong)
  with pytest.raises(TypeError, match='unexpected'):
    restore(tmp_path)
  assert 'checkpoint_5' in names(tmp_path)


@pytest.mark.parametrize(
  'error, fault',
  [
    (OSError(errno.EIO, 'x'), Fault.PASSING),
    (PermissionError(errno.EACCES, 'x'), Fault.PASSING),
    (OSError(errno.ESTALE, 'x'), Fault.PASSING),
    (FileNotFoundError(errno.ENOENT, 'x'), Fault.DAMAGE),
    (EOFError(), Fault.DAMAGE),
    (faults.Damage('x'), Fault.DAMAGE),
    (MemoryError(), Fault.MEMORY),
    (ValueError(TIMED_OUT), Fault.PASSING),
    (ValueError(CHECKSUM), Fault.DAMAGE),
    (ValueError('NOT_FOUND: Error opening'), Fault.DAMAGE),
    (ValueError('OUT_OF_RANGE: Error opening'), Fault.DAMAGE),
    (ValueError('FAILED_PRECONDITION: Invalid JSON'), Fault.DAMAGE),
    (ValueError('UNAVAILABLE: 503'), Fault.PASSING),
    (ValueError("RESOURCE_EXHAUSTED: x [os_error_code='24']"), Fault.PASSING),
    (RuntimeError(MEMORY), Fault.MEMORY),
    (KeyError('x'), Fault.UNKNOWN),
    (ValueError('another thing'), Fault.UNKNOWN),
  ],
)
def test_what_an_error_means(error, fault):
  assert fault_of(error) is fault
  wrapped = Exception('Encountered error while reading array index')
  wrapped.__cause__ = error
  assert fault_of(wrapped) is fault


def test_damage_that_does_not_last_is_none():
  errors = iter([FileNotFoundError(errno.ENOENT, 'x'), OSError(5, 'io')])

  def read():
    if error := next(errors, None):
      raise error
    return 3

  assert patiently('p', read) == 3


def test_one_passing_fault_among_damage_moves_nothing():
  errors = iter([EOFError('short'), OSError(5, 'io'), EOFError('short')])

  def read():
    raise next(errors)

  with pytest.raises(UserError, match='p cannot be read at present .io.'):
    patiently('p', read)


def test_weights_without_sums_are_read(tmp_path):
  store.save_weights(tmp_path, small_params())
  assert_equal(load(tmp_path), small_params())


def test_a_run_of_t5x_has_no_place_in_the_data(tmp_path):
  """Its `dataset` holds files of its own, and there are no sums."""
  c = checkpointer.Checkpointer(tmp_path)
  c.save(5, state_tree(small_params(), jnp.int32(5)), {'position': 5})
  c.close()
  folder = tmp_path / 'checkpoint_5'
  for path in (folder / 'dataset').glob('process_*'):
    path.unlink()
  (folder / 'dataset' / 'train_ds-000-of-001.index').write_text('x')
  for path in (folder / 'sums').iterdir():
    path.unlink()
  (folder / 'sums').rmdir()
  metadata = folder / '_CHECKPOINT_METADATA'
  metadata.write_text(metadata.read_text().replace('"sums"', '"other"'))
  like = shapes(state_tree(small_params(), jnp.int32(5)))
  step, _, position = checkpointer.Checkpointer(tmp_path).restore_latest(like)
  assert step == 5 and position is None

"""Leases on buckets: told, given back, taken over, and lost."""

import json
import threading

import fsspec
import pytest

from mmicl_jax.errors import UserError
from mmicl_jax.runtime import lease, lock
from mmicl_jax.runtime.lock import hold, only_writer

OUT = 'memory://leases/out'
FILE = '/leases/.out.lock'


@pytest.fixture(autouse=True)
def store(monkeypatch):
  """Nobody else is there: signs of life are seen at once."""
  monkeypatch.setattr(lease, 'SETTLE', 0)
  monkeypatch.setattr(lease, 'BEAT', 0.01)
  store = fsspec.filesystem('memory')
  yield store
  if store.exists('/leases'):
    store.rm('/leases', recursive=True)


def content(**changes):
  """As another machine's process leaves it that is killed."""
  found = {'token': 'a', 'host': 'far', 'process': 1, 'began': 'noon'}
  return json.dumps(found | changes).encode()


def test_the_second_writer_is_told_who_writes(store):
  words = r'leases/out is being written by another process \(.*, since '
  with only_writer(OUT):
    assert store.exists(FILE)
    with pytest.raises(UserError, match=words), only_writer(OUT):
      pass
    assert store.exists(FILE)  # the first one's
    with only_writer('memory://leases/other'):
      pass
  assert not store.exists(FILE)
  with only_writer(OUT):
    pass


def test_a_dead_process_of_this_machine_is_taken_over_at_once(
  store, monkeypatch
):
  monkeypatch.setattr(lease.time, 'sleep', lambda s: pytest.fail('it waits'))
  monkeypatch.setattr(lease, '_lives', lambda found: False)
  store.pipe_file(FILE, content(processes_of=lease._machine()))
  found = lease._Lease(OUT)
  assert found._is_gone(found._read())
  # A number means nothing on another machine.
  with pytest.raises(pytest.fail.Exception):
    found._is_gone({'token': 'a', 'processes_of': 'another'})


@pytest.mark.parametrize('left', [content(), b'no json', b'[1]', b''])
def test_what_shows_no_life_is_taken_over(store, monkeypatch, left):
  monkeypatch.setattr(lease, 'QUIET', 0.1)
  store.pipe_file(FILE, left)
  with only_writer(OUT):
    assert json.loads(store.cat_file(FILE))['beat'] > 0
  assert not store.exists(FILE)


def test_two_that_begin_at_once_are_told_apart(store, monkeypatch):
  """The other one wrote after both had seen that nobody writes."""
  monkeypatch.setattr(
    lease.time, 'sleep', lambda s: store.pipe_file(FILE, content())
  )
  with pytest.raises(UserError, match='another process .far, since noon'):
    with only_writer(OUT):
      pass
  assert json.loads(store.cat_file(FILE))['host'] == 'far'


def test_who_was_taken_over_says_so_and_leaves_the_file(store, monkeypatch):
  seen = threading.Event()
  monkeypatch.setattr(lease.log, 'warning', lambda *_: seen.set())
  with pytest.raises(UserError, match='far, since noon. took it over'):
    with only_writer(OUT):
      # As if a beat had been under way, until it is seen.
      while not seen.wait(0.01):
        store.pipe_file(FILE, content())
  assert json.loads(store.cat_file(FILE))['host'] == 'far'


def test_an_error_of_the_block_is_the_one_that_is_told(store):
  with pytest.raises(KeyError), only_writer(OUT):
    raise KeyError
  assert not store.exists(FILE)


def test_a_storage_that_refuses_is_written_without(store, monkeypatch):
  def refuse(*_, **__):
    raise PermissionError('no')

  monkeypatch.setattr(store, 'pipe_file', refuse)
  with only_writer(OUT):
    assert not store.exists(FILE)


def test_a_held_path_may_be_asked_for_again(store):
  hold(OUT)
  hold(OUT)
  with pytest.raises(UserError, match='being written'), only_writer(OUT):
    pass
  lock._held.pop(OUT).close()
  assert not store.exists(FILE)

"""Copies here of what is remote: brought, sent, and called by their address."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest

from mmicl_jax.errors import UserError
from mmicl_jax.runtime import mirror, remote


@pytest.fixture
def store(monkeypatch):
  system = fsspec.filesystem('memory')
  monkeypatch.setattr(system, 'store', {})
  monkeypatch.setattr(system, 'pseudo_dirs', [''])
  return system


def counted(system, monkeypatch):
  names, real = [], system.get_file
  monkeypatch.setattr(
    system, 'get_file', lambda n, *rest: names.append(n) or real(n, *rest)
  )
  return names


def test_what_is_new_is_brought_and_what_is_the_same_is_not(store, monkeypatch):
  store.pipe({'/b/run/a': b'1', '/b/run/c/d': b'2', '/b/other': b'3'})
  names = counted(store, monkeypatch)
  copy = mirror.Mirror('memory://b/run')
  copy.pull()
  assert (copy.local / 'a').read_text() == '1'
  assert (copy.local / 'c' / 'd').read_text() == '2'
  store.pipe_file('/b/run/a', b'new')
  copy.pull()
  assert (copy.local / 'a').read_text() == 'new'
  assert sorted(names) == ['/b/run/a', '/b/run/a', '/b/run/c/d']
  copy.drop('c')
  copy.pull(lambda name: name != 'a')
  assert names[-1] == '/b/run/c/d'
  # A worker has the same copies, and brings none of its own.
  again = pickle.loads(pickle.dumps(copy))
  assert again.local == copy.local
  again.pull()
  assert len(names) == 4


def test_what_is_sent_is_not_brought_again(store, monkeypatch):
  names = counted(store, monkeypatch)
  copy = mirror.Mirror('memory://b/run')
  (copy.local / 'a').write_text('1')
  copy.push(['a'])
  assert store.cat_file('/b/run/a') == b'1'
  copy.pull()
  copy.remove(['a', 'none'])
  assert not store.exists('/b/run/a') and (copy.local / 'a').exists()
  assert not names
  copy.pull()
  assert not (copy.local / 'a').exists()


def test_a_folder_of_this_machine_is_itself(tmp_path):
  (tmp_path / 'a').write_text('1')
  same = mirror.Mirror(tmp_path)
  same.pull()
  same.push(['a'])
  same.remove(['a'])
  assert same.local == tmp_path and (tmp_path / 'a').exists()
  assert mirror.local_file(tmp_path / 'a') == tmp_path / 'a'
  assert mirror.local_folder(tmp_path) == tmp_path


def test_a_file_that_grows_is_sent_now_and_then(store, monkeypatch):
  now = [0.0]
  monkeypatch.setattr(mirror.time, 'monotonic', lambda: now[0])
  copy = mirror.Mirror('memory://b')
  for text, after, seen in [
    ('1', 0, '1'),  # at once: a store that refuses is told at the beginning
    ('12', mirror.EVERY - 1, '1'),
    ('123', 2, '123'),
  ]:
    now[0] += after
    (copy.local / 'a').write_text(text)
    copy.push_sometimes('a')
    assert store.cat_file('/b/a').decode() == seen


def test_copies_are_called_by_their_address(store):
  store.pipe({'/b/run/a': b'1'})
  path = mirror.local_file('memory://b/run/a')
  text = f'{path} is damaged; {path}/x too'
  expected = 'memory://b/run/a is damaged; memory://b/run/a/x too'
  assert mirror.named(text) == expected
  absent = mirror.local_file('memory://b/run/none')
  assert not absent.exists()
  assert mirror.named(str(absent)) == 'memory://b/run/none'


def test_a_store_that_does_not_answer_is_one_sentence(store, monkeypatch):
  monkeypatch.setattr(remote, 'PAUSES', (0, 0))
  calls = []

  def fail(*arguments, **options):
    calls.append(arguments)
    raise ConnectionError('no route to host')

  monkeypatch.setattr(store, 'find', fail)
  with pytest.raises(UserError, match='memory://b/run cannot be .*no route'):
    mirror.Mirror('memory://b/run').pull()
  assert len(calls) == 3


def test_copies_end_with_their_process_however_it_ends(tmp_path):
  code = """
import fsspec, os, signal, sys
fsspec.filesystem('memory').pipe_file('/b/a', b'1')
from mmicl_jax.runtime import mirror
print(mirror.local_file('memory://b/a'), flush=True)
if sys.argv[1:]:
  os.kill(os.getpid(), signal.SIGKILL)
"""
  left = []
  for more in (['kill'], []):
    found = subprocess.run(
      [sys.executable, '-c', code, *more],
      env=os.environ | {'TMPDIR': str(tmp_path)},
      cwd=Path(__file__).parents[2],
      capture_output=True,
      text=True,
    )
    assert found.stdout.startswith(str(tmp_path)), found.stderr
    left.append(len(os.listdir(tmp_path)))
  # The second one removed what the first had left, and its own.
  assert left == [1, 0]

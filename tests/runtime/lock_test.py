"""Locks: between processes, through links, and gone with whoever held them."""

import os
import signal
import subprocess
import sys

import pytest

from mmicl_jax.errors import UserError
from mmicl_jax.runtime import lock

HOLD = """
import sys
from mmicl_jax.runtime import lock
with lock.only_writer(sys.argv[1]):
  print('held', flush=True)
  sys.stdin.read()
"""
ADD = """
import pathlib, sys, time
from mmicl_jax.runtime import lock
path = pathlib.Path(sys.argv[1])
for _ in range(200):
  with lock.in_turn(path):
    count = int(path.read_text())
    time.sleep(0)
    path.write_text(str(count + 1))
"""


@pytest.fixture
def holder(tmp_path):
  """Another process that writes tmp_path/out."""
  command = [sys.executable, '-c', HOLD, str(tmp_path / 'out')]
  pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE}
  with subprocess.Popen(command, text=True, **pipes) as process:
    assert process.stdout.readline() == 'held\n'
    yield process
    process.kill()


def test_the_second_writer_is_told(holder, tmp_path):
  (tmp_path / 'out').write_text('theirs')
  (tmp_path / 'link').symlink_to(tmp_path / 'out')
  for path in ('out', 'link'):
    with (
      pytest.raises(UserError, match=f'{path} is being written by another'),
      lock.only_writer(tmp_path / path),
    ):
      pass
  with lock.only_writer(tmp_path / 'other'):
    pass


def test_a_killed_writer_holds_nothing(holder, tmp_path):
  holder.send_signal(signal.SIGKILL)
  holder.wait()
  with lock.only_writer(tmp_path / 'out'):
    pass
  assert os.listdir(tmp_path) == []


def test_short_writers_take_turns(tmp_path):
  """Also while the file of the lock is made and removed again and again."""
  path = tmp_path / 'count'
  path.write_text('0')
  command = [sys.executable, '-c', ADD, str(path)]
  writers = [subprocess.Popen(command) for _ in range(3)]
  assert [writer.wait() for writer in writers] == [0, 0, 0]
  assert path.read_text() == '600'


def test_where_no_lock_can_be_kept_the_writer_goes_on(tmp_path):
  with lock.only_writer(tmp_path / 'no' / 'such' / 'folder'):
    pass
  with lock.in_turn('gs://bucket/index.json'):
    pass


def test_what_is_held_is_given_back_when_the_process_ends(tmp_path):
  held = (
    'import sys\nfrom mmicl_jax.runtime import lock\n'
    'lock.hold(sys.argv[1]); lock.hold(sys.argv[1])\n'
    "print('held', flush=True); sys.stdin.read()"
  )
  command = [sys.executable, '-c', held, str(tmp_path / 'out')]
  pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE}
  with subprocess.Popen(command, text=True, **pipes) as process:
    assert process.stdout.readline() == 'held\n'
    with pytest.raises(UserError, match='is being written by another'):
      lock.hold(tmp_path / 'out')
  assert process.returncode == 0 and os.listdir(tmp_path) == []

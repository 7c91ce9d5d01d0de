"""Bars on a terminal, lines elsewhere, and times that a person reads."""

import io
import sys

import pytest

from mmicl_jax.runtime import progress
from mmicl_jax.runtime.progress import ProgressBar, clock, counted


@pytest.fixture
def now(monkeypatch):
  """The time in seconds, which a test moves."""
  times = [0.0]
  monkeypatch.setattr(progress.time, 'monotonic', lambda: times[0])
  return times


def test_a_line_now_and_then_without_a_terminal(capsys, now):
  with ProgressBar('training', total=2000, start=1) as bar:
    bar.step(2)  # the first step's time holds the compilation
    now[0] = 10.0
    bar.step(3)
    now[0] = 16.0
    bar.note('loss 1.2500')
    bar.step(4)
    bar.say('saved')
    now[0] = 100.0
    bar.step(2000)
  assert capsys.readouterr().err.splitlines() == [
    'training 4/2,000 loss 1.2500 04:26:08 to go',
    'saved',
    'training 2,000/2,000 loss 1.2500 00:00:00 to go',
  ]


def test_a_run_of_one_step_ends_with_a_line(capsys):
  with ProgressBar('training', total=1) as bar:
    bar.step(1)
  assert capsys.readouterr().err == 'training 1/1 00:00:00 to go\n'


def test_amounts_have_their_unit(capsys, now):
  with ProgressBar('read', total=4000, text='{} B'.format, seconds=0.0) as bar:
    bar.advance(1000)
    now[0] = 2.0
    bar.advance(1000)
  assert capsys.readouterr().err.splitlines() == [
    'read 1000 B/4000 B',
    'read 2000 B/4000 B 00:00:04 to go',
  ]


def test_a_counter_knows_no_end(capsys, now):
  for i in counted('records', range(3)):
    now[0] += 20.0 * i
  assert capsys.readouterr().err.splitlines() == ['records 2', 'records 3']


@pytest.mark.parametrize(
  'seconds, text',
  [
    (0.4, '00:00:00'),
    (59.6, '00:01:00'),
    (27213.0, '07:33:33'),
    (27213.0 + 86400, '31:33:33'),
    (48 * 3600 - 1.0, '47:59:59'),
    (27213.0 + 2 * 86400, '2 days 07:33'),
    (1e7, '115 days 17:46'),
  ],
)
def test_a_time_above_a_day_reads_right(seconds, text):
  assert clock(seconds) == text


class Terminal(io.StringIO):
  def isatty(self):
    return True


def test_a_terminal_has_a_bar(monkeypatch):
  screen = Terminal()
  monkeypatch.setattr(sys, 'stderr', screen)
  monkeypatch.setenv('TERM', 'xterm')
  monkeypatch.setenv('COLUMNS', '80')
  with ProgressBar('training', total=3) as bar:
    bar.note('loss [1.5]')
    bar.step(2)
    bar.say('a line [of] text')
    bar.step(3)
  assert 'training' in screen.getvalue() and '━' in screen.getvalue()
  assert '3/3 00:00:00 to go loss [1.5]' in screen.getvalue()
  assert 'a line [of] text' in screen.getvalue()


def test_a_narrow_terminal_cuts_only_the_note(monkeypatch):
  screen = Terminal()
  monkeypatch.setattr(sys, 'stderr', screen)
  monkeypatch.setenv('TERM', 'xterm')
  monkeypatch.setenv('COLUMNS', '80')
  with ProgressBar('training', total=20_000) as bar:
    bar.note('loss 1.2345, accuracy 0.432, 12.3 examples/s, 3 bad records skip')
    bar.step(20_000)
  last = screen.getvalue().rpartition('training')[2]
  assert '━' in last and '20,000/20,000 00:00:00 to go loss 1.23' in last
  assert '…' in last


def test_results_in_a_file_stay_there(monkeypatch):
  """Also where the bar has a terminal, to which rich would lead them."""
  screen, file = Terminal(), io.StringIO()
  monkeypatch.setenv('TERM', 'xterm')
  monkeypatch.setattr(sys, 'stderr', screen)
  monkeypatch.setattr(sys, 'stdout', file)
  for i in counted('records', range(2)):
    print(f'problem {i}')
  assert file.getvalue() == 'problem 0\nproblem 1\n'
  assert 'problem' not in screen.getvalue()

"""Which steps a trace holds, and that a shorter run still ends it."""

import pytest

from mmicl_jax.training import profile


@pytest.fixture
def calls(monkeypatch):
  found = []
  profiler = profile.jax.profiler
  monkeypatch.setattr(profiler, 'start_trace', lambda d: found.append(d))
  monkeypatch.setattr(profiler, 'stop_trace', lambda: found.append('stop'))
  return found


def run(trace, calls, first, last):
  with trace:
    for step in range(first, last + 1):
      trace.before(step)
      calls.append(step)
      trace.after(step, 0.0)
  return calls


def test_five_steps_after_the_first(calls, tmp_path):
  run(profile.StepTrace(tmp_path, 10, True), calls, 11, 20)
  where = str(tmp_path)
  assert calls == [11, 12, where, 13, 14, 15, 16, 17, 'stop', 18, 19, 20]


def test_a_shorter_run_and_none(calls, tmp_path):
  run(profile.StepTrace(tmp_path, 0, True), calls, 1, 4)
  assert calls == [1, 2, str(tmp_path), 3, 4, 'stop']
  calls.clear()
  assert run(profile.StepTrace(tmp_path, 0, False), calls, 1, 4) == [1, 2, 3, 4]

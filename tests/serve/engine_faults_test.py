"""What fails, hangs or ends in the engine takes nothing else with it."""

import threading

import jax
import pytest
import small_server
from engine_cases import BEAMS, assert_whole, expected, start, submit
from small_server import Gate, until

from mmicl_jax.serve import beams, lanes, pools, prefills
from mmicl_jax.serve.jobs import (
  AnswerJob,
  Draining,
  EngineDead,
  OutOfMemory,
  Started,
)
from mmicl_jax.serve.scheduler import STALLED

pytestmark = pytest.mark.slow  # some programs are compiled for all of them


def test_what_has_room_ends_before_the_engine_does(cases):
  scheduler = start()
  gate = Gate()
  running = submit(scheduler, cases[0][0], gate)
  gate.reached()
  waiting = [submit(scheduler, case[0]) for case in cases]
  ended = []
  drain = threading.Thread(
    target=lambda: ended.append(scheduler.drain(small_server.PATIENCE))
  )
  drain.start()
  until(lambda: scheduler.status() == 'draining')
  with pytest.raises(Draining):
    submit(scheduler, cases[0][0])
  gate.open()
  drain.join()
  assert ended == [True]
  assert_whole(running, cases[0])
  # The others would have waited: for a slot, or another search's end.
  begun = (0, 2, 3, 7, 8, 10, 11)
  for i, client in enumerate(waiting):
    if i in begun:
      assert_whole(client, cases[i])
    else:
      assert isinstance(client.result().error, Draining)
      assert len(client.events) == 1


def test_what_was_accepted_before_may_still_come(cases):
  """It begins at once, or not at all; the end waits for it."""
  scheduler, coming = start(), threading.Event()
  coming.set()
  until(lambda: scheduler.status() == 'ready')
  ended = []
  drain = threading.Thread(
    target=lambda: ended.append(
      scheduler.drain(small_server.PATIENCE, coming.is_set)
    )
  )
  drain.start()
  until(lambda: scheduler.status() == 'draining')
  gate = Gate()
  first = submit(scheduler, cases[0][0], gate)
  gate.reached()
  others = [submit(scheduler, cases[i][0]) for i in (0, 1)]
  gate.open()
  assert isinstance(others[1].result().error, Draining)
  for client in (first, others[0]):
    assert_whole(client, cases[0])
  assert not ended
  coming.clear()
  drain.join()
  assert ended == [True]
  with pytest.raises(Draining):
    submit(scheduler, cases[0][0])


def test_what_takes_too_long_fails_at_the_end(cases):
  scheduler = start()
  gate = Gate()
  running = submit(scheduler, cases[0][0], gate)
  gate.reached()
  assert not scheduler.drain(0)
  gate.open()
  assert isinstance(running.result().error, Draining)
  assert not scheduler.drain(small_server.PATIENCE)


def test_a_thread_that_hangs_is_told(cases):
  now = [0.0]
  scheduler = start(clock=lambda: now[0])
  until(lambda: scheduler.status() == 'ready')
  now[0] += STALLED + 1  # there was no work
  gate = Gate()
  client = submit(scheduler, cases[0][0], gate)
  gate.reached()
  assert scheduler.status() == 'ready'
  now[0] += STALLED + 1
  assert scheduler.status() == 'stalled'
  gate.open()
  assert_whole(client, cases[0])
  until(lambda: scheduler.status() == 'ready')
  assert scheduler.drain(small_server.PATIENCE)


def no_memory(*args, **kwargs):
  raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: out of memory')


def test_a_job_without_memory_fails_alone(cases, monkeypatch):
  """While its prompt is read, with others'; while its images are."""
  encode, see = prefills.Prefills.encode, prefills.Prefills.see

  def picky(self, prompts, *rest):
    if any(prompt.key == cases[2][0].prompt.key for prompt in prompts):
      no_memory()
    return encode(self, prompts, *rest)

  def blind(self, jobs):
    if any(job.prompt.images for job in jobs):
      no_memory()
    see(self, jobs)

  scheduler = start()
  gate = Gate()
  submit(scheduler, cases[1][0], gate)
  gate.reached()
  monkeypatch.setattr(prefills.Prefills, 'encode', picky)
  monkeypatch.setattr(prefills.Prefills, 'see', blind)
  clients = [submit(scheduler, cases[i][0]) for i in (2, 0, 3, 8, 9, 11)]
  gate.open()
  for client in clients[:2] + clients[3:4]:
    assert isinstance(client.result().error, OutOfMemory)
    assert isinstance(client.events[0], Started) and len(client.events) == 2
  for client, i in zip(clients[2:3] + clients[4:], (3, 9, 11), strict=True):
    assert_whole(client, cases[i])
  monkeypatch.undo()
  assert_whole(submit(scheduler, cases[2][0]), cases[2])
  assert scheduler.drain(small_server.PATIENCE)


def test_slots_without_memory_are_made_anew(cases, monkeypatch):
  scheduler = start()
  until(lambda: scheduler.status() == 'ready')
  monkeypatch.setattr(pools, '_advance', no_memory)
  client = submit(scheduler, cases[0][0])
  assert isinstance(client.result().error, OutOfMemory)
  monkeypatch.undo()
  assert_whole(submit(scheduler, cases[0][0]), cases[0])
  assert scheduler.drain(small_server.PATIENCE)


def test_searches_without_memory_are_tried_alone(reference, cases, monkeypatch):
  advance, asked = beams._advance, []

  def narrow(model, params, memories, *rest):
    asked.append(len(memories))
    return (
      no_memory() if asked[-1] > 1 else advance(model, params, memories, *rest)
    )

  scheduler = start()
  gate = Gate()
  submit(scheduler, cases[0][0], gate)
  gate.reached()
  monkeypatch.setattr(beams, '_advance', narrow)
  jobs = [AnswerJob(cases[i][0].prompt, BEAMS) for i in (2, 3)]
  clients = [submit(scheduler, job) for job in jobs]
  gate.open()
  for client, job in zip(clients, jobs, strict=True):
    assert_whole(client, (job, *expected(reference, job)))
  assert asked[0] == 2 and set(asked[1:]) == {1}
  monkeypatch.setattr(beams, '_advance', no_memory)
  client = submit(scheduler, jobs[0])
  assert isinstance(client.result().error, OutOfMemory)
  monkeypatch.undo()
  assert_whole(submit(scheduler, cases[8][0]), cases[8])
  assert scheduler.drain(small_server.PATIENCE)


def test_a_fault_of_one_job_is_told_to_it(cases, monkeypatch):
  scheduler = start()
  until(lambda: scheduler.status() == 'ready')

  def broken(*args):
    raise ValueError('a fault')

  monkeypatch.setattr(prefills.Prefills, 'encode', broken)
  assert str(submit(scheduler, cases[2][0]).result().error) == 'a fault'
  monkeypatch.undo()
  assert_whole(submit(scheduler, cases[2][0]), cases[2])

  def act(client, event):
    raise ValueError("a listener's fault")

  lost = submit(scheduler, cases[2][0], act)
  assert_whole(submit(scheduler, cases[2][0]), cases[2])
  assert len(lost.events) == 1
  assert scheduler.drain(small_server.PATIENCE)


@pytest.mark.parametrize('place', ['turn', 'device'])
def test_a_dead_thread_tells_all(cases, monkeypatch, place):
  scheduler = start()
  gate = Gate()
  clients = [submit(scheduler, cases[0][0], gate)]
  gate.reached()
  clients += [submit(scheduler, case[0]) for case in cases]

  def die(*args, **kwargs):
    if place == 'turn':
      raise RuntimeError('a fault of ours')
    raise jax.errors.JaxRuntimeError('INTERNAL: the device is lost')

  monkeypatch.setattr(
    *((lanes.Lane, 'turn') if place == 'turn' else (pools, '_advance')), die
  )
  gate.open()
  for client in clients:
    error = client.result().error
    assert isinstance(error, EngineDead) and (
      'a fault of ours' in str(error) or 'the device is lost' in str(error)
    )
  assert scheduler.status() == 'dead'
  with pytest.raises(EngineDead):
    submit(scheduler, cases[0][0])
  assert not scheduler.drain(small_server.PATIENCE)

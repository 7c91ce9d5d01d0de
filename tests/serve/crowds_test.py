"""Jobs in any company and order give what a Predictor gives alone."""

import random
import threading
import time

import numpy as np
import pytest
import small_server
from engine_cases import (
  BEAMS,
  CANDIDATES,
  GREEDY,
  assert_choice,
  assert_whole,
  start,
  submit,
)
from small_server import IMAGES, Gate, turn, until

from mmicl_jax.decoding.options import Options
from mmicl_jax.errors import UserError
from mmicl_jax.serve import beams
from mmicl_jax.serve.jobs import (
  AnswerJob,
  DeadlinePassed,
  Finished,
  NewTokens,
  QueueFull,
  RankJob,
)

pytestmark = pytest.mark.slow  # some programs are compiled for all of them


@pytest.fixture(scope='module')
def shared(cases):
  scheduler = start(max_queue=1000)  # a slow machine refuses nothing
  until(lambda: scheduler.status() == 'ready')
  yield scheduler
  assert scheduler.drain(small_server.PATIENCE)


def test_each_job_alone(shared, cases):
  for case in cases:
    assert_whole(submit(shared, case[0]), case)


def test_the_cases_are_of_many_kinds(cases):
  answers = [case for case in cases if case[2] is not None]
  lengths = {len(tokens) for _, found, _ in answers for tokens, _ in found}
  ends = {tokens[-1] == 1 for _, found, _ in answers for tokens, _ in found}
  assert len(lengths) > 3 and ends == {True, False}
  samples = cases[5][1]
  assert samples[0] == samples[2] != samples[1]


@pytest.mark.parametrize('seed', [0, 1])
def test_a_crowd_of_jobs_and_cancels(shared, cases, seed):
  """40 jobs from 4 threads at random moments; a third of them is left."""
  before = shared.counts().programs
  done = []

  def leave(client, event):
    """At its second event."""
    if len(client.events) == 2:
      client.ticket.cancel()

  def leave_one(client, event):
    if isinstance(event, NewTokens) and event.choice == 1:
      client.ticket.cancel(1)

  def work(number):
    chance = random.Random(10 * seed + number)
    for _ in range(10):
      case = chance.choice(cases)
      kind = chance.choice(['whole'] * 4 + ['second', 'at once', 'one'])
      act = {'second': leave, 'one': leave_one}.get(kind)
      if kind == 'one' and getattr(case[0], 'choices', 1) < 2:
        kind, act = 'whole', None
      client = submit(shared, case[0], act)
      if kind == 'at once':
        client.ticket.cancel()
      done.append((client, case, kind))
      time.sleep(chance.random() / 50)

  threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert len(done) == 40
  for client, case, kind in done:
    if kind == 'whole':
      assert_whole(client, case)

  def is_idle():
    counts = shared.counts()
    return counts.running == counts.waiting == counts.slots_used == 0

  until(is_idle)
  for client, case, kind in done:
    if kind == 'one':
      for choice in {*range(case[0].choices)} - {1}:
        assert_choice(client, case, choice)
      assert not any(
        isinstance(e, Finished) and e.choice == 1 for e in client.events
      )
    elif kind == 'second':
      assert len(client.events) == 2
    elif kind == 'at once' and case[2] is not None:
      for choice, (tokens, _) in enumerate(case[1]):
        got = client.tokens(choice)[0]
        assert got == tokens[: len(got)]
  assert shared.status() == 'ready'
  assert shared.counts().programs == before


def test_images_and_prompts_are_read_once(reference, cases):
  """Once for all jobs at a time, and later ones; candidates may differ."""
  scheduler = start()
  gate = Gate()
  first = submit(scheduler, cases[2][0], gate)
  gate.reached()
  query = turn('is image {0} a cat? {image}', IMAGES[1])
  other = reference.prompt(query)  # with an image of the first prompt
  jobs = [cases[0][0], AnswerJob(other, GREEDY), cases[10][0]]
  clients = [submit(scheduler, job) for job in jobs]
  gate.open()
  for client in clients:
    client.result()
  assert_whole(clients[0], cases[0])
  assert [c.events[0].cached for c in (first, *clients)] == [False] * 4
  counts = scheduler.counts()
  assert (counts.images_asked, counts.images_known) == (2, 0)
  again = submit(scheduler, RankJob(jobs[0].prompt, CANDIDATES[3:5]))
  assert again.result().log_probs[0] == pytest.approx(cases[10][1][3])
  assert again.events[0].cached
  assert scheduler.counts().images_asked == 2
  assert scheduler.counts().prompts_known == 1
  assert scheduler.drain(small_server.PATIENCE)


def test_the_queue_is_bounded_and_jobs_have_deadlines(cases):
  now = [0.0]
  scheduler = start(max_queue=4, clock=lambda: now[0])
  gate = Gate()
  submit(scheduler, cases[0][0], gate)
  gate.reached()
  late = submit(scheduler, cases[0][0], deadline=5.0)
  wide = submit(scheduler, cases[8][0])  # three beams
  held = submit(scheduler, cases[0][0])  # `late` has a slot, this one has none
  with pytest.raises(QueueFull):
    submit(scheduler, cases[0][0])
  assert scheduler.counts().waiting == 5
  held.ticket.cancel()
  wide.ticket.cancel()
  early = submit(scheduler, cases[1][0], deadline=7.0)
  now[0] = 6.0
  gate.open()
  assert isinstance(late.result().error, DeadlinePassed)
  assert len(late.events) == 1
  assert_whole(early, cases[1])
  assert scheduler.drain(small_server.PATIENCE) and wide.events == []


def test_a_job_that_has_a_free_slot_does_not_wait(cases):
  """Though the engine has not come to take it from the queue."""
  scheduler = start(max_queue=0)
  gate = Gate()
  clients = [submit(scheduler, cases[2][0], gate)]
  gate.reached()
  # Two slots for long prompts, and three more for short ones.
  burst = (0, 1, 3, 2, 3)
  clients += [submit(scheduler, cases[i][0]) for i in burst]
  clients.append(submit(scheduler, cases[0][0]))  # nobody waits before it
  for i in (0, 8, 10):
    with pytest.raises(QueueFull):
      submit(scheduler, cases[i][0])
  gate.open()
  for client, i in zip(clients, (2, *burst, 0), strict=True):
    assert_whole(client, cases[i])
  assert scheduler.drain(small_server.PATIENCE)


def test_what_nobody_wants_is_not_run(cases, monkeypatch):
  """Rows and searches leave at once, whether they run or wait."""
  advance, searched = beams._advance, []

  def note(*args):
    searched.append(args)
    return advance(*args)

  scheduler = start()
  gates = Gate(), Gate()
  early = [submit(scheduler, cases[i][0]) for i in (0, 1)]
  for client in early:  # their prompts need not be read again
    client.result()
  monkeypatch.setattr(beams, '_advance', note)

  def hold(client, event):
    """In the middle of its answer."""
    if isinstance(event, NewTokens):
      gates[1](client, event)

  first = submit(scheduler, cases[2][0], gates[0])
  gates[0].reached()
  search = submit(scheduler, AnswerJob(cases[3][0].prompt, BEAMS))
  left = submit(scheduler, cases[1][0])
  beside = submit(scheduler, cases[0][0], hold)
  gates[0].open()
  gates[1].reached()
  wide = submit(scheduler, cases[5][0])  # four samples for two slots
  searches = [submit(scheduler, cases[i][0]) for i in (8, 9)]
  for client in (left, search, wide, *searches):
    client.ticket.cancel()
  last = submit(scheduler, cases[1][0])
  gates[1].open()
  for client, i in ((first, 2), (beside, 0), (last, 1)):
    assert_whole(client, cases[i])
  assert 0 < len(left.tokens()[0]) < len(last.tokens()[0])
  assert [client.events for client in (wide, *searches)] == [[], [], []]
  assert len(search.events) == len(searched) == 1
  told = (*early, first, left, beside, last)
  ran = sum(len(client.tokens()[0]) for client in told)
  assert scheduler.counts().step_rows == ran
  assert scheduler.drain(small_server.PATIENCE)


def test_a_job_with_more_rows_than_the_queue_is_taken_when_none_waits(cases):
  scheduler = start(max_queue=1)
  assert_whole(submit(scheduler, cases[5][0]), cases[5])
  assert scheduler.drain(small_server.PATIENCE)


def test_jobs_that_cannot_be_done_are_refused(shared, cases, prompts):
  long = small_server.predictor().prompt('no ' * 14)
  long.__dict__['tokens'] = np.arange(2, 60, dtype=np.int32)
  for job, message in (
    (AnswerJob(long, GREEDY), 'the prompt has 58 tokens'),
    (AnswerJob(prompts[0], Options(max_new_tokens=9)), 'max_new_tokens is 9'),
    (RankJob(prompts[0], ((5, 5, 5, 5, 1),)), 'a candidate has 5 tokens'),
    (
      AnswerJob(prompts[0], Options(max_new_tokens=8, num_beams=500)),
      'num_beams is 500',
    ),
  ):
    with pytest.raises(UserError, match=message):
      submit(shared, job)
  with pytest.raises(UserError, match='give one of tiny'):
    shared.submit('other', cases[0][0], print)

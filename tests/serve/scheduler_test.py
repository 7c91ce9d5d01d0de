"""Jobs in any company and order give what a Predictor gives alone."""

import random
import threading
import time

import jax
import numpy as np
import pytest
import small_server
from small_server import IMAGES, SETTINGS, Client, Gate, turn, until

from mmicl_jax.decoding.options import Options
from mmicl_jax.errors import UserError
from mmicl_jax.serve import beams, lanes, pools, prefills
from mmicl_jax.serve.jobs import (
  AnswerJob,
  DeadlinePassed,
  Draining,
  EngineDead,
  Failed,
  Finished,
  NewTokens,
  OutOfMemory,
  QueueFull,
  RankJob,
  Started,
)
from mmicl_jax.serve.scheduler import STALLED, Scheduler

pytestmark = pytest.mark.slow  # some programs are compiled for all of them

GREEDY = Options(max_new_tokens=7)
SAMPLES = Options(max_new_tokens=7, do_sample=True, top_k=0, seed=3)
NUCLEUS = Options(
  max_new_tokens=8, do_sample=True, top_k=9, top_p=0.8, temperature=1.5
)
BEAMS = Options(max_new_tokens=6, num_beams=3, num_return_sequences=2)
CANDIDATES = tuple((5 + i, *(6,) * (i % 3), 1) for i in range(11))


@pytest.fixture(scope='module')
def reference():
  return small_server.predictor()


@pytest.fixture(scope='module')
def prompts(reference):
  """Two long ones, of which one has two images, and two short ones."""
  shot = turn('is image {0} a dog? {image}', IMAGES[1], answer='yes')
  long = [
    reference.prompt(turn('is image {0} a cat? {image}', IMAGES[0]), [shot]),
    reference.prompt(turn('is it a red dog and cat? ' * 3)),
  ]
  short = [reference.prompt(turn(text)) for text in ('what is it?', 'no')]
  assert all(32 < len(p.tokens) <= 48 for p in long)
  assert all(len(p.tokens) <= 16 for p in short)
  return [*long, *short]


@pytest.fixture(scope='module')
def cases(reference, prompts):
  """(job, the tokens and log-probabilities of each choice, scores)."""
  jobs = [
    *(AnswerJob(prompt, GREEDY) for prompt in prompts),
    AnswerJob(prompts[0], Options(max_new_tokens=2), top_logprobs=3),
    AnswerJob(prompts[0], SAMPLES, (7, 2**32 - 1, 7, 11)),
    AnswerJob(prompts[1], SAMPLES, (0,)),
    AnswerJob(prompts[2], NUCLEUS, (5, 6)),
    AnswerJob(prompts[0], BEAMS),
    AnswerJob(prompts[1], Options(max_new_tokens=6, num_beams=3)),
    RankJob(prompts[0], CANDIDATES),
    RankJob(prompts[1], CANDIDATES[:2]),
  ]
  return [(job, *expected(reference, job)) for job in jobs]


def expected(reference, job):
  if isinstance(job, RankJob):
    [found] = reference.engine.score([job.prompt], [job.candidates])
    return found, None
  if job.options.do_sample:
    answers = [
      reference.answers([job.prompt], job.options, np.uint32([row]))[0]
      for row in job.rows
    ]
  else:
    [first] = reference.answers([job.prompt], job.options)
    answers = [first, *first.others]
  return [(a.tokens, a.log_probs) for a in answers], [a.score for a in answers]


def start(**settings):
  scheduler = Scheduler(
    {'tiny': small_server.predictor()},
    **{**SETTINGS, 'searches': [BEAMS], **settings},
  )
  scheduler.start()
  return scheduler


@pytest.fixture(scope='module')
def shared(cases):
  scheduler = start(max_queue=1000)  # a slow machine refuses nothing
  until(lambda: scheduler.status() == 'ready')
  yield scheduler
  assert scheduler.drain(small_server.PATIENCE)


def submit(scheduler, job, act=None, **settings):
  client = Client(getattr(job, 'choices', 1), act)
  return client.submit(scheduler, job, **settings)


def assert_whole(client, case):
  """All events of a job that nobody cancelled."""
  job, found, scores = case
  assert not isinstance(client.result(), Failed), client.result()
  assert isinstance(client.events[0], Started)
  assert sum(isinstance(e, Started) for e in client.events) == 1
  if isinstance(job, RankJob):
    assert len(client.events) == 2
    for got, want in zip(client.events[1].log_probs, found, strict=True):
      np.testing.assert_allclose(got, want, atol=1e-5)
    return
  for choice in range(job.choices):
    assert_choice(client, case, choice)


def assert_choice(client, case, choice):
  job, found, scores = case
  tokens, log_probs = client.tokens(choice)
  assert tokens == found[choice][0]
  np.testing.assert_allclose(log_probs, found[choice][1], atol=1e-5)
  own = [e for e in client.events[1:] if e.choice == choice]
  assert [isinstance(e, Finished) for e in own] == [False] * (len(own) - 1) + [
    True
  ]
  assert own[-1].score == pytest.approx(scores[choice], abs=1e-5)
  assert own[-1].reason == ('stop' if tokens[-1] == 1 else 'length')
  for event in own[:-1]:
    assert len(event.tokens) == len(event.log_probs)
    assert len(event.top) == (len(event.tokens) if job.top_logprobs else 0)
    for value, top in zip(event.log_probs, event.top, strict=False):
      assert len(top) == job.top_logprobs
      assert top[0][1] == pytest.approx(value)  # greedy


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
  with pytest.raises(QueueFull):
    submit(scheduler, cases[0][0])
  assert scheduler.counts().waiting == 4
  wide.ticket.cancel()
  early = submit(scheduler, cases[1][0], deadline=7.0)
  now[0] = 6.0
  gate.open()
  assert isinstance(late.result().error, DeadlinePassed)
  assert len(late.events) == 1
  assert_whole(early, cases[1])
  assert scheduler.drain(small_server.PATIENCE) and wide.events == []


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


def test_what_runs_ends_before_the_engine_does(cases):
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
  for client in waiting:
    assert isinstance(client.result().error, Draining)
    assert len(client.events) == 1


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

  def narrow(model, params, memory, *rest):
    asked.append(len(memory.is_token))
    return (
      no_memory() if asked[-1] > 1 else advance(model, params, memory, *rest)
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

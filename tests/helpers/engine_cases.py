"""Jobs of many kinds for the server's engine, and what must come of them."""

import numpy as np
import pytest
import small_server
from small_server import IMAGES, SETTINGS, Client, turn

from mmicl_jax.decoding.options import Options
from mmicl_jax.serve.jobs import AnswerJob, Failed, Finished, RankJob, Started
from mmicl_jax.serve.scheduler import Scheduler

GREEDY = Options(max_new_tokens=7)
SAMPLES = Options(max_new_tokens=7, do_sample=True, top_k=0, seed=3)
NUCLEUS = Options(
  max_new_tokens=8, do_sample=True, top_k=9, top_p=0.8, temperature=1.5
)
BEAMS = Options(max_new_tokens=6, num_beams=3, num_return_sequences=2)
CANDIDATES = tuple((5 + i, *(6,) * (i % 3), 1) for i in range(11))


def make_prompts(reference):
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


def make_cases(reference, prompts):
  """(job, the tokens and log-probabilities of each choice, scores)."""
  jobs = [
    *(AnswerJob(prompt, GREEDY) for prompt in prompts),
    AnswerJob(prompts[0], Options(max_new_tokens=2), top_logprobs=3),
    AnswerJob(prompts[0], SAMPLES, (7, 2**32 - 1, 7, 11)),
    AnswerJob(prompts[1], SAMPLES, (0,)),
    AnswerJob(prompts[2], NUCLEUS, (5, 6)),
    AnswerJob(prompts[0], BEAMS),
    AnswerJob(
      prompts[1],
      Options(
        max_new_tokens=6,
        num_beams=3,
        min_new_tokens=4,
        repetition_penalty=1.3,
      ),
    ),
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

"""The benchmark of serving: what its clients ask, and what it says."""

import dataclasses
import json

import numpy as np
import pytest
import small_server

from mmicl_jax.__main__ import main
from mmicl_jax.bench import serve_load, serve_sides
from mmicl_jax.bench.serve import measure_serving, serve_cases, serve_table
from mmicl_jax.bench.serve_load import ServeCase, bodies
from mmicl_jax.context.turns import Turn, assemble
from mmicl_jax.decoding.options import Options
from mmicl_jax.serve.jobs import AnswerJob, Finished
from mmicl_jax.serve.scheduler import Scheduler
from mmicl_jax.tokenizer import Tokenizer, train_sentencepiece


class FakeServers:
  """Sides whose times are known; the second answers one request otherwise."""

  names = ('slots', 'transformers')

  def __init__(self):
    self.asked = []

  def ask(self, name, case):
    self.asked.append((name, case.turn))
    seconds = {'slots': 2.0, 'transformers': 8.0}[name]
    answers = ['a'] * (case.requests - 1) + [name]
    seconds += case.turn == 3  # one slow round
    return 0.0, (seconds if case.turn else 99.0, [seconds / 2] * 8, answers)


def test_sides_take_turns_and_the_first_is_not_timed():
  fake = FakeServers()
  rows = measure_serving('tiny', ServeCase('vqa', 4, 8), fake, rounds=3)
  assert fake.asked == [(name, i) for i in range(4) for name in fake.names]
  assert [row['requests_per_second'] for row in rows] == [4, 1]
  assert [row['ratio'] for row in rows] == [4, 1]
  assert [row['p50'] for row in rows] == [1, 4]
  assert [row['agreement'] for row in rows] == [1, 7 / 8]
  assert '4.00 (2.67 to 4.00) | 4.00x | 1.00 | 1.50' in serve_table(rows)


def test_turns_differ_in_images_alone():
  """So the untimed one compiles what the timed ones need."""

  def images(messages):
    return [
      part['image_url']['url']
      for message in messages
      if message['role'] == 'user'
      for part in message['content'][:1]
    ]

  def without_images(body):
    return json.dumps(body['messages']).replace(
      images(body['messages'])[-1], ''
    ), body['max_tokens']

  case = ServeCase('few-shot', 2, 40)
  first, second = bodies(case, 8), bodies(ServeCase('few-shot', 2, 40, 0, 1), 8)
  assert list(map(without_images, first)) == list(map(without_images, second))
  new = [images(body['messages'])[-1] for body in first + second]
  assert len(set(new)) == 80
  shots = {url for body in first for url in images(body['messages'])[:-1]}
  assert len(shots) == serve_load.POOL
  lengths = [body['max_tokens'] for body in first]
  assert min(lengths) >= 2 and max(lengths) <= 64
  assert np.mean([n <= 20 for n in lengths]) > 0.5


def test_prompts_fit_the_servers(tmp_path):
  vocabulary = tmp_path / 'spiece.model'
  train_sentencepiece([' '.join(serve_load.WORDS)] * 9, vocabulary, 40)
  tokenizer = Tokenizer(vocabulary)
  lengths = []
  for body in bodies(ServeCase('few-shot', 1, 64), 8):
    turns = [
      Turn(f'image {{0}} is {{image}}.\n{m["content"][1]["text"]}', [b''])
      for m in body['messages'][::2]
    ]
    answers = [m['content'] for m in body['messages'][1::2]]
    shots = [
      dataclasses.replace(turn, answer=answer)
      for turn, answer in zip(turns[:-1], answers, strict=True)
    ]
    text = assemble(turns[-1], shots).inputs
    lengths.append(len(tokenizer.encode(text)) + 31 * len(turns) + 1)
  assert 128 < min(lengths) and max(lengths) <= serve_sides.LONGEST


def test_cases_and_arguments(capsys):
  cases = serve_cases(['vqa', 'few-shot'], [1, 32], 2)
  assert [case.requests for case in cases] == [8, 64, 8, 64]
  assert len({case.name for case in cases}) == len({c.seed for c in cases}) == 4
  assert main(['bench', 'serve', '--workloads', 'chess']) == 2
  assert '--workloads has' in capsys.readouterr().err


@pytest.mark.slow
def test_batches_and_single_calls_give_the_same_answers():
  """And a batch ends before the next one begins."""
  predictor = small_server.predictor()
  prompt = predictor.prompt('what is it?')
  jobs = [
    AnswerJob(prompt, Options(max_new_tokens=n)) for n in (2, 7, 3, 4, 1, 2)
  ]
  want = [predictor.answers([j.prompt], j.options)[0].tokens for j in jobs]
  order = []

  def note(client, event):
    if isinstance(event, Finished):
      order.append(clients.index(client))

  scheduler = Scheduler(
    {'tiny': small_server.predictor()},
    pool=serve_sides.Gangs,
    **small_server.SETTINGS,
  )
  clients = [small_server.Client(act=note) for _ in jobs]
  for client, job in zip(clients, jobs, strict=True):
    client.submit(scheduler, job)
  scheduler.start()
  for client in clients:
    client.result()
  assert [client.tokens()[0] for client in clients] == want
  assert max(order.index(i) for i in range(4)) < min(map(order.index, (4, 5)))
  assert scheduler.drain(small_server.PATIENCE)
  alone = serve_sides.OneByOne(small_server.predictor())
  for job, tokens in zip(jobs, want, strict=True):
    assert alone.answer([job]) == [list(tokens)]

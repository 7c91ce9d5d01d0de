"""Choices of structured_outputs on both paths, streamed and not."""

import json
import socket

import numpy as np
import pytest
from http_running import read_until
from served_model import Scripted, user, words

from mmicl_jax.serve import jobs

CHAT, RAW = '/v1/chat/completions', '/v1/completions'
CHOICE = {'structured_outputs': {'choice': ['a dog', 'a cat']}}
ASK = {CHAT: {'messages': [user(words('what?'))]}, RAW: {'prompt': 'what?'}}


def tell(job, listener):
  """The engine's answer: the second of two candidates is the likelier one."""
  first, second = (np.full(len(ids), -1.0) for ids in job.candidates)
  listener(jobs.Started(False))
  listener(jobs.Rated((first, second / 2)))


@pytest.mark.parametrize('path', [CHAT, RAW])
def test_the_likeliest_is_the_answer(scripted, path):
  scheduler = scripted.service.scheduler

  def submit(model, job, listener, deadline):
    tell(job, listener)
    return Scripted.submit(scheduler, model, job, listener)

  scheduler.submit = submit
  more = {'logprobs': path == CHAT}  # false means none on both
  body = {**ASK[path], **CHOICE, **more}
  status, _, found = scripted.post(path, body)
  [choice] = found['choices']
  said = choice['message']['content'] if path == CHAT else choice['text']
  assert (status, said) == (200, 'a cat')
  assert len(found['mmicl']['candidates']) == 2
  _, _, data = scripted.post(path, {**body, 'stream': True})
  events = [line[6:] for line in data.decode().split('\n\n') if line]
  assert events.pop() == '[DONE]'
  chunks = [json.loads(event) for event in events]
  parts = [c for chunk in chunks for c in chunk['choices']]
  texts = [
    (c['delta'].get('content') if path == CHAT else c['text']) or ''
    for c in parts
  ]
  assert ''.join(texts) == 'a cat'
  assert chunks[0]['mmicl'] == found['mmicl'] | {
    'seed': chunks[0]['mmicl']['seed']
  }


@pytest.mark.parametrize('fails', [False, True])
def test_pings_while_the_choice_waits(scripted, monkeypatch, fails):
  monkeypatch.setattr('mmicl_jax.serve.stream.PING_SECONDS', 0.01)
  data = json.dumps({**ASK[CHAT], **CHOICE, 'stream': True}).encode()
  head = (
    f'POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: '
    f'application/json\r\nContent-Length: {len(data)}\r\n\r\n'
  )
  with socket.create_connection(('127.0.0.1', scripted.port), 60) as client:
    client.sendall(head.encode() + data)
    job, listener, _ = scripted.service.scheduler.wait_for(1)
    came = read_until(client, b': ping\n\n')
    assert b'HTTP/1.1 200' in came and b'data:' not in came
    if fails:
      listener(jobs.Failed(jobs.OutOfMemory()))
      assert b'[DONE]' not in read_until(client, b'out_of_memory', came)
    else:
      tell(job, listener)
      assert b'a cat' in read_until(client, b'[DONE]', came)

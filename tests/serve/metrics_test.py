"""What /metrics tells: of which model, from when on, and what it counts."""

import time
import types
from concurrent.futures import ThreadPoolExecutor

import http_running
import served_model
from served_model import Scripted, answer, user, words

from mmicl_jax.serve import posted
from mmicl_jax.serve.jobs import Counts, Failed, OutOfMemory
from mmicl_jax.serve.metrics import Metrics

CHAT = '/v1/chat/completions'
ASK = {'messages': [user(words('what?'))], 'max_tokens': 4}


def values(found):
  """{name with its labels: value} of /metrics."""
  text = found if isinstance(found, bytes) else found.ask('GET', '/metrics')[2]
  lines = [line for line in text.decode().splitlines() if line[0] != '#']
  return {name: float(n) for name, n in (x.rsplit(' ', 1) for x in lines)}


def test_all_is_there_before_anything_is_asked(scripted):
  """A rate is of two samples: the first one must not be missing."""
  found = values(scripted)
  for name in (
    *('prompt_tokens_total', 'generation_tokens_total'),
    *('time_to_first_token_seconds_count', 'e2e_request_latency_seconds_count'),
  ):
    assert found[f'mmicl_{name}{{model_name="tiny"}}'] == 0
  for reason in ('stop', 'length'):
    labels = f'{{finished_reason="{reason}",model_name="tiny"}}'
    assert found[f'mmicl_request_success_total{labels}'] == 0
  for reason in ('overloaded', 'invalid_api_key', 'draining'):
    labels = f'{{reason="{reason}"}}'
    assert found[f'mmicl_requests_rejected_total{labels}'] == 0


def test_whatever_refuses_a_request_is_counted(tiny_served_predictor):
  with served_model.serving(
    tiny_served_predictor, Scripted(), api_keys=('key',)
  ) as found:
    key = {'authorization': 'Bearer key'}
    found.ask('GET', '/version')
    found.ask('GET', '/nothing', **key)
    found.ask('DELETE', '/version', **key)
    found.ask('GET', '/version', host='evil.example')
    found.post(CHAT, {**ASK, 'model': 'other'}, **key)
    found.post(CHAT, {**ASK, 'echo': True}, **key)
    told = values(found.ask('GET', '/metrics', **key)[2])
  rejected = {
    name.split('"')[1]: value
    for name, value in told.items()
    if name.startswith('mmicl_requests_rejected_total') and value
  }
  assert rejected == dict.fromkeys(
    (
      *('invalid_api_key', 'not_found', 'method_not_allowed', 'invalid_host'),
      *('model_not_found', 'unsupported_parameter'),
    ),
    1,
  )


def test_times_begin_when_the_request_comes(scripted, monkeypatch):
  """100 s ago; its prompt is counted if it starts."""
  earlier = types.SimpleNamespace(monotonic=lambda: time.monotonic() - 100)
  monkeypatch.setattr(posted, 'time', earlier)
  scheduler, own = scripted.service.scheduler, '{model_name="tiny"}'
  with ThreadPoolExecutor(1) as pool:
    asked = pool.submit(scripted.post, CHAT, ASK)
    scheduler.wait_for(1)[1](Failed(OutOfMemory()))
    assert asked.result()[0] == 500
    assert values(scripted)[f'mmicl_prompt_tokens_total{own}'] == 0
    asked = pool.submit(scripted.post, CHAT, ASK)
    job, listener, _ = scheduler.wait_for(2)
    answer(listener, [5, 1])
    assert asked.result()[0] == 200
  http_running.eventually(lambda: scripted.service.is_idle)
  found = values(scripted)
  count = len(job.prompt.tokens)
  assert found[f'mmicl_prompt_tokens_total{own}'] == count
  assert found[f'mmicl_time_to_first_token_seconds_sum{own}'] >= 100
  assert found[f'mmicl_e2e_request_latency_seconds_sum{own}'] >= 200
  assert found[f'mmicl_request_queue_time_seconds_sum{own}'] < 100


def test_a_model_has_one_label_whatever_it_is_called():
  """The first of its names, as vLLM does; other models have their own."""
  metrics = Metrics('x_')
  counts = {'a': Counts(running=3, programs=9), 'b': Counts(running=1)}
  metrics.open({'one': 'a', 'two': 'a', 'three': 'b'}, counts.__getitem__)
  metrics.count('prompt_tokens', 'one', 5)
  metrics.count('prompt_tokens', 'two', 6)
  metrics.observe('request_params_n', 'three', 1)
  found = values(metrics.text())
  assert found['x_prompt_tokens_total{model_name="one"}'] == 11
  assert found['x_num_requests_running{model_name="one"}'] == 3
  assert found['x_num_requests_running{model_name="three"}'] == 1
  assert found['x_request_params_n_count{model_name="three"}'] == 1
  assert [n for n in found if 'compiles' in n] == [
    'x_compiles_total{model_name="one"}'
  ]
  assert 'two' not in metrics.text().decode()

"""docs/serving.md has the table that the server reads requests by."""

import re

import build_deps
import pytest
from served_model import user, words

from mmicl_jax.serve import paths, reference
from mmicl_jax.serve.health import Health, health_routes
from mmicl_jax.serve.metrics import Metrics, metrics_route
from mmicl_jax.serve.page_files import page_routes
from mmicl_jax.serve.service import Service
from mmicl_jax.serve.settings import Settings

# A value of each honoured field that is allowed with those of WITH.
VALUES = {
  'model': 'tiny',
  'messages': [user(words('what is it?'))],
  'turns': [{'text': 'what is it?'}],
  'prompt': 'what is it?',
  'images': [],
  'candidates': ['yes', 'no'],
  'reduce': 'mean',
  'answer': 'a cat',
  'max_completion_tokens': 2,
  'max_tokens': 2,
  'min_tokens': 1,
  'temperature': 0.5,
  'top_p': 0.5,
  'top_k': 3,
  'n': 1,
  'seed': 3,
  'stop': 'zebra',
  'include_stop_str_in_output': True,
  'logprobs': True,
  'top_logprobs': 1,
  'stream': True,
  'stream_options': {'include_usage': True},
  'use_beam_search': False,
  'num_beams': 1,
  'length_penalty': 0.5,
  'repetition_penalty': 1.0,
  'no_repeat_ngram_size': 0,
  'structured_outputs': {'choice': ['yes', 'no']},
  'return_prompt_text': True,
  'mmicl': {'style': 'chat'},
}
HONOURED = [f for f in reference.FIELDS if not f.refused]


def test_the_document_has_the_table():
  text = (build_deps.ROOT / 'docs/serving.md').read_text(encoding='utf-8')
  assert reference.reference_markdown() in text


@pytest.mark.parametrize('path', [p for p in reference.PATHS if p.body])
def test_fields_are_honoured_where_the_table_says_so(served, path):
  known = [f.name for f in HONOURED if path.body in f.bodies]
  body = {name: VALUES[name] for name in known if name != 'turns'}
  if path.body == reference.COMPLETIONS:
    body['logprobs'] = 1
  others = [f.name for f in HONOURED if path.body not in f.bodies]
  for asked, ignored in ((body, []), ({**VALUES, **body}, others)):
    if ignored and 'turns' in known:
      del asked['turns']
    status, headers, found = served.post(path.path, asked)
    assert status == 200, found
    told = headers.get('x-mmicl-ignored', '')
    assert sorted(filter(None, told.split(', '))) == sorted(ignored)


def test_paths_are_those_of_the_table():
  routes = [
    *health_routes(lambda: Health.READY),
    *paths.prompt_routes(Service(Settings())),
    metrics_route(Metrics('mmicl_')),
    *page_routes(),
  ]
  found = {route.path.replace('{id:path}', '{id}') for route in routes}
  found.add('/version')
  told = {p.path for p in reference.PATHS}
  also = {'/health/ready', '/ping', '/page/{name:path}'}
  assert found - also == told


def test_numbers_in_the_document_are_the_servers():
  text = (build_deps.ROOT / 'docs/serving.md').read_text(encoding='utf-8')
  settings = Settings()
  for words_, value in (
    (r'at most (\d+) MiB and', settings.max_image >> 20),
    (r'and (\d+) million pixels', settings.max_pixels // 10**6),
    (r'budget of (\d+) GiB', settings.decoded_bytes >> 30),
    (r'(\d+) MiB a body', settings.max_body >> 20),
    (r'(\d+) MiB of bodies', settings.body_budget >> 20),
    (r'of an answer \((\d+)\)', settings.max_tokens),
    (r'in the queue \((\d+)\)', settings.request_timeout),
    (r'after SIGTERM \((\d+)\)', settings.shutdown_timeout),
  ):
    assert float(re.search(words_, text)[1]) == value, words_

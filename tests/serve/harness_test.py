"""Fifty items asked as lmms-eval's openai model asks them, 32 at once."""

from concurrent.futures import ThreadPoolExecutor

import http_running
import pytest
from served_model import image, picture, words

from mmicl_jax.context.turns import Turn

ITEMS, AT_ONCE, MAX_TOKENS = 50, 32, 6

pytestmark = pytest.mark.slow


def question(i):
  return f'what is the {"red" if i % 3 else "yes"} dog?' + ' a cat' * (i % 4)


def ask(client, i):
  """Parts in order, data URLs, max_tokens, and fields that mean nothing."""
  content = [*(image(10 * i + k) for k in range(i % 3)), words(question(i))]
  return client.chat.completions.create(
    model='tiny',
    messages=[{'role': 'user', 'content': content}],
    max_tokens=MAX_TOKENS,
    temperature=0,
    timeout=300,
    extra_body={'metadata': {'doc_id': i}},
  )


def test_a_harness_gets_the_predictors_answers(served):
  # A slow machine has no place for all of them yet.
  client = served.client.with_options(max_retries=60)
  with ThreadPoolExecutor(AT_ONCE) as pool:
    found = list(pool.map(lambda i: ask(client, i), range(ITEMS)))
  turns = [
    Turn(question(i), [picture(10 * i + k) for k in range(i % 3)])
    for i in range(ITEMS)
  ]
  expected = served.predictor.generate(turns, max_new_tokens=MAX_TOKENS)
  assert [a.choices[0].message.content for a in found] == [
    answer.text for answer in expected
  ]
  assert len({a.id for a in found}) == ITEMS
  http_running.eventually(lambda: served.service.is_idle)

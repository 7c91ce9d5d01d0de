"""What a server's log says of prompts: nothing, unless it is asked to."""

import logging
import re

import http_running
import served_model
from served_model import Asked, Scripted, answer, user, words

from mmicl_jax.serve import jobs

CHAT = '/v1/chat/completions'


def test_prompts_are_in_no_log(scripted, caplog):
  """Whatever goes wrong with them."""
  secret = 'zanzibar'
  with caplog.at_level(logging.DEBUG, 'mmicl_jax.serve'):
    for content in (
      f'{secret} <image3>',
      f'{secret} ' * 100,
      [words(secret), {'type': 'image_url', 'image_url': f'data:{secret},'}],
    ):
      body = {'messages': [{'role': 'user', 'content': content}]}
      assert scripted.post(CHAT, body)[0] == 400
    asked = Asked(scripted, CHAT, {'messages': [user(words(secret))]})
    _, listener, _ = scripted.service.scheduler.wait_for(1)
    listener(jobs.Failed(ValueError(secret)))
    assert asked.answer()[0] == 500
    http_running.eventually(lambda: caplog.text.count(f'POST {CHAT}') == 4)
    said = caplog.text
  assert secret not in said
  assert re.search(rf'\w+ POST {CHAT} 500 \d', said)


def test_prompts_are_logged_where_asked_for(tiny_served_predictor, caplog):
  scheduler = Scripted()
  shots = [
    user(words('casablanca')),
    served_model.assistant('marrakesh'),
    user(words('zanzibar')),
  ]
  with (
    served_model.serving(
      tiny_served_predictor, scheduler, log_prompts=True
    ) as found,
    caplog.at_level(logging.INFO, 'mmicl_jax.serve'),
  ):
    for i, (path, body) in enumerate(
      [
        (CHAT, {'messages': shots}),
        ('/v1/completions', {'prompt': 'timbuktu'}),
      ]
    ):
      asked = Asked(found, path, body)
      answer(scheduler.wait_for(i + 1)[1], [5, 1])
      assert asked.answer()[0] == 200
    assert "asks [('casablanca', 'marrakesh'), 'zanzibar']" in caplog.text
    assert "asks ['timbuktu']" in caplog.text

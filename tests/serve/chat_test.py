"""The official client, and answers that equal those of the Predictor."""

import json
import math

import http_running
import numpy as np
import pytest
from served_model import assistant, image, picture, url_of, user, words

from mmicl_jax.context.turns import Turn
from mmicl_jax.decoding.options import Options

QUESTION = [user(image(0), words('is the '), image(1), words(' a cat?'))]
SHOTS = [
  *(user(image(2), words('what is it?')), assistant('a dog')),
  user(image(3), words('what is it?')),
]
TURN = Turn(
  'image {0} is {image}.\nis the {image} a cat?', [picture(0), picture(1)]
)
SHOT_TURNS = [
  Turn('image {0} is {image}.\nwhat is it?', [picture(seed)], answer)
  for seed, answer in ((2, 'a dog'), (3, ''))
]


@pytest.fixture(scope='module')
def create(served):
  def ask(messages, **settings):
    settings.setdefault('max_tokens', 6)
    return served.client.chat.completions.create(
      model='tiny', messages=messages, **settings
    )

  return ask


@pytest.fixture(scope='module')
def greedy(served):
  """The Predictor's own answer to QUESTION."""
  [answer] = served.predictor.generate(TURN, max_new_tokens=6)
  return answer


def test_interleaved_images_are_answered_as_by_the_predictor(
  create, served, greedy
):
  found = create(
    QUESTION, logprobs=True, extra_body={'return_prompt_text': True}
  )
  [choice] = found.choices
  assert choice.message.content == greedy.text and greedy.text
  assert choice.message.role == 'assistant' and choice.index == 0
  assert choice.finish_reason == (
    'stop' if greedy.tokens[-1] == 1 else 'length'
  )
  entries = choice.logprobs.content
  assert ''.join(e.token for e in entries) == greedy.text
  decode = served.predictor.tokenizer.decode
  expected = [
    log_prob
    for token, log_prob in zip(greedy.tokens, greedy.log_probs, strict=True)
    if decode([token, token])  # special tokens have no text
  ]
  np.testing.assert_allclose([e.logprob for e in entries], expected, atol=1e-5)
  assert found.prompt_text == (
    'image 0 is <image0>图.\nis the <image1>图 a cat?'
  )
  assert found.usage.completion_tokens == len(greedy.tokens)
  assert found.usage.total_tokens == (
    found.usage.prompt_tokens + found.usage.completion_tokens
  )
  assert found.mmicl['images'] == 2 and found.object == 'chat.completion'


def test_turns_before_the_last_are_demonstrations(create, served):
  [answer] = served.predictor.generate(
    SHOT_TURNS[1], [SHOT_TURNS[0]], max_new_tokens=6
  )
  assert create(SHOTS).choices[0].message.content == answer.text


def test_a_prompt_that_was_known_is_said_to_be(create, served):
  first, again = create(SHOTS), create(SHOTS)
  prompt = again.usage.prompt_tokens
  assert again.usage.prompt_tokens_details.cached_tokens == prompt
  assert first.id != again.id
  assert first.system_fingerprint == served.predictor.digest


def test_beams_are_those_of_the_predictor(create, served):
  [answer] = served.predictor.generate(
    TURN, max_new_tokens=6, num_beams=3, num_return_sequences=2
  )
  found = create(
    QUESTION,
    n=2,
    logprobs=True,
    extra_body={'use_beam_search': True, 'num_beams': 3},
  )
  expected = [answer, *answer.others]
  assert [c.message.content for c in found.choices] == [
    a.text for a in expected
  ]


def test_samples_depend_on_the_seed_and_the_choice_alone(create, served):
  settings = {'temperature': 1.0, 'top_p': 0.9, 'seed': 5, 'n': 3}
  found = create(QUESTION, **settings, extra_body={'top_k': 20})
  options = Options(
    max_new_tokens=6, do_sample=True, top_p=0.9, top_k=20, seed=5
  )
  prompt = served.predictor.prompt(TURN)
  expected = [
    served.predictor.answers([prompt], options, np.uint32([i]))[0].text
    for i in range(3)
  ]
  assert [c.message.content for c in found.choices] == expected
  assert [c.index for c in found.choices] == [0, 1, 2]
  assert len(set(expected)) > 1
  one = create(QUESTION, **{**settings, 'n': 1}, extra_body={'top_k': 20})
  assert one.choices[0].message.content == expected[0]


def test_a_seed_that_was_drawn_is_told(create):
  found = create(QUESTION, temperature=1.0)
  again = create(QUESTION, temperature=1.0, seed=found.mmicl['seed'])
  assert again.choices[0].message.content == found.choices[0].message.content


@pytest.mark.parametrize('keep', [False, True])
def test_an_answer_ends_at_a_stop(create, greedy, keep):
  stop = greedy.text[2:4]
  cut = greedy.text.index(stop)
  found = create(
    QUESTION,
    stop=[stop, 'never'],
    logprobs=True,
    extra_body={'include_stop_str_in_output': keep},
  )
  [choice] = found.choices
  content = greedy.text[: cut + len(stop) * keep]
  assert choice.message.content == content
  assert (choice.finish_reason, choice.stop_reason) == ('stop', stop)
  assert ''.join(e.token for e in choice.logprobs.content) == content


def test_likeliest_tokens(create):
  found = create(QUESTION, logprobs=True, top_logprobs=3)
  for entry in found.choices[0].logprobs.content:
    top = [t.logprob for t in entry.top_logprobs]
    assert len(top) == 3 and top == sorted(top, reverse=True)
    assert math.isclose(top[0], entry.logprob, abs_tol=1e-5)


def test_a_stream_is_the_answer_in_parts(create, greedy):
  chunks = list(
    create(
      QUESTION,
      stream=True,
      stream_options={'include_usage': True},
      logprobs=True,
    )
  )
  assert len({chunk.id for chunk in chunks}) == 1
  assert {chunk.object for chunk in chunks} == {'chat.completion.chunk'}
  first, *parts, end, last = chunks
  assert first.choices[0].delta.role == 'assistant'
  assert ''.join(c.choices[0].delta.content for c in parts) == greedy.text
  tokens = [t for c in parts for t in c.choices[0].logprobs.content]
  assert ''.join(t.token for t in tokens) == greedy.text
  assert end.choices[0].finish_reason in ('stop', 'length')
  assert last.choices == []
  assert last.usage.completion_tokens == len(greedy.tokens)
  assert first.mmicl['images'] == 2


def test_a_stream_of_samples_has_the_same_choices(create):
  settings = {'temperature': 1.0, 'seed': 5, 'n': 3}
  whole = create(QUESTION, **settings)
  texts = ['', '', '']
  for chunk in create(QUESTION, **settings, stream=True):
    for choice in chunk.choices:
      texts[choice.index] += choice.delta.content or ''
  assert texts == [c.message.content for c in whole.choices]


def test_events_are_written_as_clients_read_them(served):
  body = {'messages': QUESTION, 'max_tokens': 2, 'stream': True}
  status, headers, data = served.post('/v1/chat/completions', body)
  assert status == 200
  assert headers['content-type'].startswith('text/event-stream')
  assert headers['cache-control'] == 'no-cache'
  assert headers['x-accel-buffering'] == 'no'
  events = data.decode().split('\n\n')
  assert events[-2:] == ['data: [DONE]', '']
  for event in events[:-2]:
    json.loads(event.removeprefix('data: '))


def test_a_choice_among_candidates_is_the_likeliest(create, served):
  candidates = ['a dog', 'yes', 'no']
  scores = served.predictor.score(TURN, candidates)[0]
  found = create(
    QUESTION,
    logprobs=True,
    extra_body={'structured_outputs': {'choice': candidates}},
  )
  best = candidates[int(scores.argmax())]
  assert found.choices[0].message.content == best
  told = found.mmicl['candidates']
  assert [c['text'] for c in told] == candidates
  np.testing.assert_allclose([c['logprob'] for c in told], scores, atol=1e-5)
  tokens = found.choices[0].logprobs.content
  assert ''.join(t.token for t in tokens) == best
  chunks = create(
    QUESTION,
    stream=True,
    extra_body={'structured_outputs': {'choice': candidates}},
  )
  assert best == ''.join(
    c.delta.content or '' for chunk in chunks for c in chunk.choices
  )


@pytest.mark.parametrize('reduce', ['sum', 'mean'])
def test_rank(served, reduce):
  candidates = ['a dog', 'yes', 'no']
  scores = served.predictor.score(TURN, candidates, reduce=reduce)[0]
  for form in (
    {'messages': QUESTION},
    {
      'turns': [
        {'text': TURN.text, 'images': [url_of(picture(i)) for i in (0, 1)]}
      ]
    },
  ):
    status, _, found = served.post(
      '/v1/rank', {**form, 'candidates': candidates, 'reduce': reduce}
    )
    assert status == 200, found
    told = found['candidates']
    np.testing.assert_allclose([c['logprob'] for c in told], scores, atol=1e-5)
    shares = np.exp(scores) / np.exp(scores).sum()
    np.testing.assert_allclose([c['share'] for c in told], shares, atol=1e-5)
    assert found['best'] == scores.argmax()


def test_completions_take_the_prompt_of_a_record(served, greedy):
  prompt = 'image 0 is <image0>图.\nis the <image1>图 a cat?'
  images = [url_of(picture(0)), url_of(picture(1))]
  settings = {'model': 'tiny', 'prompt': prompt, 'max_tokens': 6}
  found = served.client.completions.create(
    **settings, logprobs=2, extra_body={'images': images}
  )
  [choice] = found.choices
  assert choice.text == greedy.text and found.object == 'text_completion'
  assert ''.join(choice.logprobs.tokens) == greedy.text
  assert choice.logprobs.text_offset[0] == 0
  assert all(len(top) == 2 for top in choice.logprobs.top_logprobs)
  chunks = served.client.completions.create(
    **settings, stream=True, extra_body={'images': images}
  )
  assert ''.join(c.text for k in chunks for c in k.choices) == greedy.text


def test_text_alone_is_answered(served):
  [answer] = served.predictor.generate('what is it?', max_new_tokens=4)
  found = served.client.completions.create(
    model='tiny', prompt='what is it?', max_tokens=4
  )
  assert found.choices[0].text == answer.text


def test_render_says_what_would_be_dropped(served):
  many = [*SHOTS[:2] * 6, SHOTS[2]]
  path = '/v1/chat/completions/render'
  status, _, found = served.post(path, {'messages': many})
  assert status == 200 and not found['fits']
  assert found['prompt_tokens'] > found['max_model_len'] == 64
  assert 0 < found['dropped_demonstrations'] <= 6 and found['images'] < 7
  assert found['prompt_text'].count('a dog') == 6
  kept = {'messages': many, 'mmicl': {'truncate': True}}
  _, _, short = served.post(path, kept)
  assert short['fits']
  assert short['prompt_text'].count('a dog') == (
    6 - found['dropped_demonstrations']
  )
  status, _, answer = served.post(
    '/v1/chat/completions', {**kept, 'max_tokens': 2}
  )
  assert status == 200
  about = answer['mmicl']
  assert about['dropped_demonstrations'] == found['dropped_demonstrations']


def test_render_reads_no_pixels(served):
  part = {'type': 'image_url', 'image_url': {'url': 'data:,'}}
  body = {'messages': [user(part, words('what?'))]}
  status, _, found = served.post('/v1/chat/completions/render', body)
  assert status == 200 and found['images'] == 1


def test_models_and_probes(served):
  [model] = served.client.models.list().data
  assert (model.id, model.owned_by) == ('tiny', 'mmicl_jax')
  assert model.max_model_len == 64
  http_running.eventually(
    lambda: served.ask('GET', '/health')[2] == {'status': 'ready'}
  )
  assert served.ask('GET', '/version')[2]['version']


def test_metrics_have_vllms_names(served, create):
  create(QUESTION)
  _, _, text = served.ask('GET', '/metrics')
  text = text.decode()
  for name in (
    *('num_requests_running', 'num_requests_waiting', 'kv_cache_usage_perc'),
    *('prompt_tokens_total', 'generation_tokens_total'),
    *('prefix_cache_queries_total', 'prefix_cache_hits_total'),
    *('time_to_first_token_seconds_bucket', 'request_params_n_bucket'),
    *('e2e_request_latency_seconds_bucket', 'image_cache_hits_total'),
    *('request_queue_time_seconds_bucket', 'compiles_total', 'batch_rows'),
  ):
    assert f'\nmmicl_{name}{{' in text, name
  assert 'model_name="tiny"' in text
  assert 'request_success_total{finished_reason=' in text


def test_what_is_unknown_is_ignored_and_named(served):
  body = {
    'messages': [{'role': 'user', 'content': 'what?', 'name': 'x'}],
    'max_tokens': 2,
    'user': 'me',
    'mmicl': {'odd': 1},
    'stream_options': {'include_obfuscation': False, 'x': 1},
  }
  body['messages'][0]['odd'] = 1
  status, headers, _ = served.post('/v1/chat/completions', body)
  assert status == 200 and headers['x-mmicl-ignored'] == (
    'user, mmicl.odd, messages[0].odd, stream_options.x'
  )

"""Every error of the table, in the form that clients of OpenAI read."""

import openai
import pytest
import served_model
from served_model import Scripted, image, picture, url_of, user, words

from mmicl_jax.serve import jobs, reference

CHAT, RAW, RANK = '/v1/chat/completions', '/v1/completions', '/v1/rank'
LOOK, RENDER = '/v1/attention', f'{CHAT}/render'
ASK = {'messages': [user(words('what?'))]}
URL = url_of(picture(0))


@pytest.fixture(scope='module')
def scripted(tiny_served_predictor):
  """A server whose engine answers nothing: these requests do not reach it."""
  with served_model.serving(
    tiny_served_predictor, Scripted(), max_body=100_000, max_image=1000
  ) as found:
    yield found


def error_of(answer):
  status, _, body = answer
  assert set(body) == {'error'}, body
  error = body['error']
  assert set(error) == {'message', 'type', 'param', 'code'}
  assert isinstance(error['code'], str | None)
  assert error['message'] and error['message'][-1] in '.)'
  return status, error['code'], error['param']


@pytest.mark.parametrize(
  'fields, param',
  [
    ({'messages': None}, 'messages'),
    ({'model': 7}, 'model'),
    ({'max_tokens': 0}, 'max_tokens'),
    ({'max_tokens': 9}, 'max_tokens'),
    ({'max_completion_tokens': 9, 'max_tokens': 2}, 'max_completion_tokens'),
    ({'max_tokens': 'many'}, 'max_tokens'),
    ({'max_tokens': 2, 'min_tokens': 3}, 'min_tokens'),
    ({'temperature': -1}, 'temperature'),
    ({'temperature': 'hot'}, 'temperature'),
    ({'temperature': True}, 'temperature'),
    ({'temperature': 10**400}, 'temperature'),
    ({'repetition_penalty': 10**400}, 'repetition_penalty'),
    ({'n': 10**400}, 'n'),
    ({'temperature': 1, 'top_p': 1.5}, 'top_p'),
    ({'temperature': 1, 'top_p': 0}, 'top_p'),
    ({'top_p': 0}, 'top_p'),
    ({'top_p': 1.5}, 'top_p'),
    ({'temperature': 1, 'top_k': -2}, 'top_k'),
    ({'n': 2}, 'n'),
    ({'n': 17, 'temperature': 1}, 'n'),
    ({'n': 1.5}, 'n'),
    ({'n': 3, 'num_beams': 2}, 'n'),
    ({'num_beams': 17}, 'num_beams'),
    ({'seed': 2**64}, 'seed'),
    ({'stop': ['a'] * 5}, 'stop'),
    ({'stop': ''}, 'stop'),
    ({'stop': ['']}, 'stop[0]'),
    ({'stop': '图'}, 'stop'),
    ({'stop': ['a', 'x' * 65]}, 'stop[1]'),
    ({'stop': 7}, 'stop'),
    ({'logprobs': 3}, 'logprobs'),
    ({'top_logprobs': 3}, 'top_logprobs'),
    ({'logprobs': True, 'top_logprobs': 21}, 'top_logprobs'),
    ({'logprobs': True, 'top_logprobs': 2, 'num_beams': 2}, 'top_logprobs'),
    ({'stream': True, 'use_beam_search': True}, 'stream'),
    ({'stream': 'yes'}, 'stream'),
    ({'stream_options': 7}, 'stream_options'),
    ({'repetition_penalty': 0}, 'repetition_penalty'),
    ({'length_penalty': 1e9, 'num_beams': 2}, 'length_penalty'),
    ({'structured_outputs': {'choice': []}}, 'structured_outputs.choice'),
    ({'structured_outputs': 7}, 'structured_outputs'),
    (
      {'structured_outputs': {'choice': ['a', 'b <image3>']}},
      'structured_outputs.choice[1]',
    ),
    ({'mmicl': {'style': 'loud'}}, 'mmicl.style'),
    ({'mmicl': {'shots': -1}}, 'mmicl.shots'),
    ({'mmicl': 7}, 'mmicl'),
    ({'turns': []}, 'turns'),
    ({'messages': [user({'type': 'video'})]}, 'messages[0].content[0]'),
  ],
)
def test_a_wrong_field_is_named(scripted, fields, param):
  found = scripted.post(CHAT, {**ASK, **fields})
  assert error_of(found) == (400, None, param)


@pytest.mark.parametrize(
  'fields, words',
  [
    ({'max_tokens': 2, 'min_tokens': 3}, 'min_tokens is 3 but max_tokens is 2'),
    (
      {'max_completion_tokens': 2, 'min_tokens': 3},
      'but max_completion_tokens is 2',
    ),
    ({'n': 3, 'num_beams': 2}, 'n is 3 but num_beams is 2'),
    ({'max_tokens': 100_000}, "from 1 to 8, the server's --max-tokens"),
  ],
)
def test_an_error_speaks_of_what_the_client_sent(scripted, fields, words):
  _, _, body = scripted.post(CHAT, {**ASK, **fields})
  assert words in body['error']['message']


REFUSED = [f for f in reference.FIELDS if f.refused]


@pytest.mark.parametrize('name', [f.name for f in REFUSED])
def test_what_means_nothing_here_is_refused(scripted, name):
  found = scripted.post(CHAT, {**ASK, name: {'any': 'thing'}})
  assert error_of(found) == (400, 'unsupported_parameter', name)


def test_what_means_nothing_may_be_at_its_default(served):
  harmless = {f.name: f.harmless[0] for f in REFUSED}
  status, headers, _ = served.post(CHAT, {**ASK, **harmless, 'max_tokens': 2})
  assert status == 200 and 'x-mmicl-ignored' not in headers


@pytest.mark.parametrize('kind', ['json', 'regex', 'grammar', '\ud800'])
def test_only_choices_structure_an_answer(scripted, kind):
  found = scripted.post(CHAT, {**ASK, 'structured_outputs': {kind: '.*'}})
  shown = kind if kind.isascii() else '\ufffd'
  assert error_of(found) == (
    400,
    'unsupported_parameter',
    f'structured_outputs.{shown}',
  )


@pytest.mark.parametrize(
  'names, told',
  [
    (['foo ', ' x'], r'foo\x20, \x20x'),
    (['a\nb\r\0', 'é\x7f', '\ud800😀'], None),
    (['x' * 500, 'y'], f'{"x" * 80}..., y'),
    ([f'{"z" * 70}{i}' for i in range(30)], None),
  ],
)
def test_ignored_names_make_a_header(scripted, names, told):
  status, headers, _ = scripted.post(RENDER, {**ASK, **dict.fromkeys(names, 1)})
  found = headers['x-mmicl-ignored']
  assert status == 200 and len(found) <= 1000
  if told is not None:
    assert found == told
  elif len(names) > 9:  # whole names
    assert found.split(', ') == names[: len(found.split(', '))]
  else:
    assert found == r'a\x0ab\x0d\x00, \xe9\x7f, \ud800\U0001f600'


@pytest.mark.parametrize(
  'path, body, param',
  [
    (RAW, {}, 'prompt'),
    (RAW, {'prompt': ['a', 'b']}, 'prompt'),
    (RAW, {'prompt': [[3, 4]]}, 'prompt'),
    (RAW, {'prompt': 'image 0 is <image0>图.'}, 'prompt'),
    (RAW, {'prompt': '<image0>图图图', 'images': [URL]}, 'prompt'),
    (RAW, {'prompt': 'a', 'logprobs': True}, 'logprobs'),
    (RAW, {'prompt': 'a', 'images': [7]}, 'images[0]'),
    (RAW, {'prompt': 'a', 'logprobs': 21}, 'logprobs'),
    (RANK, ASK, 'candidates'),
    (RANK, {**ASK, 'candidates': []}, 'candidates'),
    (RANK, {**ASK, 'candidates': ['a'] * 257}, 'candidates'),
    (RANK, {**ASK, 'candidates': ['a', '']}, 'candidates[1]'),
    (RANK, {**ASK, 'candidates': ['a', '图']}, 'candidates[1]'),
    (RANK, {**ASK, 'candidates': ['a'], 'reduce': 'max'}, 'reduce'),
    (LOOK, {**ASK, 'answer': ' '}, 'answer'),
    (LOOK, {**ASK, 'answer': 'a <image0>'}, 'answer'),
  ],
)
def test_wrong_fields_of_other_paths(scripted, path, body, param):
  assert error_of(scripted.post(path, body)) == (400, None, param)


@pytest.mark.parametrize(
  'data, words',
  [
    (b'{"messages": [', 'no JSON'),
    (b'', 'no JSON'),
    (b'[]', 'object'),
    (b'{"messages": "\xff"}', 'UTF-8'),
    (b'{"a": 1, "a": 2}', 'twice'),
    (b'{"temperature": NaN}', 'no number'),
    (b'{"n": 1e999}', 'no number'),
    (b'{"n": ' + b'9' * 5000 + b'}', 'no JSON'),
    (b'[' * 50_000, 'deeply'),
    (b'{"a":' * 20_000, 'deeply'),
  ],
)
def test_what_is_no_json(scripted, data, words):
  found = scripted.post(CHAT, data)
  assert error_of(found)[0] == 400
  assert words in found[2]['error']['message']


@pytest.mark.parametrize('kind', ['text/plain', 'multipart/form-data', ''])
def test_only_json_is_read(scripted, kind):
  """A form of another page could send the others without asking."""
  found = scripted.post(CHAT, ASK, content_type=kind)
  assert error_of(found)[:2] == (415, 'unsupported_media_type')


def test_an_unknown_model(scripted):
  found = scripted.post(CHAT, {**ASK, 'model': 'gpt-4'})
  assert error_of(found) == (404, 'model_not_found', 'model')
  assert scripted.client.models.retrieve('tiny').owned_by == 'mmicl_jax'
  with pytest.raises(openai.NotFoundError) as caught:
    scripted.client.models.retrieve('an/other')
  assert caught.value.code == 'model_not_found'


@pytest.mark.parametrize(
  'url, words',
  [
    ('/etc/passwd', 'no data URL'),
    ('file:///etc/passwd', 'no data URL'),
    ('data:image/png;base64,%%%', 'no base64'),
    ('data:image/png;base64,%41\ud800', 'no base64'),
    ('data:image/png,%41\ud800', 'not an image'),
    ('data:image/png;base64,AAAA', 'not an image'),
    (url_of(picture(0)[:60]), 'damaged'),
    (url_of(b'x' * 1001), 'more than 1000 bytes'),
    ('data:image/png,' + 'x' * 5000, 'more than 1000 bytes'),
    ('data:image/svg+xml,<svg/>', 'not an image'),
    ('http://169.254.169.254/a', 'fetches images by https only'),
    ('https://169.254.169.254/a', 'fetches no images'),
    ('https://a.example/a.png', 'fetches no images'),
  ],
)
def test_an_image_that_cannot_be_read_is_named(scripted, url, words):
  messages = [user(image(0), {'type': 'image_url', 'image_url': {'url': url}})]
  found = scripted.post(CHAT, {'messages': messages})
  assert error_of(found) == (400, 'invalid_image', 'messages[0].content[1]')
  assert words in found[2]['error']['message']


def test_too_many_images(scripted):
  messages = [user(*[{'type': 'image_url', 'image_url': 'data:,'}] * 21)]
  found = scripted.post(CHAT, {'messages': messages})
  assert error_of(found) == (400, 'too_many_images', 'messages')
  found = scripted.post(RAW, {'prompt': '图', 'images': ['data:,'] * 21})
  assert error_of(found) == (400, 'too_many_images', 'images')


@pytest.mark.parametrize(
  'path, field, value',
  [
    (CHAT, 'messages', [{'role': 'user', 'content': 'a dog ' * 60}]),
    (CHAT, 'turns', [{'text': 'a dog ' * 60}]),
    (LOOK, 'turns', [{'text': 'a dog ' * 60}]),
    (RAW, 'prompt', 'a dog ' * 60),
  ],
)
def test_what_does_not_fit_is_named(scripted, path, field, value):
  body = {field: value, 'mmicl': {'truncate': path == LOOK}, 'answer': 'a'}
  found = scripted.post(path, body)
  assert error_of(found) == (400, 'context_length_exceeded', field)


def test_a_prompt_that_does_not_fit(scripted):
  for text, words_ in (('a dog ' * 60, 'word'), ('', 'alone need')):
    content = [image(i) for i in range(0 if text else 20)]
    messages = [user(*content, served_model.words(text or 'what?'))]
    found = scripted.post(CHAT, {'messages': messages})
    assert error_of(found)[:2] == (400, 'context_length_exceeded')
    assert words_ in found[2]['error']['message']


def test_a_body_that_is_too_large(scripted):
  found = scripted.post(CHAT, {**ASK, 'x': 'y' * 200_000})
  assert error_of(found)[:2] == (413, 'body_too_large')
  assert scripted.ask('GET', '/health')[0] == 200


@pytest.mark.parametrize(
  'error, status, code',
  [
    (jobs.QueueFull(), 429, 'overloaded'),
    (jobs.Draining(), 503, 'draining'),
    (jobs.EngineDead(), 503, 'engine_dead'),
    (jobs.OutOfMemory(), 500, 'out_of_memory'),
    (jobs.DeadlinePassed(), 504, 'timeout'),
    (ZeroDivisionError('secret'), 500, 'internal_error'),
  ],
)
@pytest.mark.parametrize('stream', [False, True])
def test_what_the_engine_says(
  tiny_served_predictor, error, status, code, stream
):
  """Whether it refuses the job or fails it, also before a stream begins."""
  scheduler = Scripted()
  with served_model.serving(tiny_served_predictor, scheduler) as found:
    if isinstance(error, jobs.Refused):
      scheduler.refuse = error
    else:
      scheduler.submit = lambda model, job, listener, deadline: (
        listener(jobs.Failed(error)),
        Scripted.submit(scheduler, model, job, listener),
      )[1]
    kinds = (openai.APIStatusError,)
    with pytest.raises(kinds) as caught:
      found.client.chat.completions.create(model='tiny', stream=stream, **ASK)
    response = caught.value.response
    assert (response.status_code, caught.value.code) == (status, code)
    assert 'secret' not in response.text
    assert ('retry-after' in response.headers) == (status in (429, 503))
    scheduler.jobs.clear()


def test_the_table_names_every_error():
  """Those of the tests above, and those that the server can send."""
  told = {code for _, _, code, _ in reference.ERRORS}
  for code in (
    *('unsupported_parameter', 'model_not_found', 'unsupported_media_type'),
    *('invalid_image', 'too_many_images', 'context_length_exceeded'),
    *('body_too_large', 'overloaded', 'draining', 'engine_dead'),
    *('out_of_memory', 'timeout', 'internal_error', 'body_timeout'),
    *('not_found', 'method_not_allowed', 'invalid_api_key', 'invalid_host'),
    *('image_fetch_failed', 'warming_up'),
  ):
    assert code in told

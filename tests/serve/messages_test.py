"""Conversations become prompts: the order of parts is kept."""

import pytest

from mmicl_jax.serve import messages
from mmicl_jax.serve.http_errors import HttpError
from mmicl_jax.serve.messages import (
  IMAGE_FORMATS,
  read_messages,
  read_raw,
  read_turns,
)


def image(name):
  return {'type': 'image_url', 'image_url': {'url': name, 'detail': 'low'}}


def text(words):
  return {'type': 'text', 'text': words}


def user(*parts):
  return {'role': 'user', 'content': list(parts)}


def assistant(words):
  return {'role': 'assistant', 'content': words}


def prompt(given, image_format='auto', style='plain', shots=None):
  found = read_messages(given, image_format)
  names = [place.url for place in found.images]
  example = found.example(names, style, shots)
  return example.inputs, list(example.images)


@pytest.mark.parametrize(
  'parts, expected',
  [
    # At the start of a line, the trained form.
    (
      [image('a'), image('b'), text('which?')],
      'image 0 is <image0>图.\nimage 1 is <image1>图.\nwhich?',
    ),
    # Inside a sentence, in its place.
    (
      [text('Is '), image('a'), text(' larger than '), image('b'), text('?')],
      'Is <image0>图 larger than <image1>图?',
    ),
    ([text('Look:\n'), image('a')], 'Look:\nimage 0 is <image0>图.\n'),
    # Two texts in a row are two lines.
    ([text('a'), text('b')], 'a\nb'),
    # Braces of strangers are text.
    (
      [image('a'), text('{0} {image} {{0}}')],
      'image 0 is <image0>图.\n{0} {image} {{0}}',
    ),
    ([text('a {'), image('a'), text('} b')], 'a { <image0>图} b'),
  ],
)
def test_images_keep_their_places(parts, expected):
  found, images = prompt([user(*parts)])
  assert found == expected
  assert images == [p['image_url']['url'] for p in parts if 'image_url' in p]


def test_turns_of_user_and_assistant_are_demonstrations():
  messages = [
    {'role': 'system', 'content': 'Be short.'},
    user(image('a'), text('image 0 is')),
    assistant('a dax'),
    user(text('Now')),
    {'role': 'user', 'content': [image('b'), text('image 1 is')]},
  ]
  assert prompt(messages) == (
    'Be short.\nimage 0 is <image0>图.\nimage 0 is a dax\n\n'
    'Now\nimage 1 is <image1>图.\nimage 1 is',
    ['a', 'b'],
  )
  found, _ = prompt(messages, style='chat')
  assert found.startswith('User: Be short.\n') and 'Bot: a dax\n' in found


def test_only_the_last_demonstrations_are_kept():
  messages = [
    *(user(image('a'), text('first')), assistant('1')),
    *(user(image('b'), text('second')), assistant('2')),
    user(image('c'), text('third')),
  ]
  found, images = prompt(messages, shots=1)
  assert images == ['b', 'c'] and 'first' not in found
  for shots in range(6):
    kept = ['a', 'b', 'c'][max(2 - shots, 0) :]
    assert prompt(messages, shots=shots)[1] == kept, shots


def test_image_formats():
  parts = [user(text('Is '), image('a'), text(' red?'))]
  formats = {name: prompt(parts, name)[0] for name in IMAGE_FORMATS}
  assert formats == {
    'auto': 'Is <image0>图 red?',
    'declare': 'image 0 is <image0>图.\nIs  red?',
    'inline': 'Is <image0>图 red?',
  }
  begins = [user(image('a'), text('red?'))]
  assert prompt(begins, 'inline')[0] == '<image0>图red?'


def test_a_bare_string_is_a_url():
  part = {'type': 'image_url', 'image_url': 'a'}
  assert prompt([user(part)])[1] == ['a']


@pytest.mark.parametrize(
  'messages, param',
  [
    ([], 'messages'),
    ('hello', 'messages'),
    ([assistant('I begin'), user(text('a'))], 'messages[0]'),
    ([user(text('a')), assistant('I end')], 'messages[1]'),
    ([{'role': 'tool', 'content': 'a'}], 'messages[0].role'),
    ([{'role': 'user', 'content': 7}], 'messages[0].content'),
    ([user({'type': 'input_audio'})], 'messages[0].content[0]'),
    ([user({'type': 'image_url', 'image_url': {}})], 'messages[0].content[0]'),
    ([user(text('a 图'))], 'messages[0].content[0]'),
    ([{'role': 'user', 'content': '<image3>'}], 'messages[0].content'),
    (
      [{'role': 'system', 'content': [image('a')]}, user(text('a'))],
      'messages[0].content[0]',
    ),
    ([user(text('a')), assistant(' '), user(text('b'))], 'messages[0]'),
    ([user(text('x' * 64_001))], 'messages'),
    ([user(text('x'))] * 1001, 'messages'),
    ([user(*[image('a')] * 21)], 'messages'),
  ],
)
def test_what_is_no_conversation_is_refused_by_its_place(messages, param):
  with pytest.raises(HttpError) as caught:
    prompt(messages)
  assert (caught.value.status, caught.value.param) == (400, param)
  many = isinstance(messages, list) and 'image_url' in str(messages)[3000:]
  if many:
    assert caught.value.code == 'too_many_images'


@pytest.mark.parametrize('part', [text('x' * 1000), image('a')])
def test_what_is_too_much_is_not_joined_first(part, monkeypatch):
  """Which would take long for many parts."""
  joined = []
  monkeypatch.setattr(messages._UserTurn, 'add', joined.append)
  for conversation in ([user(*[part] * 200)], [user(*[part] * 70)] * 3):
    with pytest.raises(HttpError, match='give at most'):
      prompt(conversation)
  assert not joined


def test_halves_of_surrogates_become_what_can_be_sent():
  assert prompt([user(text('a\ud83d'))])[0] == 'a\ufffd'


def test_turns_have_slots():
  found = read_turns(
    [
      {'text': 'image {0} is', 'images': ['a'], 'answer': 'red'},
      {'text': 'Is {image} as image {0}?', 'images': ['b']},
    ]
  )
  example = found.example(['a', 'b'], 'plain', None)
  assert example.inputs == (
    'image 0 is <image0>图.\nimage 0 is red\n\nIs <image1>图 as image 1?'
  )


@pytest.mark.parametrize(
  'turns, param',
  [
    ([{'text': '{image}', 'images': []}], 'turns[0]'),
    ([{'text': '{1}', 'images': ['a']}], 'turns[0]'),
    ([{'text': 'a', 'answer': 'b'}], 'turns[0]'),
    ([{'text': 'a', 'answer': 'b'}, {'text': 'c'}, {'text': 'd'}], 'turns[1]'),
    ([{'text': 'a', 'images': [7]}], 'turns[0].images[0]'),
    ([7], 'turns[0]'),
    ([{'text': 'a', 'answer': 'b'}] * 1000 + [{'text': 'a'}], 'turns'),
  ],
)
def test_wrong_turns_are_refused(turns, param):
  with pytest.raises(HttpError) as caught:
    found = read_turns(turns)
    found.example([None] * len(found.images), 'plain', None)
  assert caught.value.param == param


def test_fields_that_mean_nothing_are_told_by_their_paths():
  part = {**image('a'), 'x': 1}
  part['image_url'] = {**part['image_url'], 'size': 3}
  asked = {**user({**text('what?'), 'cache': 1}, part), 'name': 'me'}
  found = read_messages([{**asked, 'foo': 2, 'null': None}], 'auto')
  assert sorted(found.ignored) == [
    'messages[0].content[0].cache',
    'messages[0].content[1].image_url.size',
    'messages[0].content[1].x',
    'messages[0].foo',
  ]
  assert read_turns([{'text': 'a', 'image': 'b'}]).ignored == (
    'turns[0].image',
  )


def test_a_raw_prompt_is_that_of_a_record():
  found = read_raw('image 0 is <image0>图.\nwhat?', ['a'])
  assert found.example(['a'], 'plain', None).inputs.startswith('image 0 is')
  with pytest.raises(HttpError, match='1 images but 0'):
    read_raw('what?', ['a']).example(['a'], 'plain', None)

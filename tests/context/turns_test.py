import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mmicl_jax.context import text as context_text
from mmicl_jax.context import turns as context
from mmicl_jax.context.turns import (
  IMAGE,
  Example,
  Turn,
  assemble,
  listed,
  spans,
)
from mmicl_jax.errors import UserError

CHINCHILLA = Turn('image {0} is a chinchilla. image {1} is', ['a.png', 'b.png'])


def test_images_without_slots_are_declared_in_front():
  example = assemble(CHINCHILLA)
  assert example.inputs == (
    'image 0 is <image0>图.\nimage 1 is <image1>图.\n'
    'image 0 is a chinchilla. image 1 is'
  )
  assert example.images == ('a.png', 'b.png')
  assert example.targets == ''


def test_slots_place_images_inline_and_numbers_are_of_the_whole_prompt():
  query = Turn(
    'Is {image} as red as {image}? Only image {1}.', ['q', 'r'], 'no'
  )
  shots = [Turn('{image} is', ['s'], 'red'), Turn('1 + 1 is', (), '2')]
  example = assemble(query, shots)
  assert example.inputs == (
    '<image0>图 is red\n\n1 + 1 is 2\n\n'
    'Is <image1>图 as red as <image2>图? Only image 2.'
  )
  assert example.images == ('s', 'q', 'r')
  assert example.targets == 'no'


def test_answers_refer_to_images_by_number():
  turn = Turn('Which is red?', ['a', 'b'], 'image {1}, not <image{0}>')
  example = assemble(turn, [turn])
  assert example.targets == 'image 3, not <image2>'
  assert 'Which is red? image 1, not <image0>\n\n' in example.inputs


def test_chat_form():
  shot = Turn('What is {image}?', ['a'], 'a cat')
  query = Turn('What is {image}?', ['b'], 'a dog')
  example = assemble(query, [shot, shot], style='chat')
  assert example.inputs == (
    'User: What is <image0>图?\nBot: a cat\n'
    'User: What is <image1>图?\nBot: a cat\n'
    'User: What is <image2>图?'
  )
  assert example.targets == 'Bot: a dog'
  assert assemble(Turn('Hm?'), style='chat').targets == ''


@pytest.mark.parametrize('k', range(6))
def test_no_number_of_demonstrations_makes_names_collide(k):
  """The published builder shares <image0> between one demonstration and query,
  and turns 'image 10' into 'image 110'."""
  shots = [Turn('image {0} shows', [f's{i}'], f'{i}') for i in range(k)]
  query = Turn('image {0} or image {1}?', [f'q{i}' for i in range(12)], 'x')
  example = assemble(query, shots)
  names = [m['name'] for m in context_text.IMAGE_SPAN.finditer(example.inputs)]
  assert names == [str(i) for i in range(k + 12)]
  assert example.inputs.endswith(f'image {k} or image {k + 1}?')
  assert example.images[k:] == tuple(f'q{i}' for i in range(12))


def test_braces_that_are_no_slots_stay():
  text = r'{"a": {}} x^{n} {{{n}}} {images} {{0}} {{{image}}} \frac{a}{{b}}'
  assert assemble(Turn(text, ['a'])).inputs == (
    'image 0 is <image0>图.\n'
    r'{"a": {}} x^{n} {{{n}}} {images} {0} {{image}} \frac{a}{{b}}'
  )


@given(st.text(alphabet='{}image012 <>'))
def test_escaped_text_is_shown_as_it_is(text):
  if not context._RESERVED.search(text):
    assert assemble(Turn(context.escape(text), ['a'])).inputs == (
      f'image 0 is <image0>图.\n{text}'
    )


@pytest.mark.parametrize(
  'text, images, words',
  [
    ('x^{2}', ['a'], ['{2}', 'write {{2}}', 'has 1']),
    ('{0}', [], ['{0}', 'write {{0}}']),
    ('{image} {image}', ['a'], ['2 {image} slots but 1 images']),
    ('{image}', ['a', 'b'], ['1 {image} slots but 2 images']),
    ('a 图 b', ['a'], ["'图'", 'write {image}']),
    ('see <image3>', ['a'], ["'<image3>'", '<image{0}>']),
  ],
)
def test_wrong_text_is_named_with_its_remedy(text, images, words):
  with pytest.raises(UserError) as error:
    Turn(text, images)
  assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize('answer', ['{image}', '图', '<image0>', '{1}'])
def test_wrong_answer(answer):
  with pytest.raises(UserError, match='answer'):
    Turn('what?', ['a'], answer)


def test_more_images_than_names():
  assert len(assemble(Turn('', ['a'] * 20)).images) == 20
  with pytest.raises(UserError, match='21 images .* only 20'):
    assemble(Turn('', ['a'] * 20), [Turn('', ['b'], 'x')])


def test_a_demonstration_needs_an_answer():
  with pytest.raises(UserError, match='Demonstration 0'):
    assemble(CHINCHILLA, [CHINCHILLA])
  with pytest.raises(UserError, match="'verse'.*plain, chat"):
    assemble(CHINCHILLA, style='verse')


def test_one_image_is_not_taken_for_a_list():
  pixels = np.zeros((4, 4, 3), np.uint8)
  assert Turn('', 'a.png').images == ('a.png',)
  assert Turn('', b'png').images == (b'png',)
  assert Turn('', pixels).images[0] is pixels
  picture = Image.fromarray(pixels)
  assert Turn('', picture).images == (picture,)
  assert len(Turn('', np.zeros((3, 4, 4, 3), np.uint8)).images) == 3
  assert Turn('', (p for p in 'ab')).images == ('a', 'b')


def test_keep_shots_drops_the_oldest_and_renumbers():
  shots = [Turn('{image} is', [str(i)], f'a{i}') for i in range(3)]
  example = assemble(Turn('{image} is', ['q'], 'z'), shots, style='chat')
  for k in range(4):
    assert example.keep_shots(k) == assemble(
      Turn('{image} is', ['q'], 'z'), shots[3 - k :], style='chat'
    )
  assert example.keep_shots(1).images == ('2', 'q')


def test_example_needs_an_image_for_each_placeholder():
  example = Example('<image0>' + IMAGE * 32 + ' <image1>图', 'yes', ('a', 'b'))
  assert example.copies == (32, 1)
  for images in ((), ('a', 'b')):
    with pytest.raises(UserError, match=f'f.jsonl:3: {len(images)} images but'):
      Example('<image0>图?', 'yes', images, name='f.jsonl:3')


def test_spans_protect_declarations_and_inline_images():
  text = 'image 0 is <image0>图.\nUse image 1: <image1>图, or 图. image 2 is'
  assert spans(text) == [
    ('image 0 is <image0>图.', True),
    ('\nUse ', False),
    ('image 1: <image1>图', True),
    (', or ', False),
    ('图.', True),
    (' image 2 is', False),
  ]
  assert spans('') == []


@given(st.text(alphabet='image 0is<>图.\n:'))
def test_spans_lose_nothing_and_cover_every_image(text):
  pieces = spans(text)
  assert ''.join(p.text for p in pieces) == text
  assert all(p.protected for p in pieces if IMAGE in p.text)


def test_scene_and_video():
  turn = context.scene('Why is {1} happy?', 'w', ['c', 'd'], ['a {0}', 'dog'])
  assert assemble(turn, [Turn('{image}:', ['s'], 'x')]).inputs == (
    '<image0>图: x\n\nimage 1 is <image1>图.\nimage 2 is <image2>图.\n'
    'image 3 is <image3>图.\nimage 2 is a {0} in image 1.\n'
    'image 3 is dog in image 1.\nWhy is 2 happy?'
  )
  assert 'image 0 to image 7 are frames' in (
    assemble(context.video('What?', list('abcdefgh'))).inputs
  )
  with pytest.raises(UserError, match='1 names for 2'):
    context.scene('', 'w', ['c', 'd'], ['cat'])


def test_sampled_shots_never_hold_the_query_or_its_equal():
  pool = [Turn(f'q{i % 5}', [f'{i % 5}.png'], f'a{i}') for i in range(15)]
  before = random.getstate()
  for seed in range(50):
    shots = context.sample_shots(pool, 7, 5, seed)
    assert all(shot.text != 'q2' for shot in shots)
    assert len({shot.answer for shot in shots}) == 5
    assert shots == context.sample_shots(pool, 7, 5, random.Random(seed))
  assert random.getstate() == before
  below = context.sample_shots(pool, 7, 5, -1)
  assert below != context.sample_shots(pool, 7, 5, 1)
  assert below == context.sample_shots(pool, 7, 5, -1)
  everything = context.sample_shots(pool, -1, 12, 0)
  assert {shot.text for shot in everything} == {'q0', 'q1', 'q2', 'q3'}
  with pytest.raises(UserError, match='13 demonstrations .* only 12'):
    context.sample_shots(pool, 7, 13, 0)


def test_equal_pixels_are_the_same_image():
  def turn(value):
    return Turn('what?', [np.full((2, 2, 3), value, np.uint8)], 'x')

  pool = [turn(0), turn(0), turn(1)]
  (shot,) = context.sample_shots(pool, 0, 1, 0)
  assert shot is pool[2]


def turned(text, answer=''):
  return context.turn_from_example(Example(text, answer, ['a', 'b']))


def test_finished_text_becomes_a_turn_that_renumbers():
  text = (
    'image 0 is <image0>图图图.\nImage 1 is <image1>图图图.\n'
    'Is image 1 in image 10, preimage 1 or image 1.5? Compare images 0 and 1, '
    'not images 1 and 7. <image0> {0} {image}'
  )
  turn = turned(text, 'image 1')
  assert assemble(turn).inputs == context_text.collapse(text)
  shots = [Turn('', ['s'], 'x')] * 10
  assert assemble(turn, shots).inputs.split('\n\n')[-1] == (
    'image 10 is <image10>图.\nImage 11 is <image11>图.\n'
    'Is image 11 in image 10, preimage 1 or image 1.5? Compare images 10 and '
    '11, not images 1 and 7. <image10> {0} {image}'
  )
  assert assemble(turn, shots).targets == 'image 11'


def test_finished_text_without_names_or_in_another_order():
  turn = turned('图 and 图: image 1?')
  assert turn.text == '{image} and {image}: image {1}?'
  turn = turned('<image1>图 <image0> 图 image 1')
  assert turn.text == '{image} {image} image {0}'
  for text, words in [
    ('<image0>图 <image0>图', '<image0> names two'),
    ('图图', '2 images but 1 图.*adjacent'),
    ('<image0>图 <image1>图 <image5>', "'<image5>'.*reserved"),
  ]:
    with pytest.raises(UserError, match=words):
      turned(text)


def test_ring_0_imports_python_only():
  code = (
    'import sys; import mmicl_jax; known = set(sys.modules);'
    'from mmicl_jax.context import lint, templates, turns;'
    'new = {n.split(".")[0] for n in set(sys.modules) - known};'
    'print(sorted(new - set(sys.stdlib_module_names) - {"mmicl_jax"}))'
  )
  out = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert out.stdout.strip() == '[]'


@pytest.mark.parametrize('one', ['text', b'bytes', {'a': 1}, Turn('text'), 3])
def test_one_thing_is_a_list_of_one(one):
  assert listed(one) == (one,)
  assert listed([one, one]) == listed((one, one)) == (one, one)


def test_one_demonstration_is_a_list_of_one():
  shot, query = Turn('a', answer='b'), Turn('c')
  assert assemble(query, shot) == assemble(query, [shot])

"""Demonstrations of a finished prompt are found again."""

import pytest

from mmicl_jax.context.turns import Turn, assemble
from mmicl_jax.data.records import Record
from mmicl_jax.evaluation.split_prompt import Unexplained, split_prompt

ASKED = 'image {0} is {image}.\n'


def record(example, **rest):
  return Record(
    example.inputs, example.images, example.targets, where='f:1', **rest
  )


@pytest.mark.parametrize('style', ['plain', 'chat'])
@pytest.mark.parametrize(
  'turns',
  [
    [Turn(ASKED + 'image {0} is', [f'{i}.png'], f'a{i}') for i in range(4)],
    [
      Turn(ASKED + 'Question: who? Answer:', ['a'], 'a man. He sits'),
      Turn('No picture. Answer:', [], 'none {{0}}'),
      Turn('{image} or {image}? Answer:', ['b', 'c'], 'image {1}'),
      Turn('{image} or {image}, image 7? Answer:', ['d', 'e'], 'image {0}'),
    ],
  ],
)
def test_turns_are_found_again(style, turns):
  made = assemble(turns[-1], turns[:-1], style=style)
  found = split_prompt(record(made))
  assert found.turns == tuple(turns) and found.style == style
  assert (found.inputs, found.images) == (made.inputs, made.images)


def test_other_records_tell_where_an_answer_begins():
  shot = Turn(ASKED + 'Is it red? I say it', ['a'], 'is not red')
  query = Turn(ASKED + 'What colour has it?', ['b'], 'red')
  made = assemble(query, [shot])
  one = record(made, meta={'shots': ['vqa/train/7']})
  assert split_prompt(one, {'vqa/train/7': 'is not red'}).turns[0] == shot
  # Without it, what follows the question is taken for the answer.
  assert split_prompt(one).turns[0].answer == 'I say it is not red'
  with pytest.raises(Unexplained, match='where the answer begins'):
    split_prompt(record(made))  # the paragraph may be no demonstration at all


@pytest.mark.parametrize(
  'text, output, meta, reason',
  [
    ('image 0 is <image0>图. what?', 'a', None, 'no demonstrations'),
    ('one\n\nimage 0 is <image0>图.', 'a', {'shots': 0}, 'no demonstrations'),
    ('x is a\n\nimage 0 is <image0>图. x is', ' ', None, 'no answer'),
    ('x is a\n\n<image0>图 is', 'a', {'shots': 2}, 'not divided'),
    # The query speaks of an image that a demonstration shows.
    ('<image0>图 is a\n\nimage 0 is', 'a', None, 'not divided'),
    # Numbers that assemble would not give.
    ('x is a\n\n<image5>图 is', 'a', None, 'not divided'),
    ('User: <image0>图\nUser: it', 'Bot: a', None, 'not divided'),
    ('User: a\nBot: b\nUser: <image0>图', 'no bot', None, 'not divided'),
  ],
)
def test_what_cannot_be_told_is_refused(text, output, meta, reason):
  images = ['a.png'] * text.count('图')
  one = Record(text, images, output, meta=meta, where='f:1')
  with pytest.raises(Unexplained, match='^f:1: ') as error:
    split_prompt(one)
  assert error.value.reason == reason

"""Demonstrations of a finished prompt are found again."""

import dataclasses

import pytest
import tiny_builds
from benchmark_trees import TREES

from mmicl_jax.context.turns import Turn, assemble
from mmicl_jax.data.records import Record, read_records
from mmicl_jax.evaluation.explanation import explainable
from mmicl_jax.evaluation.split_prompt import (
  FileAnswers,
  Unexplained,
  own_answer,
  split_prompt,
)

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
  one = record(assemble(query, [shot]), meta={'shots': ['vqa/train/7']})
  known = FileAnswers({'vqa/train/7': 'is not red'})
  assert split_prompt(one, known).turns[0] == shot
  # Not by name, and the paragraph does not end as the query does.
  for answers in (None, FileAnswers({'vqa/train/8': 'red'}, {'red'})):
    with pytest.raises(Unexplained, match='where the answer begins'):
      split_prompt(one, answers)
  with pytest.raises(Unexplained, match='where the answer begins'):
    split_prompt(dataclasses.replace(one, meta=None))
  # A mere number says that there is one, wherever it begins.
  found = split_prompt(dataclasses.replace(one, meta={'shots': 1}))
  assert found.turns[0].answer == 'I say it is not red'


def test_what_follows_the_query_s_last_words_may_be_more_than_the_answer():
  shot = Turn(ASKED + 'Is it red? Yes or no:', ['a'], 'no')
  query = Turn(ASKED + 'Is it red?', ['b'], 'yes')
  one = record(assemble(query, [shot]), meta={'shots': ['elsewhere']})
  with pytest.raises(Unexplained, match="'elsewhere', which it shows, is not"):
    split_prompt(one, FileAnswers({}, {'yes', 'no'}))
  plain = record(
    assemble(query, [Turn(query.text, ['a'], 'no')]), meta={'shots': ['x']}
  )
  found = split_prompt(plain, FileAnswers({}, {'yes', 'no'}))
  assert found.turns[0].answer == 'no'


def test_a_record_s_own_answer_counts_its_images_anew():
  text = 'Which: {image} or {image}?'
  shots = [Turn(text, ['a', 'b'], 'image {0}')]
  query = Turn(text, ['c', 'd'], 'image {1}')
  for style in ('plain', 'chat'):
    made = assemble(query, shots, style=style)
    assert made.targets.endswith('image 3')
    assert own_answer(record(made)) == 'image {1}'


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


@pytest.mark.slow
def test_records_that_were_built_are_divided(tmp_path):
  """Several forms, images as answers: shown records tell their answers."""
  raw = TREES['iconqa'](tmp_path / 'raw')
  for style in ('plain', 'chat'):
    out = tmp_path / style
    tiny_builds.built('iconqa', raw, out, shots=3, style=style)
    for name in ('choose_img_train', 'fill_in_blank_train'):
      records = list(read_records(out / f'{name}.jsonl'))
      known = {record.id: own_answer(record) for record in records}
      chosen, left_out = explainable(out / f'{name}.jsonl')
      assert chosen and set(left_out) <= {'no demonstrations'}
      for one, example in chosen:
        answers = [turn.answer for turn in example.turns[:-1]]
        assert answers == [known[i] for i in one.meta['shots']]

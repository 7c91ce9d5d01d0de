import re

import pytest

from mmicl_jax.context.lint import lint
from mmicl_jax.context.turns import Example, Turn, assemble
from mmicl_jax.data.records import Record

COPIES = '图' * 32


def record(inputs, images, answer='yes'):
  return Record(inputs, [f'{i}.png' for i in range(images)], answer)


@pytest.mark.parametrize(
  'inputs, images',
  [
    ('image 0 is <image0>图. Is image 0 red?', 1),
    (f'<image0>{COPIES} or <image1>{COPIES}? images 0 and 1', 2),
    (f'<image0>{COPIES}<image1>{COPIES}', 2),
    ('What is 1 + 1? See image 3 of the book.', 0),
    ('<image0> 图 and the image 0.5 m away', 1),
  ],
)
def test_good_prompts(inputs, images):
  assert lint(record(inputs, images)) == []
  assert lint(inputs) == []


def test_what_assemble_makes_is_good():
  shot = Turn('{image} or {image}, <image{1}>?', ['a', 'b'], 'image {1}')
  assert lint(assemble(shot, [shot] * 9)) == []


@pytest.mark.parametrize(
  'inputs, images, words',
  [
    ('<image0>图', 2, '2 images but 1 图'),
    ('<image0>图 <image1>图', 1, '1 images but 2 图'),
    ('图图', 2, 'adjacent 图.*put <imageK> before'),
    (COPIES * 2, 2, 'adjacent 图'),
    ('<image1>图 <image0>图', 2, 'Image 0 is named <image1>'),
    ('<image0>图 <image2>图', 2, 'Image 1 is named <image2>'),
    ('<image0>图 <image0>图', 2, '<image0> names more than one'),
    ('<image0>图 图', 2, 'No <imageK> before the 图 of image 1 .*<image1>图'),
    ('<image0>图 <image1>?', 1, "'<image1>' is mentioned.* 1 image,"),
    ('<image0>图 Is image 1 red?', 1, "'image 1' is mentioned"),
    ('<image0>图 images 0, 1 and 2', 1, "'images 0, 1 and 2' is mentioned"),
    ('What is <image0>?', 0, "'<image0>' is mentioned.* 0 images"),
    ('<image0>' + COPIES + '<image1>图图', 2, 'Image 1 has 2 copies'),
    (' ', 0, 'prompt is empty'),
    (''.join(f'<image{i}>图' for i in range(21)), 21, 'only 20 have names'),
    (''.join(f'<image{i}>图' for i in range(21)), 21, '<image20> is no name'),
  ],
)
def test_each_fault_is_found(inputs, images, words):
  problems = lint(record(inputs, images))
  assert any(re.search(words, p) for p in problems), problems


def test_answers():
  assert lint(record('<image0>图', 1, ' ')) == ['The answer is empty.']
  assert 'holds 图' in lint(record('<image0>图', 1, '图'))[0]
  assert "'image 4'" in lint(record('<image0>图', 1, 'image 4'))[0]
  assert lint(Example('<image0>图', 'image 0', ('a',))) == []


def test_prompts_of_the_published_builder_are_faulty():
  # One demonstration and the query share <image0>.
  assert lint('image 0 is <image0>图. a cat\n\nimage 0 is <image0>图.')
  # 'image 10' became 'image 110'.
  assert lint('image 0 is <image0>图.\nimage 99 is near')

"""Ten thousand few-shot prompts of mixed datasets, and what no one may hold."""

import os
import random
import re
import subprocess
import sys

import pytest

from mmicl_jax.context.lint import lint
from mmicl_jax.context.templates import load_templates
from mmicl_jax.context.text import MAX_IMAGES, MENTION
from mmicl_jax.data.build.assembly import Assembly
from mmicl_jax.data.build.items import PictureRef, Skip, SourceItem
from mmicl_jax.data.build.nearest import NearestWords

# What annotators may have written; none of it may become a name or a slot.
WORDS = (
  '图', '<image3>', '<image>', 'image 7', 'Images 1 and 2', 'User: hi',
  '\nBot: no', '{0}', '{image}', '{answer}', '{question}', '...', 'an image',
  'Image', '7', 'the', 'kite', 'über', '\n\n', 'image 0 is',
)  # fmt: skip
# (forms, their fields, pictures of an item)
KINDS = {
  'vqa': (('question',), 1),
  'caption': ((), 1),
  'nlvr2': (('statement',), 2),
  'multiple_choice': (('question', 'options'), 3),
  'bongard': ((), 13),
}


def split_of(kind, count, rng):
  """Items of which some share a place, some the bytes, and some are bad."""
  fields, pictures = KINDS[kind]
  entries = []
  for i in range(count):
    if rng.random() < 0.05:
      entries.append(Skip(str(i), 'missing_field'))
      continue
    texts = {
      name: ' '.join(rng.choices(WORDS, k=rng.randrange(1, 6)))
      for name in fields
    }
    refs = tuple(
      PictureRef(f'{kind}/{rng.randrange(count * pictures // 2)}')
      for _ in range(pictures)
    )
    # Numbers make names of what stands before them.
    answers = (f'{i:04}zz{kind}', f'{i:04}zz{kind} 图 image 3', '')
    entries.append(SourceItem(str(i), str(i), texts, refs, answers))
  return entries


def names_of(item):
  """A file for each picture: two places in seven hold the same bytes."""
  names = []
  for picture in item.pictures:
    place, number = picture.path.split('/')
    if int(number) % 50 == 49:
      return 'broken_image'
    names.append(f'{place}{int(number) - (int(number) % 7 == 1)}.jpg')
  return tuple(names)


@pytest.mark.parametrize('retrieve', [None, 'question'])
def test_prompts_of_mixed_datasets(retrieve):
  assert prompts(retrieve, 1, 60) >= 200


@pytest.mark.slow
def test_ten_thousand_prompts_of_mixed_datasets():
  """In another process: checks of shapes would take most of the time."""
  path = os.pathsep.join(filter(None, sys.path))
  found = subprocess.run(
    [sys.executable, __file__],
    env=os.environ | {'PYTHONPATH': path},
    capture_output=True,
    text=True,
  )
  assert found.returncode == 0, found.stderr
  assert int(found.stdout) >= 10_000


def prompts(retrieve, seeds, count):
  """Makes prompts and checks each; returns how many."""
  rng = random.Random(3)
  made, shown = 0, set()
  for seed in range(seeds):
    for kind in KINDS:
      entries = split_of(kind, count, rng)
      assembly = Assembly(
        kind, 'train', entries, names_of, load_templates(kind), seed, 5,
        style=rng.choice(('plain', 'chat')),
        nearest=NearestWords if retrieve else None,
      )  # fmt: skip
      own = {
        assembly.record_id(x): x for x in entries if isinstance(x, SourceItem)
      }
      for name, item in own.items():
        if not assembly.problem(item):
          made += 1
          shown.add(checked(assembly.record(item), name, item, own))
  assert shown == set(range(6))
  return made


def checked(record, name, item, own):
  """Raises AssertionError for a bad prompt; else how many are demonstrated."""
  text, pictures = record.input_text, record.input_image
  count = len(pictures)
  assert count <= MAX_IMAGES
  assert re.findall('<image[0-9]+>图', text) == [
    f'<image{k}>图' for k in range(count)
  ]
  assert text.count('图') == count and '图' not in record.output_text
  for mention in MENTION.findall(text + '\n' + record.output_text):
    assert all(int(n) < count for n in re.findall('[0-9]+', mention)), mention
  assert not lint(record)
  shots = record.meta['shots']
  assert name not in shots and len(set(shots)) == len(shots)
  turns = [own[x] for x in shots] + [item]
  seen = set()
  for turn in turns:
    mine = {p.path for p in turn.pictures} | set(names_of(turn))
    assert not mine & seen
    seen |= mine
  assert [str(x) for x in pictures] == [
    f'images/{file}' for turn in turns for file in names_of(turn)
  ]
  answer = item.answers[0]
  assert answer in record.output_text and answer not in text
  return len(shots)


if __name__ == '__main__':
  print(prompts(None, 2, 1150))

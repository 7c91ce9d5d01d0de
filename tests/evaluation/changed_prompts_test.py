"""Each changed prompt is the one that a person would write."""

import numpy as np

from mmicl_jax.context.turns import Turn, assemble
from mmicl_jax.evaluation.changed_prompts import (
  GREY,
  KINDS,
  UNCHANGED,
  Others,
  PromptChanger,
)

TEXT = 'image {0} is'
SHOTS = [Turn(TEXT, ['a.png'], 'kez'), Turn(TEXT, ['b.png'], 'zab')]
QUERY = Turn(TEXT, ['c.png'], 'kez')
OTHERS = Others(['b.png', 'o.png'], ['image', 'dog'])

DECLARED = [f'image {i} is <image{i}>图.\nimage {i} is' for i in range(20)]


def prompt(*labels):
  """Demonstrations with these labels, then the query."""
  shown = [f'{DECLARED[i]} {label}' for i, label in enumerate(labels)]
  return '\n\n'.join([*shown, DECLARED[len(labels)]])


def made(query=QUERY, shots=SHOTS, others=OTHERS, style='plain'):
  example = assemble(query, shots, style=style)
  found = {}
  for one in PromptChanger(example, others).make():
    found.setdefault((one.kind, one.place), []).append(one)
  return found


def texts(found):
  return {
    key: [(one.example.inputs, *one.example.images) for one in ones]
    for key, ones in found.items()
  }


def test_all_changes_of_a_plain_prompt():
  found = made()
  assert {kind for kind, _ in found} == {UNCHANGED, *KINDS}
  assert all(
    one.candidates == ('kez', 'zab') and one.example.targets == 'kez'
    for ones in found.values()
    for one in ones
  )
  # Arrays have no truth value: grey images get a name here.
  for ones in found.values():
    for one in ones:
      images = ['grey' if x is GREY else x for x in one.example.images]
      object.__setattr__(one.example, 'images', tuple(images))
  both, (a, b, c) = prompt('kez', 'zab'), ('a.png', 'b.png', 'c.png')
  one_shot = 'image 0 is <image0>图.\nimage 0 is {}\n\n' + DECLARED[1]
  expected = {
    (UNCHANGED, None): [(both, a, b, c)],
    ('drop', 0): [(one_shot.format('zab'), b, c)],
    ('drop', 1): [(one_shot.format('kez'), a, c)],
    ('swap_image', 0): [(both, 'o.png', b, c)],
    ('swap_image', 1): [(both, a, 'o.png', c)],
    ('blank_image', 0): [(both, 'grey', b, c)],
    ('blank_image', 1): [(both, a, 'grey', c)],
    ('flip_label', 0): [(prompt('zab', 'zab'), a, b, c)],
    ('flip_label', 1): [(prompt('kez', 'kez'), a, b, c)],
    ('random_word', 0): [(prompt('dog', 'zab'), a, b, c)],
    ('random_word', 1): [(prompt('kez', 'dog'), a, b, c)],
    ('drop_all', None): [(DECLARED[0], c)],
    ('swap_all_images', None): [(both, 'o.png', 'o.png', c)],
    ('blank_all_images', None): [(both, 'grey', 'grey', c)],
    ('flip_all_labels', None): [(prompt('zab', 'kez'), a, b, c)],
    ('permute', None): [(prompt('zab', 'kez'), b, a, c)],
    ('repeat', None): [(prompt('kez', 'zab', 'kez', 'zab'), a, b, a, b, c)],
    ('text_only', None): [
      (f'image 0 is kez\n\nimage 1 is zab\n\n{DECLARED[2]}', c)
    ],
    ('images_only', None): [
      (
        'image 0 is <image0>图.\n\nimage 1 is <image1>图.\n\n' + DECLARED[2],
        *(a, b, c),
      )
    ],
    ('no_declarations', None): [
      (
        '<image0>图\nimage 0 is kez\n\n<image1>图\nimage 1 is zab\n\n'
        '<image2>图\nimage 2 is',
        *(a, b, c),
      )
    ],
    ('no_proxies', None): [
      (
        'image 0 is 图.\nimage 0 is kez\n\nimage 1 is 图.\nimage 1 is zab\n\n'
        'image 2 is 图.\nimage 2 is',
        *(a, b, c),
      )
    ],
    ('rename', None): [
      (f'{DECLARED[17]} kez\n\n{DECLARED[18]} zab\n\n{DECLARED[19]}', a, b, c)
    ],
    ('shuffle', None): [
      (
        'image 0 is <image1>图.\nimage 0 is kez\n\nimage 1 is <image2>图.\n'
        'image 1 is zab\n\nimage 2 is <image0>图.\nimage 2 is',
        *(a, b, c),
      )
    ],
  }
  assert texts(found) == expected


def test_chat_form_stays_chat():
  found = made(style='chat')
  base = texts(found)[UNCHANGED, None][0][0]
  assert base.startswith('User: image 0 is <image0>图.\nimage 0 is\nBot: kez\n')
  assert found['drop', 0][0].candidates == ('Bot: kez', 'Bot: zab')
  assert texts(found)['text_only', None][0][0] == (
    'User: image 0 is\nBot: kez\nUser: image 1 is\nBot: zab\n'
    'User: image 2 is <image2>图.\nimage 2 is'
  )
  assert texts(found)['images_only', None][0][0] == (
    'User: image 0 is <image0>图.\nUser: image 1 is <image1>图.\n'
    'User: image 2 is <image2>图.\nimage 2 is'
  )


def test_answers_follow_the_numbers_of_images():
  text = 'Which: {image} or {image}?'
  shots = [Turn(text, ['a', 'b'], 'image {0}'), Turn(text, ['c', 'd'], 'no')]
  found = made(Turn(text, ['e', 'f'], '<image{1}>'), shots)
  base = found[UNCHANGED, None][0]
  assert base.candidates == ('<image5>', 'image 4', 'no')
  assert found['drop', 0][0].candidates == ('<image3>', 'image 2', 'no')
  assert found['drop_all', None][0].candidates == ('<image1>', 'image 0', 'no')
  renamed = found['rename', None][0]
  assert renamed.candidates == ('<image19>', 'image 18', 'no')
  assert renamed.example.targets == '<image19>'
  bare = found['no_proxies', None][0]
  assert bare.candidates == ('image 5', 'image 4', 'no')


def test_what_is_not_possible_is_left_out():
  shots = [Turn(TEXT, [f'{i}.png'], 'kez') for i in range(10)]
  kinds = {kind for kind, _ in made(shots=shots, others=Others([], []))}
  absent = {'swap_image', 'swap_all_images', 'random_word', 'repeat'}
  assert set(KINDS) - kinds == absent | {'flip_label', 'flip_all_labels'}
  shots = [Turn('it is', [], 'kez'), Turn('it is', [], 'zab')]
  kinds = {kind for kind, _ in made(Turn('it is', [], 'zab'), shots)}
  assert not kinds & {'blank_image', 'text_only', 'rename', 'shuffle'}
  assert {'flip_all_labels', 'permute', 'repeat', 'drop_all'} <= kinds


def test_the_same_seed_draws_the_same():
  others = Others([f'{i}.jpg' for i in range(50)], [f'w{i}' for i in range(50)])
  example = assemble(QUERY, SHOTS)

  def drawn(seed):
    return [
      (one.example.inputs, one.example.images[:2])
      for one in PromptChanger(example, others, seed).make()
      if one.kind in ('swap_image', 'random_word')
    ]

  assert drawn('1') == drawn('1') != drawn('2')
  assert np.all(GREY == 128)

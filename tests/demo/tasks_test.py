"""The demo's tasks: right answers, honest chance, nothing given away."""

import functools
from collections import Counter

import numpy as np
import pytest

from mmicl_jax.context.turns import IMAGE
from mmicl_jax.demo import data, words
from mmicl_jax.demo.tasks import (
  BETWEEN,
  SEVERAL,
  TASKS,
  WAYS,
  Item,
  words_task,
)

SHOWN = [name for name in TASKS if not name.startswith('told_')]
ROWS = [(ways, each) for ways, row in WAYS.items() for each in row]


@functools.cache
def item(task: str, i: int) -> Item:
  split = 'train' if 'name_letter' in task else 'digits'
  return data.make_item(task, 3, i, split)


def items(task: str, n: int = 100) -> list[Item]:
  return [item(task, i) for i in range(n)]


def labels(made: Item) -> list[str]:
  return [p.label for p in made.pictures]


def index(text: str) -> int:
  return int(text.removeprefix('image '))


@pytest.mark.parametrize('task', SHOWN)
def test_every_prompt_has_its_images(task):
  for made in items(task, 8):
    example = made.example
    assert example.inputs.count(IMAGE) == len(made.pictures)
    for given, picture in zip(example.images, made.pictures, strict=True):
      assert given is picture.pixels
    assert example.targets and '{' not in example.inputs + example.targets
    names = [p.name for p in made.pictures]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(('ways', 'each'), ROWS)
def test_demonstrations_name_the_query_class(ways, each):
  for made in items(words_task(ways, each), 40):
    assert made.shots == ways * each == len(made.pictures) - 1
    *shown, query = labels(made)
    answers = [turn.answer for turn in made.example.turns[:-1]]
    of = dict(zip(shown, answers, strict=True))
    assert [of[label] for label in shown] == answers
    if not each:
      assert made.ceiling == made.chance == 0 and not made.words
      continue
    assert Counter(shown) == dict.fromkeys(of, each) and len(of) == ways
    assert made.example.targets == of[query]
    assert set(of.values()) == set(made.words)
    assert made.chance == 1 / ways and made.ceiling == 1


@pytest.mark.parametrize(('least', 'most'), BETWEEN)
def test_numbers_of_demonstrations_and_of_words_are_mixed(least, most):
  made = items(f'taught_icl_{least}_to_{most}')
  assert {one.shots for one in made} == set(range(least, most + 1))
  assert {len(one.words) for one in made} == {2, 3, 4, 5}
  for one in made:
    *shown, query = labels(one)
    answers = [turn.answer for turn in one.example.turns[:-1]]
    of = dict(zip(shown, answers, strict=True))
    assert set(of.values()) == set(one.words) and len(of) == len(one.words)
    assert one.example.targets == of[query]
  counts = [sorted(Counter(labels(one)[:-1]).values()) for one in made]
  assert any(row[0] != row[-1] for row in counts)


def test_position_gives_nothing_away():
  drawn = items('icl_words_4', 250)
  for place in range(4):
    same = [i.example.turns[place].answer == i.example.targets for i in drawn]
    assert np.mean(same) == pytest.approx(0.5, abs=0.1)


def test_a_quarter_of_the_words_is_never_shown_with_images_in_training():
  shown = {
    word for made in items('taught_icl_5_words_5') for word in made.words
  }
  assert shown <= set(words.TRAINED) < set(words.LABELS)
  asked = {word for made in items('icl_5_words_5') for word in made.words}
  assert asked - set(words.TRAINED)


def test_training_never_meets_a_held_out_class():
  """Nor a digit: not by name, and not by label."""
  seen, held_out = set(), set()
  for i in range(20):
    for task in ('taught_icl_5_words_10', 'which', 'told_pointing'):
      made = data.make_item(task, 0, i, 'train')
      seen |= {*labels(made), *made.example.inputs.split()}
    held_out |= set(labels(data.make_item('which', 0, i, 'heldout')))
  assert len(held_out) > 30
  assert not held_out & seen


def test_tasks_of_several_images_are_right():
  for made in items('odd_one_out', 40):
    counts = Counter(labels(made))
    assert counts[labels(made)[index(made.example.targets)]] == 1
    assert len(counts) == 2
  for made in items('which', 40):
    *candidates, asked = labels(made)
    assert len(set(candidates)) == len(candidates)
    assert candidates[index(made.example.targets)] == asked
    assert f'like image {len(candidates)}?' in made.example.inputs
  for made in items('pointing', 40):
    *candidates, asked = labels(made)
    told = made.example.targets.replace(' and ', ', ').split(', ')
    right = [i for i, label in enumerate(candidates) if label == asked]
    assert [index(t) for t in told] == right
  for made in items('same', 40):
    assert (made.example.targets == 'yes') == (len(set(labels(made))) == 1)
  for made in items('counting', 40):
    *candidates, asked = labels(made)
    assert int(made.example.targets) == candidates.count(asked)


def test_composition_names_both_in_order():
  for made in items('composition', 40):
    *shown, one, other = labels(made)
    answers = [turn.answer for turn in made.example.turns[:-1]]
    of = dict(zip(shown, answers, strict=True))
    assert made.example.targets == f'{of[one]} {of[other]}'


@pytest.mark.parametrize('task', SEVERAL)
def test_chance_is_the_best_guess_without_looking(task):
  """For each number of images, the commonest answer is right that often."""
  by_prompt: dict[str, list[Item]] = {}
  for made in items(task, 250):
    by_prompt.setdefault(made.example.inputs, []).append(made)
  for drawn in by_prompt.values():
    answers = Counter(made.example.targets for made in drawn)
    guess = answers.most_common(1)[0][1] / len(drawn)
    # The commonest of a sample lies above the commonest of all.
    assert drawn[0].chance - 0.1 < guess < drawn[0].chance + 0.15


def test_told_prompts_say_what_the_images_show():
  for i in range(20):
    told = data.make_item('told_icl_words_4', 0, i, 'train')
    assert not told.pictures and not told.example.images
    assert IMAGE not in told.example.inputs
    *shots, query = told.example.inputs.split('\n\n')
    of = {shot.split()[1]: shot.split()[-1] for shot in shots}
    assert len(of) == 2 and of[query.split()[1]] == told.example.targets


def test_letters_are_named():
  for made in items('name_letter', 30):
    assert [made.example.targets] == labels(made)
    assert made.pictures[0].name.split('-')[2] == '0'  # it is not turned

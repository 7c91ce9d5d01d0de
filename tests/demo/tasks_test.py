"""The demo's tasks: right answers, honest chance, nothing given away."""

import functools
from collections import Counter

import numpy as np
import pytest

from mmicl_jax.context.turns import IMAGE
from mmicl_jax.demo import data, words
from mmicl_jax.demo.tasks import SHOTS, TASKS, Item

N = 250


@functools.cache
def item(task: str, i: int) -> Item:
  return data.make_item(task, 3, i, 'heldout', 8)


def items(task: str, n: int = N) -> list[Item]:
  return [item(task, i) for i in range(n)]


def labels(made: Item) -> list[int]:
  return [int(p.label) for p in made.pictures]


def index(text: str) -> int:
  return int(text.removeprefix('image '))


@pytest.mark.slow
@pytest.mark.parametrize('task', TASKS)
def test_every_prompt_has_its_images(task):
  for made in items(task, 40):
    example = made.example
    assert example.inputs.count(IMAGE) == len(made.pictures)
    assert len(example.images) == len(made.pictures)
    for given, picture in zip(example.images, made.pictures, strict=True):
      assert given is picture.pixels
    assert example.targets and '{' not in example.inputs + example.targets
    names = [p.name for p in made.pictures]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize('k', SHOTS)
def test_demonstrations_name_the_query_class(k):
  for made in items(f'icl_words_{k}', 100):
    assert made.shots == k and len(made.pictures) == k + 1
    *shown, query = labels(made)
    answers = [turn.answer for turn in made.example.turns]
    of = dict(zip(shown, answers[:-1], strict=True))
    assert set(of.values()) == set(made.words)
    assert all(word in made.example.inputs.split() for word in made.words)
    assert len(of) == min(k, 2)
    assert all(
      of[label] == word for label, word in zip(shown, answers[:-1], strict=True)
    )
    if k >= 2:
      assert made.example.targets == of[query]
      assert Counter(shown) == dict.fromkeys(of, k // 2)
    if query not in of:
      assert made.example.targets not in made.example.inputs.split()


@pytest.mark.slow
def test_chance_and_ceiling_of_label_words():
  """Saying any word shown is right as often as `chance` says."""
  for k in SHOTS:
    drawn = items(f'icl_words_{k}')
    assert {i.chance for i in drawn} == {0.5 if k else 0.0}
    assert {i.ceiling for i in drawn} == {{0: 0.0, 1: 0.5}.get(k, 1.0)}
    for pick in (0, -1):
      right = [bool(i.words) and i.example.targets == i.words[pick]
               for i in drawn]  # fmt: skip
      assert np.mean(right) == pytest.approx(drawn[0].chance, abs=0.08)


@pytest.mark.parametrize('k', [2, 4])
def test_position_gives_nothing_away(k):
  drawn = items(f'icl_words_{k}')
  for place in range(k):
    same = [i.example.turns[place].answer == i.example.targets for i in drawn]
    assert np.mean(same) == pytest.approx(0.5, abs=0.08)


@pytest.mark.slow
def test_training_never_meets_held_out_images():
  train, heldout = set(), set()
  for i in range(30):
    for task in TASKS:
      train |= {p.name for p in data.make_item(task, 0, i, 'train', 8).pictures}
      test = data.make_item(task, 0, i, 'heldout', 8)
      heldout |= {p.name for p in test.pictures}
  tiles = {n.rsplit('-', 3)[0] for n in heldout if n.count('-') == 4}
  assert not train & heldout
  assert not tiles & {n.rsplit('-', 3)[0] for n in train if n.count('-') == 4}


def test_pointing_names_all_that_match():
  for made in items('pointing', 100):
    *candidates, asked = labels(made)
    told = made.example.targets.replace(' and ', ', ').split(', ')
    assert [index(t) for t in told] == [
      i for i, label in enumerate(candidates) if label == asked
    ]
    assert f'same digit as image {len(candidates)}?' in made.example.inputs


def test_odd_one_out_is_odd():
  places = Counter()
  for made in items('odd_one_out', 100):
    counts = Counter(labels(made))
    odd = index(made.example.targets)
    assert counts[labels(made)[odd]] == 1 and len(counts) == 2
    places[odd] += 1
  assert len(places) == 5


def test_arithmetic_is_right():
  for made in items('two_halves', 50):
    left, right = labels(made)
    assert made.example.targets == f'{left}{right}'
  for made in items('digit_sum', 50):
    assert int(made.example.targets) == sum(labels(made))
  for made in items('larger', 50):
    assert index(made.example.targets) == int(np.argmax(labels(made)))


def test_digits_are_named():
  for made in items('name_digit', 30):
    assert made.example.targets == words.DIGITS[labels(made)[0]]
  for made in items('name_each', 30):
    told = made.example.targets.replace(' and ', ', ').split(', ')
    assert told == [words.DIGITS[label] for label in labels(made)]
  for made in items('name_one', 30):
    asked = made.example.inputs.splitlines()[-1].split()[1]
    assert made.example.targets == words.DIGITS[labels(made)[int(asked)]]
  for made in items('find_digit', 30):
    asked = made.example.inputs.split()[-1].rstrip('?')
    digit = labels(made)[index(made.example.targets)]
    assert words.DIGITS[digit] == asked


def test_captions_follow_the_pixels():
  seen = Counter()
  for made in items('caption'):
    (picture,) = made.pictures
    _, adjective, *rest = made.example.targets.split(' ')
    seen[adjective] += 1
    level = picture.pixels.mean()
    if adjective in ('bold', 'thin'):
      assert (adjective == 'bold') == (level < 176)
      assert rest == ['handwritten', words.DIGITS[int(picture.label)]]
    else:
      assert (adjective == 'bright') == (level > 110)
      assert ' '.join(rest) == f'photo of {picture.label}'
  assert min(seen.values()) > 10 and len(seen) == 4


@pytest.mark.slow
@pytest.mark.parametrize('task', [t for t in TASKS if 'icl' not in t])
def test_chance_is_the_best_guess_without_looking(task):
  """For each number of images, the commonest answer is right that often."""
  by_prompt: dict[str, list[Item]] = {}
  for made in items(task):
    by_prompt.setdefault(made.example.inputs, []).append(made)
  for drawn in by_prompt.values():
    if len(drawn) >= 50:
      answers = Counter(made.example.targets for made in drawn)
      guess = answers.most_common(1)[0][1] / len(drawn)
      # The commonest of a sample lies above the commonest of all.
      assert drawn[0].chance - 0.07 < guess < drawn[0].chance + 0.1


def test_demonstrations_come_in_every_order():
  orders = Counter()
  for made in items('icl_words_4'):
    answers = [turn.answer for turn in made.example.turns[:-1]]
    orders[tuple(answer == answers[0] for answer in answers)] += 1
  assert len(orders) == 3 and min(orders.values()) > N / 5


@pytest.mark.parametrize('task', ['icl_words_4', 'name_one', 'caption'])
def test_told_prompts_say_what_the_images_show(task):
  for i in range(20):
    shown = data.make_item(f'told_{task}', 0, i, 'train', 8)
    assert not shown.pictures and not shown.example.images
    assert IMAGE not in shown.example.inputs
    if task == 'name_one':
      asked = int(shown.example.inputs.split('image ')[-1].split()[0])
      assert f'<image{asked}> {shown.example.targets}.' in shown.example.inputs


def test_near_prompts_are_image_and_answer_alone():
  made = data.make_item('near_words_2', 0, 0, 'train', 8)
  first, second, query = made.example.inputs.split('\n\n')
  answers = [turn.answer for turn in made.example.turns]
  assert first == f'<image0>{IMAGE} {answers[0]}'
  assert second == f'<image1>{IMAGE} {answers[1]}'
  assert query == f'<image2>{IMAGE}'

"""The demo's tasks: each makes one prompt from a gallery at random."""

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mmicl_jax.context.turns import IMAGE, Example, Turn, assemble
from mmicl_jax.demo import words
from mmicl_jax.demo.pictures import Gallery, Picture

SHOTS = (0, 1, 2, 4)


@dataclass(frozen=True)
class Item:
  """One prompt, and what is needed to judge an answer to it.

  words: the label words that the demonstrations show. chance: the accuracy of
  the best guess by someone who cannot see the images; for label words, of a
  guess among the words shown. ceiling: the accuracy of a perfect reader, which
  is below 1 where the demonstrations do not determine the answer.
  """

  task: str
  example: Example
  pictures: tuple[Picture, ...]
  words: tuple[str, ...] = ()
  shots: int = 0
  chance: float = 0.0
  ceiling: float = 1.0


def icl_words(
  task: str,
  images: Gallery,
  rng: np.random.Generator,
  shots: int,
  text: str = 'image {0} is',
) -> Item:
  """Two digit classes have invented names: which name has the last image?

  Half of the demonstrations show each class, in random order. A single
  demonstration shows one class while the query is of either, so that nobody
  can beat one half. Without demonstrations nobody can know the word.
  """
  classes = rng.choice(10, size=2, replace=False)
  names = words.draw_words(rng)
  first = int(rng.integers(2))
  shown_sides = rng.permutation((np.arange(shots) + first) % 2)
  sides = [*(int(i) for i in shown_sides), int(rng.integers(2))]
  drawn = images.draw_digits([int(classes[i]) for i in sides], rng)
  turns = [
    Turn(text, images=(picture.pixels,), answer=names[side])
    for picture, side in zip(drawn, sides, strict=True)
  ]
  shown = tuple(names[i] for i in sorted(set(sides[:-1])))
  return Item(
    task,
    assemble(turns[-1], turns[:-1]),
    tuple(drawn),
    shown,
    shots,
    chance=0.5 if shown else 0.0,
    ceiling=len(shown) / 2,
  )


def name_digit(
  task: str,
  images: Gallery,
  rng: np.random.Generator,
  text: str = 'image {0} shows the digit',
) -> Item:
  """One image: 'image 0 shows the digit' -> 'three'."""
  (digit,) = _classes(1, rng)
  return _item(task, images, rng, [digit], text, words.DIGITS[digit], 1 / 10)


def name_one(task: str, images: Gallery, rng: np.random.Generator) -> Item:
  """One of several images: 'image 2 shows the digit' -> 'three'."""
  digits = _classes(int(rng.integers(2, 6)), rng)
  asked = int(rng.integers(len(digits)))
  text = f'image {{{asked}}} shows the digit'
  answer = words.DIGITS[digits[asked]]
  return _item(task, images, rng, digits, text, answer, 1 / 10)


def name_each(task: str, images: Gallery, rng: np.random.Generator) -> Item:
  """Every image in turn: 'the digits are' -> 'three, four and three'."""
  digits = _classes(int(rng.integers(2, 6)), rng)
  names = [words.DIGITS[d] for d in digits]
  text, answer = 'the digits in the images are', _listed(names)
  return _item(task, images, rng, digits, text, answer, 10.0 ** -len(digits))


def find_digit(task: str, images: Gallery, rng: np.random.Generator) -> Item:
  """'which image shows the digit three?' -> 'image 1'."""
  n = int(rng.integers(2, 6))
  digits = [int(d) for d in rng.choice(10, size=n, replace=False)]
  asked = int(rng.integers(n))
  text = f'which image shows the digit {words.DIGITS[digits[asked]]}?'
  return _item(task, images, rng, digits, text, f'image {{{asked}}}', 1 / n)


def pointing(task: str, images: Gallery, rng: np.random.Generator) -> Item:
  """'which images show the same digit as image 4?' -> 'image 0 and image 2'.

  Two or three classes; at least one image matches.
  """
  n = int(rng.integers(2, 5))
  kinds = [int(d) for d in rng.choice(10, size=min(n, 3), replace=False)]
  kinds = kinds[: int(rng.integers(2, len(kinds) + 1))]
  digits = [kinds[int(i)] for i in rng.integers(len(kinds), size=n)]
  asked = digits[int(rng.integers(n))]
  matches = [
    f'image {{{i}}}' for i, digit in enumerate(digits) if digit == asked
  ]
  text = f'which images show the same digit as image {{{n}}}?'
  return _item(
    task, images, rng, [*digits, asked], text, _listed(matches),
    _best_set(n),
  )  # fmt: skip


def _best_set(n: int) -> float:
  """How often the likeliest set of matches is right, for n candidates.

  With c classes, m particular images and no others match with probability
  m/n * (1/c)^(m-1) * (1 - 1/c)^(n-m).
  """
  classes = range(2, min(n, 3) + 1)
  return max(
    sum(m / n * c ** (1 - m) * (1 - 1 / c) ** (n - m) for c in classes)
    / len(classes)
    for m in range(1, n + 1)
  )


def odd_one_out(task: str, images: Gallery, rng: np.random.Generator) -> Item:
  """All images but one show the same digit: 'image 2'."""
  n = int(rng.integers(3, 6))
  same, other = (int(d) for d in rng.choice(10, size=2, replace=False))
  odd = int(rng.integers(n))
  digits = [other if i == odd else same for i in range(n)]
  text = 'which image is the odd one out?'
  return _item(task, images, rng, digits, text, f'image {{{odd}}}', 1 / n)


def two_halves(task: str, images: Gallery, rng: np.random.Generator) -> Item:
  """Two images hold the halves of one number -> '37'."""
  number = int(rng.integers(10, 100))
  text = (
    'image {0} is the left half and image {1} is the right half of one '
    'number. the number is'
  )
  digits = [number // 10, number % 10]
  return _item(task, images, rng, digits, text, str(number), 1 / 90)


def digit_sum(task: str, images: Gallery, rng: np.random.Generator) -> Item:
  """'the total of the digits in image 0 and image 1 is' -> '12'.

  The likeliest total is 9, one time in ten.
  """
  digits = _classes(2, rng)
  text = 'the total of the digits in image {0} and image {1} is'
  return _item(task, images, rng, digits, text, str(sum(digits)), 1 / 10)


def larger(task: str, images: Gallery, rng: np.random.Generator) -> Item:
  """'which image shows the larger digit?' -> 'image 1'."""
  digits = [int(d) for d in rng.choice(10, size=2, replace=False)]
  answer = f'image {{{int(np.argmax(digits))}}}'
  text = 'which image shows the larger digit?'
  return _item(task, images, rng, digits, text, answer, 1 / 2)


def caption(task: str, images: Gallery, rng: np.random.Generator) -> Item:
  """'a bold handwritten three' or 'a dark photo of a flower', for stage 1.

  The adjective follows from the mean of the pixels.
  """
  if rng.random() < 0.7:
    (picture,) = images.draw_digits(_classes(1, rng), rng)
    noun = f'handwritten {words.DIGITS[int(picture.label)]}'
    adjective = 'bold' if picture.pixels.mean() < 176 else 'thin'
    answer = f'a {adjective} {noun}'
  else:
    picture = images.draw_crop(rng)
    adjective = 'bright' if picture.pixels.mean() > 110 else 'dark'
    answer = f'a {adjective} photo of {picture.label}'
  turn = Turn('caption of image {0}:', (picture.pixels,), answer)
  # The share of the commonest caption, 'a dark photo of a flower'.
  return Item(task, assemble(turn), (picture,), chance=0.15)


Task = Callable[[str, Gallery, np.random.Generator], Item]


def told(task: Task) -> Task:
  """The same task in text: words stand in the places of the images."""

  def make(name: str, images: Gallery, rng: np.random.Generator) -> Item:
    item = task(name, images, rng)
    shown = iter(item.pictures)
    inputs = re.sub(
      IMAGE, lambda _: f' {_spoken(next(shown))}', item.example.inputs
    )
    example = Example(inputs, item.example.targets)
    return dataclasses.replace(item, example=example, pictures=())

  return make


# An image and right behind it the answer: what is learned first (lessons.py).
NEAR = '{image}'

TASKS: dict[str, Task] = {
  **{f'icl_words_{k}': functools.partial(icl_words, shots=k) for k in SHOTS},
  'name_digit': name_digit,
  'name_one': name_one,
  'name_each': name_each,
  'find_digit': find_digit,
  'pointing': pointing,
  'odd_one_out': odd_one_out,
  'two_halves': two_halves,
  'digit_sum': digit_sum,
  'larger': larger,
  'caption': caption,
  'near_digit': functools.partial(name_digit, text=NEAR),
  **{
    f'near_words_{k}': functools.partial(icl_words, shots=k, text=NEAR)
    for k in (2, 4)
  },
}
TASKS |= {f'told_{name}': told(task) for name, task in TASKS.items()}


def _spoken(picture: Picture) -> str:
  label = picture.label
  return words.DIGITS[int(label)] if label.isdigit() else label


def _item(
  task: str,
  images: Gallery,
  rng: np.random.Generator,
  digits: Sequence[int],
  text: str,
  answer: str,
  chance: float,
) -> Item:
  drawn = tuple(images.draw_digits(digits, rng))
  turn = Turn(text, tuple(p.pixels for p in drawn), answer)
  return Item(task, assemble(turn), drawn, chance=chance)


def _classes(n: int, rng: np.random.Generator) -> list[int]:
  return [int(d) for d in rng.integers(10, size=n)]


def _listed(names: Sequence[str]) -> str:
  """['a', 'b', 'c'] -> 'a, b and c'."""
  *head, last = names
  return f'{", ".join(head)} and {last}' if head else last

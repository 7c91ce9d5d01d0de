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

# Words, and demonstrations of each: the rows of the demo's main table.
# MMICL names twenty images, so five words have room for three of each.
WAYS = {2: (0, 1, 2, 3, 5), 5: (0, 1, 2, 3)}


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
  ways: int,
  each: int,
  vocabulary: Sequence[str] = words.LABELS,
) -> Item:
  """Classes have invented names: which name has the last image?

  Each class is shown `each` times, in random order. Without demonstrations
  nobody can know the word.
  """
  return _named(task, images, rng, [each] * ways, vocabulary)


def icl_between(
  task: str,
  images: Gallery,
  rng: np.random.Generator,
  least: int,
  most: int,
  vocabulary: Sequence[str] = words.LABELS,
) -> Item:
  """The same with two to five classes, and `least` to `most` demonstrations.

  Each class is shown one to MOST_EACH times. A model that is trained on a few
  numbers of demonstrations alone knows how far back to look, and guesses at all
  numbers between.
  """
  shots = int(rng.integers(least, most + 1))
  ways = int(rng.integers(max(2, -(-shots // MOST_EACH)), min(5, shots) + 1))
  again = np.repeat(np.arange(ways), MOST_EACH - 1)
  more = rng.choice(again, shots - ways, replace=False)
  counts = 1 + np.bincount(more, minlength=ways)
  return _named(task, images, rng, counts, vocabulary)


def _named(
  task: str,
  images: Gallery,
  rng: np.random.Generator,
  counts: Sequence[int] | np.ndarray,
  vocabulary: Sequence[str],
) -> Item:
  """A prompt that shows the i-th class counts[i] times."""
  ways, shots = len(counts), int(sum(counts))
  kinds = images.draw_kinds(ways, rng)
  names = words.draw_words(rng, ways, vocabulary)
  sides = [int(i) for i in rng.permutation(np.repeat(np.arange(ways), counts))]
  sides.append(int(rng.integers(ways)))
  drawn = images.draw([kinds[i] for i in sides], rng)
  turns = [
    Turn('{image} is', (picture.pixels,), names[side])
    for picture, side in zip(drawn, sides, strict=True)
  ]
  return Item(
    task,
    assemble(turns[-1], turns[:-1]),
    tuple(drawn),
    names if shots else (),
    shots,
    chance=1 / ways if shots else 0.0,
    ceiling=float(bool(shots)),
  )


def composition(task: str, images: Gallery, rng: np.random.Generator) -> Item:
  """Three classes are named one by one, then two stand together: 'bax dop'."""
  kinds = images.draw_kinds(3, rng)
  names = words.draw_words(rng, 3, words.TRAINED)
  pair = [int(i) for i in rng.choice(3, 2, replace=False)]
  order = [int(i) for i in rng.permutation(3)]
  drawn = images.draw([kinds[i] for i in (*order, *pair)], rng)
  shots = [
    Turn('{image} is', (picture.pixels,), names[i])
    for picture, i in zip(drawn, order, strict=False)
  ]
  query = Turn(
    '{image} {image} are',
    tuple(p.pixels for p in drawn[3:]),
    ' '.join(names[i] for i in pair),
  )
  example = assemble(query, shots)
  return Item(task, example, tuple(drawn), names, 3, chance=1 / 6)


def name_letter(task: str, images: Gallery, rng: np.random.Generator) -> Item:
  """One image of a character that has a name in text: '{image} shows' -> 'Ж'.

  Only characters of training have such names.
  """
  known = images.upright
  (kind,) = known.draw_kinds(1, rng)
  name = known.kinds[kind].character
  return _item(task, known, rng, [kind], 'shows', name, 1 / len(known.kinds))


def odd_one_out(task: str, images: Gallery, rng: np.random.Generator) -> Item:
  """All images but one show the same class: 'image 2'."""
  n = int(rng.integers(3, 6))
  same, other = images.draw_kinds(2, rng)
  odd = int(rng.integers(n))
  kinds = [other if i == odd else same for i in range(n)]
  return _item(task, images, rng, kinds, 'odd?', f'image {{{odd}}}', 1 / n)


def which(task: str, images: Gallery, rng: np.random.Generator) -> Item:
  """'which is like image 4?' -> 'image 1': one of different classes."""
  n = int(rng.integers(2, 5))
  kinds = images.draw_kinds(n, rng)
  asked = int(rng.integers(n))
  text = f'which is like image {{{n}}}?'
  answer = f'image {{{asked}}}'
  return _item(task, images, rng, [*kinds, kinds[asked]], text, answer, 1 / n)


def pointing(task: str, images: Gallery, rng: np.random.Generator) -> Item:
  """'all like image 3?' -> 'image 0 and image 2'; at least one is."""
  n, pair = 3, images.draw_kinds(2, rng)
  matching = int(rng.integers(1, n + 1))
  chosen = sorted(int(i) for i in rng.choice(n, matching, replace=False))
  kinds = [pair[i not in chosen] for i in range(n)]
  answer = _listed([f'image {{{i}}}' for i in chosen])
  text = f'all like image {{{n}}}?'
  # All three match in every third prompt.
  return _item(task, images, rng, [*kinds, pair[0]], text, answer, 1 / 3)


def same_class(task: str, images: Gallery, rng: np.random.Generator) -> Item:
  """'same?' about two images -> 'yes' or 'no'."""
  pair = images.draw_kinds(2, rng)
  alike = bool(rng.integers(2))
  kinds = [pair[0], pair[0 if alike else 1]]
  answer = 'yes' if alike else 'no'
  return _item(task, images, rng, kinds, 'same?', answer, 1 / 2)


def counting(task: str, images: Gallery, rng: np.random.Generator) -> Item:
  """'how many are like image 4?' of the four before it: '0' to '4'."""
  n, pair = 4, images.draw_kinds(2, rng)
  count = int(rng.integers(n + 1))
  places = {int(i) for i in rng.choice(n, count, replace=False)}
  kinds = [pair[i not in places] for i in range(n)]
  text = f'how many are like image {{{n}}}?'
  answer = str(count)
  return _item(task, images, rng, [*kinds, pair[0]], text, answer, 1 / (n + 1))


Task = Callable[[str, Gallery, np.random.Generator], Item]


def told(task: Task) -> Task:
  """The same task in text: characters stand in the places of the images."""

  def make(name: str, images: Gallery, rng: np.random.Generator) -> Item:
    item = task(name, images.upright, rng)
    shown = iter(item.pictures)
    inputs = re.sub(
      IMAGE, lambda _: f' {next(shown).label}', item.example.inputs
    )
    example = Example(inputs, item.example.targets)
    return dataclasses.replace(item, example=example, pictures=())

  return make


def words_task(ways: int, each: int) -> str:
  """The name of a task of invented words: icl_words_4, icl_5_words_15."""
  prefix = 'icl_words' if ways == 2 else f'icl_{ways}_words'
  return f'{prefix}_{ways * each}'


# Tasks that compare several images, without demonstrations.
SEVERAL: dict[str, Task] = {
  'odd_one_out': odd_one_out,
  'which': which,
  'pointing': pointing,
  'same': same_class,
  'counting': counting,
}
# Numbers of demonstrations that training shows, short to long.
BETWEEN = ((2, 5), (6, 10), (11, 15))
MOST_EACH = 6  # of a class in such a prompt
ROWS = {
  words_task(ways, each): (ways, each)
  for ways, row in WAYS.items()
  for each in row
}
# Tasks of invented words.
_NAMED: dict[str, Callable[..., Item]] = {
  **{
    name: functools.partial(icl_words, ways=ways, each=each)
    for name, (ways, each) in ROWS.items()
  },
  **{
    f'icl_{least}_to_{most}': functools.partial(
      icl_between, least=least, most=most
    )
    for least, most in BETWEEN
  },
}
_SHOWN: dict[str, Task] = {
  **_NAMED,
  **SEVERAL,
  'composition': composition,
  'name_letter': name_letter,
}
TASKS: dict[str, Task] = {
  **_SHOWN,
  **{f'told_{name}': told(task) for name, task in _SHOWN.items()},
  # Training shows images with a part of the words alone.
  **{
    f'taught_{name}': functools.partial(task, vocabulary=words.TRAINED)
    for name, task in _NAMED.items()
  },
}


def _item(
  task: str,
  images: Gallery,
  rng: np.random.Generator,
  kinds: Sequence[int],
  text: str,
  answer: str,
  chance: float,
) -> Item:
  drawn = tuple(images.draw(kinds, rng))
  slots = ' '.join(['{image}'] * len(drawn))
  turn = Turn(f'{slots} {text}', tuple(p.pixels for p in drawn), answer)
  return Item(task, assemble(turn), drawn, chance=chance)


def _listed(names: Sequence[str]) -> str:
  """['a', 'b', 'c'] -> 'a, b and c'."""
  *head, last = names
  return f'{", ".join(head)} and {last}' if head else last

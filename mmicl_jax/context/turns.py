"""The context scheme: turns with images become one prompt that T5 can read.

A `Turn` is a question with its images and, for a demonstration, its answer.
`assemble` puts demonstrations before the query and numbers the images of the
whole prompt once, by position, so that no two can share a name. In the prompt
the k-th image is `<imagek>图`: its name, then the place where its visual
tokens go. Python only: datasets, command line and server share this file.
"""

import dataclasses
import os
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmicl_jax.context.text import (
  IMAGE,
  MAX_IMAGES,
  PROXIES,
  collapse,
  escape,
  match_images,
  short,
  slotted,
  spans,
  too_many,
)
from mmicl_jax.errors import UserError

__all__ = [
  'IMAGE',
  'MAX_IMAGES',
  'PROXIES',
  'Example',
  'Turn',
  'assemble',
  'collapse',
  'declarations',
  'escape',
  'listed',
  'sample_shots',
  'scene',
  'spans',
  'turn_from_example',
  'video',
]

STYLES = ('plain', 'chat')

_SLOT = re.compile(r'\{\{(image|[0-9]+)\}\}|\{(image|[0-9]+)\}')
_RESERVED = re.compile(rf'{IMAGE}|<image[0-9]+>')


@dataclasses.dataclass(frozen=True)
class Turn:
  """A question about images; with an answer it can be a demonstration.

  In `text`, `{image}` is the place of the turn's next image, and `{0}`, `{1}`
  the number that its first, second image has in the whole prompt (`<image{0}>`
  its name). Images are declared in front when the text has no `{image}`. The
  answer may use `{0}` too. `{{0}}` and `{{image}}` stand for themselves; all
  other braces are ordinary text.

    Turn('image {0} is a chinchilla. image {1} is', ['a.png', 'b.png'])
    Turn('Is {image} larger than {image}?', ['a.png', 'b.png'], 'no')

  Images are opaque here: paths, bytes, base64, PIL images or arrays.
  Raises UserError when slots and images do not match, or when the text holds
  the reserved 图 or `<imageK>`.
  """

  text: str
  images: Any = ()  # a sequence or one image; kept as a tuple
  answer: str = ''

  def __post_init__(self):
    object.__setattr__(self, 'images', listed(self.images))
    for field in ('text', 'answer'):
      self._check(field, getattr(self, field))
    slots = _count_slots(self.text)
    if slots and slots != len(self.images):
      raise UserError(
        f'{slots} {{image}} slots but {len(self.images)} images in '
        f'{short(self.text)}: write one slot per image, or none to have the '
        'images declared in front (a literal {image} is written {{image}}).'
      )
    if _count_slots(self.answer):
      raise UserError(
        f'The answer {short(self.answer)} has an {{image}} slot: an answer '
        'is text, refer to an image by {0} or write {{image}}.'
      )

  def _check(self, field: str, text: str):
    if found := _RESERVED.search(text):
      raise UserError(
        f'{found[0]!r} in the {field} {short(text)} is reserved for images: '
        "write {image} where an image goes, 'image {0}' or '<image{0}>' to "
        'refer to one.'
      )
    for match in _SLOT.finditer(text):
      if (match[2] or '').isdigit() and int(match[2]) >= len(self.images):
        raise UserError(
          f'{match[0]} in the {field} {short(text)} refers to image '
          f'{match[2]} of the turn (counted from 0), which has '
          f'{len(self.images)}: if it is no image, write {{{match[0]}}}.'
        )


@dataclasses.dataclass(frozen=True)
class Example:
  """What the model reads: one 图 in `inputs` for each of `images`, in order.

  Instead of one 图 there may be copies in a row; `copies` has their numbers.
  `turns` (demonstrations, then the query) and `style` are kept when `assemble`
  made it, so that demonstrations can be dropped; `name` says in errors where
  it came from. Raises UserError when 图 and images do not match: nothing that
  reads an Example has to count again.
  """

  inputs: str
  targets: str
  images: Sequence[Any] = ()
  turns: tuple[Turn, ...] = ()
  style: str = 'plain'
  name: str = ''
  copies: tuple[int, ...] = dataclasses.field(
    init=False, repr=False, compare=False
  )

  def __post_init__(self):
    object.__setattr__(self, 'images', listed(self.images))
    copies, problem = match_images(self.inputs, len(self.images))
    if problem:
      raise UserError(f'{self.name}: {problem}' if self.name else problem)
    object.__setattr__(self, 'copies', copies)

  @property
  def num_shots(self) -> int:
    return max(len(self.turns) - 1, 0)

  def keep_shots(self, k: int) -> 'Example':
    """The same query after only its k newest demonstrations, renumbered."""
    if k >= self.num_shots:
      return self
    *shots, query = self.turns
    shots = shots[len(shots) - k :]
    return assemble(query, shots, style=self.style, name=self.name)


def assemble(
  query: Turn,
  shots: Turn | Sequence[Turn] = (),
  *,
  style: str = 'plain',
  name: str = '',
) -> Example:
  """Demonstrations, then the query, with images numbered by position.

  plain: 'text answer' paragraphs and the query's text; the target is its
  answer. chat: 'User: text\\nBot: answer\\n', then 'User: text' with the target
  'Bot: answer'. Raises UserError for a demonstration without an answer and for
  more images than there are names.
  """
  if style not in STYLES:
    raise UserError(f'Unknown style {style!r}: use one of {", ".join(STYLES)}.')
  shots = listed(shots)
  turns = (*shots, query)
  for i, turn in enumerate(turns):
    if not isinstance(turn, Turn):
      what = f'demonstration {i}' if i < len(shots) else 'the query'
      raise UserError(f'{what} is a {type(turn).__name__}: give a Turn.')
  images = tuple(image for turn in turns for image in turn.images)
  if len(images) > MAX_IMAGES:
    raise UserError(too_many(len(images)))
  for i, shot in enumerate(shots):
    if not shot.answer.strip():
      raise UserError(f'Demonstration {i}, {short(shot.text)}, has no answer.')

  first, parts = 0, []
  for turn in turns:
    parts.append((_render(turn, first), _numbered(turn.answer, first)))
    first += len(turn.images)
  *demonstrations, (text, answer) = parts
  if style == 'chat':
    inputs = ''.join(f'User: {t}\nBot: {a}\n' for t, a in demonstrations)
    inputs += f'User: {text}'
    # An empty answer stays empty: no answer must not look like one.
    targets = f'Bot: {answer}' if answer else ''
  else:
    shown = [f'{t.rstrip()} {a}'.lstrip() for t, a in demonstrations]
    inputs, targets = '\n\n'.join((*shown, text)), answer
  return Example(inputs, targets, images, turns, style, name)


def sample_shots(
  pool: Sequence[Any], query_index: int, k: int, rng: random.Random | int
) -> list[Any]:
  """k different items of the pool: never the query nor one that equals it.

  Items are Turns, or records with `inputs` and `images`; equal means the same
  text and images. `rng` is a random.Random or a seed; the global generator is
  not touched. The pool is only indexed, never walked, so it may be a file.
  Raises UserError when fewer than k others exist.
  """
  if isinstance(rng, int):  # Random takes a seed and its negative for one
    rng = random.Random(rng if rng >= 0 else str(rng))
  query, tried, shots = pool[query_index], {query_index % len(pool)}, []
  while len(shots) < k:
    if len(tried) == len(pool):
      raise UserError(
        f'{k} demonstrations asked for, but only {len(shots)} items of the '
        'pool differ from the query: ask for fewer or give more items.'
      )
    i = rng.randrange(len(pool))
    if i not in tried:
      tried.add(i)
      if not _same(pool[i], query):
        shots.append(pool[i])
  return shots


def scene(
  text: str, whole: Any, parts: Sequence[Any], names: Sequence[str] = ()
) -> Turn:
  """Interconnected images: {0} is the whole picture, {1}... crops of it.

  With `names`, one per crop, a sentence says what each one shows.
  """
  parts, names = listed(parts), listed(names)
  if names and len(names) != len(parts):
    raise UserError(f'{len(names)} names for {len(parts)} parts of a scene.')
  relations = ''.join(
    f'image {{{i}}} is {escape(name)} in image {{0}}.\n'
    for i, name in enumerate(names, 1)
  )
  images = (whole, *parts)
  return Turn(declarations(len(images)) + relations + text, images)


def video(text: str, frames: Sequence[Any]) -> Turn:
  """Interconnected images: the frames of one video in the order of time."""
  frames = listed(frames)
  relation = ''
  if len(frames) > 1:
    last = len(frames) - 1
    relation = f'image {{0}} to image {{{last}}} are frames of one video.\n'
  return Turn(declarations(len(frames)) + relation + text, frames)


def declarations(count: int) -> str:
  """Turn text that declares its images: 'image {0} is {image}.\\n' for each."""
  return ''.join(f'image {{{i}}} is {{image}}.\n' for i in range(count))


def turn_from_example(example: Example) -> Turn:
  """A finished prompt without demonstrations as a Turn, free to be renumbered.

  References to its images become slots (`text.slotted`). Raises UserError when
  two images have one name.
  """
  text, answer = slotted(example.inputs, example.targets)
  return Turn(text, example.images, answer)


def _render(turn: Turn, first: int) -> str:
  text = turn.text
  if not _count_slots(text):
    text = declarations(len(turn.images)) + text
  return _numbered(text, first)


def _numbered(text: str, first: int) -> str:
  """Fills a turn's slots; its first image is number `first` of the prompt."""
  place = first - 1

  def fill(match: re.Match) -> str:
    nonlocal place
    if match[1]:
      return f'{{{match[1]}}}'
    if match[2] == 'image':
      place += 1
      return f'{PROXIES[place]}{IMAGE}'
    return str(first + int(match[2]))

  return _SLOT.sub(fill, text)


def _count_slots(text: str) -> int:
  return sum(match[2] == 'image' for match in _SLOT.finditer(text))


def listed(items: Any) -> tuple[Any, ...]:
  """A list as a tuple; one thing where a list is meant is a list of one.

  One thing: a text, bytes, a path, a mapping, a PIL image, an array [H, W] or
  [H, W, C], a Turn, an Example, and whatever else cannot be walked.
  """
  single = isinstance(items, (str, bytes, os.PathLike, Mapping))
  if single or not isinstance(items, Iterable):
    return (items,)
  return (items,) if 2 <= getattr(items, 'ndim', 0) <= 3 else tuple(items)


def _same(a: Any, b: Any) -> bool:
  text_a, text_b = (x.text if isinstance(x, Turn) else x.inputs for x in (a, b))
  return (
    text_a == text_b
    and len(a.images) == len(b.images)
    and all(map(_same_image, a.images, b.images))
  )


def _same_image(a: Any, b: Any) -> bool:
  if a is b:
    return True
  if hasattr(a, 'tobytes') and hasattr(b, 'tobytes'):  # arrays, PIL images
    shapes = [getattr(x, 'shape', getattr(x, 'size', None)) for x in (a, b)]
    return shapes[0] == shapes[1] and a.tobytes() == b.tobytes()
  return type(a) is type(b) and a == b

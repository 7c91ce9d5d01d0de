"""The context scheme: turns with images become one prompt that T5 can read.

A `Turn` is a question with its images and, for a demonstration, its answer.
`assemble` puts demonstrations before the query and numbers all images of the
prompt by position, so that no two share a name. In the prompt the k-th image is
`<imagek>图`: its name, then the place where its visual tokens go. This file
needs Python only.
"""

import dataclasses
import numbers
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
from mmicl_jax.errors import UserError, check_type

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

  In `text`, `{image}` is the place of the turn's next image. `{0}` becomes the
  number that its first image has in the whole prompt, `{1}` that of its second,
  and so on; `<image{0}>` becomes the first image's name. If the text has no
  `{image}`, the images are declared before it. The answer may use `{0}` too.
  `{{0}}` and `{{image}}` are shown as {0} and {image}; all other braces are
  ordinary text.

    Turn('image {0} is a chinchilla. image {1} is', ['a.png', 'b.png'])
    Turn('Is {image} larger than {image}?', ['a.png', 'b.png'], 'no')

  Images may be anything (paths, bytes, base64, PIL images, arrays): nothing
  here looks inside. Raises UserError if slots and images do not match, or if
  the text or the answer contains the reserved 图 or `<imageK>`.
  """

  text: str
  images: Any = ()  # a sequence or one image; kept as a tuple
  answer: str = ''

  def __post_init__(self):
    for field in ('text', 'answer'):
      check_type(f'the {field} of a Turn', getattr(self, field), str, 'a text')
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

  An image may have several 图 in a row instead of one; `copies` says how many
  each has. turns, style: what `assemble` made it from (demonstrations, then the
  query), so that demonstrations can be dropped later. name: where the example
  is from, for error messages. Raises UserError if 图 and images do not match,
  so that nobody who reads an Example must count again.
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
    for field in ('inputs', 'targets', 'style', 'name'):
      value = getattr(self, field)
      check_type(f'{field} of an Example', value, str, 'a text')
    turns = listed(self.turns)
    for turn in turns:
      check_type('one of the turns of an Example', turn, Turn, 'a Turn')
    object.__setattr__(self, 'turns', turns)
    object.__setattr__(self, 'images', listed(self.images))
    copies, problem = match_images(self.inputs, len(self.images))
    if problem:
      raise UserError(f'{self.name}: {problem}' if self.name else problem)
    object.__setattr__(self, 'copies', copies)

  @property
  def num_shots(self) -> int:
    """The number of demonstrations, as far as `turns` is known."""
    return max(len(self.turns) - 1, 0)

  def keep_shots(self, k: int) -> 'Example':
    """The query with only its last k demonstrations; images are renumbered."""
    check_type('k', k, numbers.Integral, 'a whole number')
    if k < 0:
      raise UserError(f'k is {k}: give a number of demonstrations, 0 or more.')
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
  """Joins demonstrations and the query to one prompt; numbers its images.

  style: 'plain' gives a paragraph 'text answer' for each demonstration, then
  the query's text; the target is its answer. 'chat' gives
  'User: text\\nBot: answer\\n' for each demonstration, then 'User: text', with
  the target 'Bot: answer'. name: where the prompt is from, for error messages.
  Raises UserError for a demonstration without an answer and for more than
  MAX_IMAGES images.
  """
  if not isinstance(style, str) or style not in STYLES:
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
    parts.append((_render(turn, first), numbered(turn.answer, first)))
    first += len(turn.images)
  *demonstrations, (text, answer) = parts
  if style == 'chat':
    inputs = ''.join(f'User: {t}\nBot: {a}\n' for t, a in demonstrations)
    inputs += f'User: {text}'
    # 'Bot: ' alone would look like an answer.
    targets = f'Bot: {answer}' if answer else ''
  else:
    shown = [f'{t.rstrip()} {a}'.lstrip() for t, a in demonstrations]
    inputs, targets = '\n\n'.join((*shown, text)), answer
  return Example(inputs, targets, images, turns, style, name)


def sample_shots(
  pool: Sequence[Any], query_index: int, k: int, rng: random.Random | int
) -> list[Any]:
  """Draws k different items of the pool, none of which equals the query.

  Items are Turns, or records with `inputs` and `images`; they are equal if
  their texts and images are. rng: a random.Random or a seed; Python's global
  generator is not used. The pool is read by index only, so it may be a large
  file. Raises UserError if fewer than k items differ from the query.
  """
  if isinstance(rng, int):  # Random treats a seed and its negative as the same
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
  """A Turn about a picture {0} and crops of it, {1}, {2} and so on.

  names: one for each crop, which a sentence says it shows; may be empty.
  Raises UserError for another number of names.
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
  """A Turn about the frames of one video, in the order of time."""
  frames = listed(frames)
  relation = ''
  if len(frames) > 1:
    last = len(frames) - 1
    relation = f'image {{0}} to image {{{last}}} are frames of one video.\n'
  return Turn(declarations(len(frames)) + relation + text, frames)


def declarations(count: int) -> str:
  """Text that declares a Turn's images: 'image {0} is {image}.\\n' for each."""
  return ''.join(f'image {{{i}}} is {{image}}.\n' for i in range(count))


def turn_from_example(example: Example) -> Turn:
  """Turns a finished prompt without demonstrations into a Turn.

  References to its images become slots, so that they can be renumbered. Raises
  UserError if two images have the same name.
  """
  text, answer = slotted(example.inputs, example.targets)
  return Turn(text, example.images, answer)


def _render(turn: Turn, first: int) -> str:
  text = turn.text
  if not _count_slots(text):
    text = declarations(len(turn.images)) + text
  return numbered(text, first)


def numbered(text: str, first: int) -> str:
  """Fills the slots of a turn whose first image has the number `first`."""
  parts, end, place = [], 0, first
  for match in _SLOT.finditer(text):
    parts.append(text[end : match.start()])
    end = match.end()
    if match[1]:
      parts.append(f'{{{match[1]}}}')
    elif match[2] == 'image':
      parts.append(f'{PROXIES[place]}{IMAGE}')
      place += 1
    else:
      parts.append(str(first + int(match[2])))
  return ''.join((*parts, text[end:]))


def _count_slots(text: str) -> int:
  return sum(match[2] == 'image' for match in _SLOT.finditer(text))


def listed(items: Any) -> tuple[Any, ...]:
  """A list as a tuple; a single thing becomes a tuple of one.

  A single thing is a text, bytes, a path, a mapping, an array [H, W] or
  [H, W, C], or anything that cannot be iterated, such as a PIL image or a Turn.
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

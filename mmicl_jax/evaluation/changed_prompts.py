"""Changed versions of a prompt: what would the answer be, had it not shown X?

Demonstrations are changed as Turns, and the prompt is assembled anew, so that
images have the right numbers. The scheme of declarations and names is changed
in the finished text.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mmicl_jax.context.text import (
  IMAGE,
  IMAGE_SPAN,
  MAX_IMAGES,
  divided,
  slotted,
  undeclared,
  without_images,
)
from mmicl_jax.context.turns import Example, Turn, assemble, numbered
from mmicl_jax.errors import UserError

UNCHANGED = 'unchanged'
# What is done to the prompt, in the order of tables.
KINDS = {
  'drop': 'one demonstration is left out',
  'swap_image': "one demonstration gets another record's images",
  'blank_image': "one demonstration's images are grey",
  'flip_label': "one demonstration gets another one's label",
  'random_word': "one demonstration's label is a random word",
  'drop_all': 'no demonstrations',
  'swap_all_images': "all demonstrations get other records' images",
  'blank_all_images': 'the images of all demonstrations are grey',
  'flip_all_labels': 'all demonstrations get another label',
  'permute': 'other orders of the demonstrations',
  'repeat': 'the demonstrations twice',
  'text_only': 'the demonstrations without images',
  'images_only': 'the demonstrations without text and labels',
  'no_declarations': "without 'image 0 is'",
  'no_proxies': 'without <image0>',
  'rename': 'all images get other numbers',
  'shuffle': "each image has another image's <image0>",
}

GREY = np.full((8, 8, 3), 128, np.uint8)
_NAME = re.compile(r'<image([0-9]+)>')


@dataclass(frozen=True)
class ChangedPrompt:
  """A prompt that was changed in one way.

  place: the changed demonstration, from 0, if it is one. candidates: answers to
  compare, the right one first; they mean the same in all versions of a prompt.
  """

  kind: str
  place: int | None
  example: Example
  candidates: tuple[str, ...]


@dataclass(frozen=True)
class Others:
  """What is taken from other prompts: their images, and words of their texts.

  images: of demonstrations. words: of all texts, each once. answers: those that
  prompts without demonstrations are compared with, with slots.
  """

  images: Sequence[Any]
  words: Sequence[str]
  answers: Sequence[str] = ()


class PromptChanger:
  """Makes the changed versions of one prompt.

  example: one that knows its turns. others: may hold what is the prompt's own;
  that is not used. seed: of what is drawn; the same one draws the same.
  """

  def __init__(self, example: Example, others: Others, seed: str = ''):
    *self._shots, self._query = example.turns
    self._example = example
    labels = [shot.answer for shot in self._shots]
    # A label may refer to images that the query does not have.
    self._answers = [
      answer
      for answer in dict.fromkeys(
        [self._query.answer, *(labels or others.answers)]
      )
      if _possible(self._query, answer)
    ]
    rng = random.Random(seed)
    own = set(map(_known, example.images))
    self._images = [x for x in others.images if _known(x) not in own]
    words = set(re.findall(r'\w+', example.inputs)) | set(labels)
    self._words = [word for word in others.words if word not in words]
    rng.shuffle(self._images)
    rng.shuffle(self._words)

  def make(self) -> list[ChangedPrompt]:
    """The unchanged prompt, then the others in the order of KINDS.

    A change that is not possible is left out: there are no other images or
    labels, or the prompt would have too many images.
    """
    made = [
      self._turns(UNCHANGED, None, self._shots),
      *self._single(),
      *self._together(),
      *self._written(),
    ]
    order = [UNCHANGED, *KINDS]
    found = [prompt for prompt in made if prompt is not None]
    return sorted(found, key=lambda prompt: order.index(prompt.kind))

  def _single(self) -> list[ChangedPrompt | None]:
    """One demonstration is changed."""
    made = []
    for j, shot in enumerate(self._shots):
      before, after = self._shots[:j], self._shots[j + 1 :]
      made.append(self._turns('drop', j, [*before, *after]))
      for kind, other in (
        ('swap_image', self._swapped(shot, self._before(j))),
        ('blank_image', _blank(shot)),
        ('flip_label', self._flipped(j)),
        ('random_word', self._random_word(j)),
      ):
        if other is not None:
          made.append(self._turns(kind, j, [*before, other, *after]))
    return made

  def _together(self) -> list[ChangedPrompt | None]:
    """All demonstrations are changed."""
    shots = self._shots
    if not shots:
      return []
    numbers = range(len(shots))
    made: list[ChangedPrompt | None] = [self._turns('drop_all', None, [])]
    for kind, others in (
      ('swap_all_images', [self._swapped(shots[j], self._before(j))
                           for j in numbers]),
      ('blank_all_images', [_blank(shot) for shot in shots]),
      ('flip_all_labels', [self._flipped(j) for j in numbers]),
    ):  # fmt: skip
      if any(others):
        pairs = zip(others, shots, strict=True)
        made.append(self._turns(kind, None, [new or old for new, old in pairs]))
    orders = [shots[::-1], [*shots[1:], *shots[:1]]]
    for k, order in enumerate(orders):
      if order != shots and order not in orders[:k]:
        made.append(self._turns('permute', None, order))
    made.append(self._turns('repeat', None, [*shots, *shots]))
    return made

  def _written(self) -> list[ChangedPrompt | None]:
    """The finished text is changed."""
    example = self._example
    inputs, count = example.inputs, len(example.images)
    *shown, query = divided(inputs, example.style)
    between = '\n' if example.style == 'chat' else '\n\n'
    own = len(self._query.images)

    def joined(parts: list[str]) -> str:
      return between.join([*filter(None, parts), query])

    made = []
    if count > own:
      texts = [without_images(part) for part in shown]
      last = example.images[count - own :]
      made.append(self._text('text_only', joined(texts), images=last))
      user = 'User: ' if example.style == 'chat' else ''
      pictures = [_only_images(part, user) for part in shown]
      made.append(self._text('images_only', joined(pictures)))
    made.append(self._text('no_declarations', undeclared(inputs)))
    bare = IMAGE_SPAN.sub(IMAGE, inputs)
    made.append(
      self._text(
        'no_proxies',
        _NAME.sub(r'image \1', bare),
        lambda answer: _NAME.sub(r'image \1', answer),
      )
    )
    first = MAX_IMAGES - count
    made.append(
      self._text(
        'rename',
        numbered(slotted(inputs)[0], first),
        lambda answer: numbered(slotted(inputs, answer)[1], first),
      )
    )
    turned = IMAGE_SPAN.sub(
      lambda m: f'<image{(int(m["name"]) + 1) % count}>{IMAGE}', inputs
    )
    made.append(self._text('shuffle', turned))
    return made

  def _turns(
    self, kind: str, place: int | None, shots: Sequence[Turn]
  ) -> ChangedPrompt | None:
    example = self._example
    try:
      changed = assemble(
        self._query, shots, style=example.style, name=example.name
      )
    except UserError:  # too many images
      return None
    first = sum(len(shot.images) for shot in shots)
    return ChangedPrompt(kind, place, changed, self._targets(first))

  def _targets(self, first: int) -> tuple[str, ...]:
    """The candidates if the query's first image has this number."""
    bot = 'Bot: ' if self._example.style == 'chat' else ''
    return tuple(f'{bot}{numbered(x, first)}' for x in self._answers)

  def _text(
    self,
    kind: str,
    inputs: str,
    change: Callable[[str], str] = lambda answer: answer,
    images: Sequence[Any] | None = None,
  ) -> ChangedPrompt | None:
    """The finished text as it is now; None if that is as it was."""
    example = self._example
    if inputs == example.inputs:
      return None
    unchanged = self._targets(len(example.images) - len(self._query.images))
    targets = tuple(map(change, unchanged))
    images = example.images if images is None else images
    try:
      changed = Example(inputs, targets[0], images, name=example.name)
    except UserError:  # two images without names would be one
      return None
    return ChangedPrompt(kind, None, changed, targets)

  def _before(self, j: int) -> int:
    return sum(len(shot.images) for shot in self._shots[:j])

  def _swapped(self, shot: Turn, first: int) -> Turn | None:
    """first: how many of the other images are meant for earlier turns."""
    if not shot.images or not self._images:
      return None
    numbers = range(first, first + len(shot.images))
    images = [self._images[n % len(self._images)] for n in numbers]
    return replace(shot, images=images)

  def _flipped(self, j: int) -> Turn | None:
    """With the next different label, of which the turn must have the images."""
    shots, own = self._shots, self._shots[j]
    for other in (*shots[j + 1 :], *shots[:j]):
      if other.answer != own.answer and _possible(own, other.answer):
        return replace(own, answer=other.answer)
    return None

  def _random_word(self, j: int) -> Turn | None:
    if not self._words:
      return None
    word = self._words[j % len(self._words)]
    return replace(self._shots[j], answer=word)


def _possible(turn: Turn, answer: str) -> bool:
  try:
    replace(turn, answer=answer)
  except UserError:
    return False
  return True


def _blank(shot: Turn) -> Turn | None:
  if not shot.images:
    return None
  return replace(shot, images=[GREY] * len(shot.images))


def _known(image: Any) -> Any:
  """What tells one image from another: a path, the text or bytes of a file."""
  return image if isinstance(image, (str, bytes)) else id(image)


def _only_images(part: str, user: str) -> str:
  names = [span['name'] for span in IMAGE_SPAN.finditer(part)]
  lines = [f'image {name} is <image{name}>{IMAGE}.' for name in names]
  return user + '\n'.join(lines) if lines else ''

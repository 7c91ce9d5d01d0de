"""Demonstrations of a question: drawn, the same for all, or retrieved.

Whichever way, none shows the question's own picture, none is the question
itself, and images are never more than a prompt can name: then there are fewer.
"""

import dataclasses
import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mmicl_jax.context.text import MAX_IMAGES
from mmicl_jax.context.turns import Turn
from mmicl_jax.data.build.items import Bad, Skip, SourceItem
from mmicl_jax.data.build.nearest import Nearest
from mmicl_jax.data.build.pictures import keep, sound
from mmicl_jax.data.image_files import read_image_file
from mmicl_jax.data.records import read_records, turn_from_record
from mmicl_jax.errors import UserError
from mmicl_jax.evaluation.items import ItemSource

RETRIEVED = ('image', 'question', 'both')
SOURCES = ('random', 'fixed:FILE', *(f'retrieved:{by}' for by in RETRIEVED))
AMONG = 100  # by both: the words decide among the nearest by image

# The features f32[N, E] of pictures by their paths.
Look = Callable[[Sequence[str]], Float[np.ndarray, 'N E']]


class Drawn:
  """In random order, by the seed and the item's official id."""

  def order(
    self, pool: ItemSource, item: SourceItem, seed: int
  ) -> Iterator[SourceItem | Skip]:
    entries = item.shots or pool.entries
    key = f'{seed}\n{pool.plan.dataset.name}\n{item.source}'.encode()
    rng = random.Random(hashlib.blake2b(key, digest_size=16).digest())
    tried: set[int] = set()
    while len(tried) < len(entries):
      i = rng.randrange(len(entries))
      if i not in tried:
        tried.add(i)
        yield entries[i]


class Retrieved:
  """The nearest items of the pool, equal ones by their order in it.

  by: 'question', the cosine of their words; 'image', that of their pictures'
  features, each item's mean; 'both', the words among the AMONG nearest by
  image. look: reads the features of pictures.
  """

  def __init__(self, by: str, look: Look):
    self._by, self._look = by, look
    self._words: dict[str, Nearest] = {}
    self._features: dict[str, tuple[list[SourceItem], np.ndarray]] = {}

  def order(
    self, pool: ItemSource, item: SourceItem, seed: int
  ) -> Iterator[SourceItem | Skip]:
    del seed
    if self._by == 'question':
      if item.shots:
        return Nearest(item.shots).order(item)
      if pool.split not in self._words:
        self._words[pool.split] = Nearest(pool.entries)
      return self._words[pool.split].order(item)
    near = self._by_image(pool, item)
    if self._by == 'both':
      near = list(Nearest(near[:AMONG]).order(item)) + near[AMONG:]
    return iter(near)

  def _by_image(self, pool: ItemSource, item: SourceItem) -> list[SourceItem]:
    if item.shots:
      items, features = self._read(pool, item.shots)
    else:
      if pool.split not in self._features:
        self._features[pool.split] = self._read(pool, pool.entries)
      items, features = self._features[pool.split]
    _, own = self._read(pool, [item])
    if not len(own) or not len(items):
      return items
    # Rounded, so that equal pictures are equal whatever was read beside them.
    likeness = np.round(features @ own[0], 5)
    return [items[i] for i in np.argsort(-likeness, kind='stable')]

  def _read(
    self, source: ItemSource, entries: Sequence[SourceItem | Skip]
  ) -> tuple[list[SourceItem], Float[np.ndarray, 'N E']]:
    """The items whose pictures are sound, and their features of length 1."""
    items, vectors = [], []
    for entry in entries:
      if isinstance(entry, Skip) or not entry.pictures:
        continue
      names = source.looks.names(entry)
      if not isinstance(names, str):
        mean = self._look([source.picture(name) for name in names]).mean(0)
        items.append(entry)
        vectors.append(mean / (np.linalg.norm(mean) or 1.0))
    return items, np.array(vectors)


ShotSource = Drawn | Retrieved


def shot_source(text: str, look: Look, folder: Path) -> ShotSource | list[Turn]:
  """What --shot_source means; turns are those of a file, in its order.

  folder: where the pictures of such turns are kept. Raises UserError for
  another word, and for a file that has no records.
  """
  name, _, rest = text.partition(':')
  if text == 'random':
    return Drawn()
  if name == 'retrieved' and (rest or 'both') in RETRIEVED:
    return Retrieved(rest or 'both', look)
  if name == 'fixed' and rest:
    turns = [
      _kept(turn_from_record(record), folder) for record in read_records(rest)
    ]
    if not turns:
      raise UserError(f'--shot_source {text}: no records in it')
    return turns
  raise UserError(f'--shot_source {text}: choose of {", ".join(SOURCES)}')


def _kept(turn: Turn, folder: Path) -> Turn:
  """The turn with its pictures in the folder, by their names there."""
  names = []
  for image in turn.images:
    data, name = read_image_file(image)
    try:
      sound(data)
    except Bad as error:
      raise UserError(
        f'--shot_source: {name} is no sound picture ({error.reason})'
      ) from error
    names.append(keep(data, folder))
  return dataclasses.replace(turn, images=tuple(names))


def choose(
  source: ShotSource, pool: ItemSource, item: SourceItem, count: int, seed: int
) -> list[SourceItem]:
  """Up to `count` demonstrations of an item; the nearest stands last."""
  assembly = pool.assembly('')
  room = MAX_IMAGES - len(item.pictures)
  seen = _identity(pool, item)
  found: list[SourceItem] = []
  for shot in source.order(pool, item, seed) if count else ():
    if not isinstance(shot, SourceItem) or shot.source == item.source:
      continue
    if shot.group is not None and shot.group == item.group:
      continue
    if any(picture.path in seen for picture in shot.pictures):
      continue
    if not assembly.answered(shot) or assembly.problem(shot):
      continue
    own = _identity(pool, shot)
    if own & seen:
      continue
    if sum(len(x.pictures) for x in (*found, shot)) > room:
      break
    seen |= own
    found.append(shot)
    if len(found) == count:
      break
  return found[::-1] if isinstance(source, Retrieved) else found


def _identity(source: ItemSource, item: SourceItem) -> set[str]:
  """What its pictures are known by: official places and contents."""
  return {*source.looks.names(item), *(p.path for p in item.pictures)}

"""Demonstrations of a question: drawn, the same for all, or retrieved.

Whichever way, none shows the question's own picture, none is the question
itself, and images are never more than a prompt can name: then there are fewer.
"""

import dataclasses
import functools
import hashlib
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mmicl_jax.context.text import MAX_IMAGES
from mmicl_jax.context.turns import Turn
from mmicl_jax.data.build.items import Bad, Skip, SourceItem
from mmicl_jax.data.build.nearest import (
  Nearest,
  NearestPictures,
  NearestWords,
)
from mmicl_jax.data.build.pictures import keep, sound
from mmicl_jax.data.image_files import read_image_file
from mmicl_jax.data.records import read_records, turn_from_record
from mmicl_jax.errors import UserError
from mmicl_jax.evaluation.items import ItemSource

RETRIEVED = ('image', 'question', 'both')
SOURCES = ('random', 'fixed:FILE', *(f'retrieved:{by}' for by in RETRIEVED))
AMONG = 100  # by both: the words decide among the nearest by image
_AT_ONCE = 64  # pictures whose features are read together

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
  """The nearest items of the pool, equal ones by their ids.

  by: 'question', the likeness of their words; 'image', that of their pictures'
  features; 'both', the words among the AMONG nearest by image. look: reads the
  features of pictures.
  """

  def __init__(self, by: str, look: Look):
    self._by, self._look = by, look
    self._known: dict[str, Nearest] = {}
    self._vectors: dict[str, np.ndarray] = {}

  def order(
    self, pool: ItemSource, item: SourceItem, seed: int
  ) -> Iterator[SourceItem | Skip]:
    del seed
    near = self._nearest(pool, item).order(item)
    if self._by != 'both':
      return near
    first = list(itertools.islice(near, AMONG))
    return itertools.chain(NearestWords(first).order(item), near)

  def _nearest(self, pool: ItemSource, item: SourceItem) -> Nearest:
    """An item's own demonstrations in order, or the whole pool."""
    if item.shots:
      return self._make(pool, item.shots)
    key = f'{pool.benchmark.name} {pool.split}'
    if key not in self._known:
      self._known[key] = self._make(pool, pool.entries)
    return self._known[key]

  def _make(
    self, pool: ItemSource, entries: Sequence[SourceItem | Skip]
  ) -> Nearest:
    if self._by == 'question':
      return NearestWords(entries)
    items = [entry for entry in entries if isinstance(entry, SourceItem)]
    self._read(pool, items)
    return NearestPictures(items, functools.partial(self._vector, pool))

  def _vector(
    self, pool: ItemSource, item: SourceItem
  ) -> Float[np.ndarray, 'E']:
    """Of length 1; zeros for an item that shows nothing sound."""
    self._read(pool, [item])
    names = pool.looks.names(item)
    if isinstance(names, str) or not names:
      return np.zeros_like(next(iter(self._vectors.values()), np.zeros(1)))
    mean = np.mean([self._vectors[name] for name in names], axis=0)
    return mean / (np.linalg.norm(mean) or 1.0)

  def _read(self, pool: ItemSource, items: Sequence[SourceItem]) -> None:
    """Remembers the vectors of all sound pictures of items."""
    new: dict[str, None] = {}
    for item in items:
      names = pool.looks.names(item)
      if not isinstance(names, str):
        new |= {name: None for name in names if name not in self._vectors}
    wanted = list(new)
    for i in range(0, len(wanted), _AT_ONCE):
      part = wanted[i : i + _AT_ONCE]
      rows = self._look([pool.picture(name) for name in part])
      norms = np.linalg.norm(rows, axis=1, keepdims=True)
      self._vectors |= zip(part, rows / norms, strict=True)


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
  source: ShotSource,
  pool: ItemSource,
  item: SourceItem,
  count: int,
  seed: int,
  own_split: bool,
) -> list[SourceItem]:
  """Up to `count` demonstrations of an item; the nearest stands last.

  own_split: the pool is the item's split; ids of another one may be the same.
  """
  assembly = pool.assembly('')
  room = MAX_IMAGES - len(item.pictures)
  seen = _identity(pool, item)
  found: list[SourceItem] = []
  for shot in source.order(pool, item, seed) if count else ():
    if not isinstance(shot, SourceItem):
      continue
    if own_split and shot.source == item.source:
      continue
    if own_split and shot.group is not None and shot.group == item.group:
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

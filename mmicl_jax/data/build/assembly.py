"""Items of a split to records: a form, an answer and demonstrations, by seed.

A record is a function of the split's items, of the seed and of its own id:
nothing else is drawn from, so it is the same in whatever order and by however
many processes records are made.
"""

import dataclasses
import functools
import hashlib
import random
import re
from collections.abc import Callable, Iterator, Sequence

from mmicl_jax.context.templates import Templates, fill, fill_slots
from mmicl_jax.context.text import MAX_IMAGES, escape
from mmicl_jax.context.turns import Turn, assemble, numbered, video
from mmicl_jax.data.build.items import Skip, SourceItem
from mmicl_jax.data.build.nearest import Nearest
from mmicl_jax.data.build.words import before_answer, respelled
from mmicl_jax.data.records import Record
from mmicl_jax.errors import UserError

Names = Callable[[SourceItem], tuple[str, ...] | str]


@dataclasses.dataclass(frozen=True)
class Assembly:
  """How the items of one split become records.

  entries: everything that the split has, in the official order, so that a bad
  item moves no other one's demonstrations. names: the files of an item's
  pictures, or the reason why one of them is not sound. templates: None where
  the items bring their whole texts. nearest: takes demonstrations
  by their likeness to the query; None draws them.
  """

  dataset: str
  split: str
  entries: Sequence[SourceItem | Skip]
  names: Names
  templates: Templates | None
  seed: int
  shots: int
  style: str = 'plain'
  nearest: Callable[[Sequence[SourceItem | Skip]], Nearest] | None = None

  def answered(self, item: SourceItem) -> bool:
    """Whether there is an answer that is not blank."""
    return bool(self._output(item))

  def problem(self, item: SourceItem) -> str:
    """The reason why an item gives no record, '' if it does.

    What is wrong with one part of an official item is wrong with all of them.
    """
    for part in self._parts.get(item.source, (item,)):
      if len(part.pictures) > MAX_IMAGES:
        return 'too_many_images'
      names = self.names(part)
      if isinstance(names, str):
        return names
    return ''

  @functools.cached_property
  def _parts(self) -> dict[str, list[SourceItem]]:
    """The items of each official item that gives several."""
    parts: dict[str, list[SourceItem]] = {}
    for entry in self.entries:
      if isinstance(entry, SourceItem):
        parts.setdefault(entry.source, []).append(entry)
    return {source: items for source, items in parts.items() if len(items) > 1}

  def record(self, item: SourceItem) -> Record:
    """The record of an item without a problem."""
    shots = self._shots(item)
    turns = [self.turn(shot) for shot in shots]
    query = self.turn(item)
    example = assemble(query, turns, style=self.style)
    _, form = self._form(item)
    first = len(example.images) - len(item.pictures)
    answers = item.answers
    if item.slots and not answers and item.outputs:
      answers = [numbered(output, first) for output in item.outputs]
    meta = {
      'answers': list(answers),
      'source_ids': [item.source],
      'template': form,
      'shots': [self.record_id(shot) for shot in shots],
      **{
        name: numbered(value, first) if item.slots else respelled(value)
        for name, value in item.fields.items()
      },
      **item.meta,
    }
    if item.score_id is not None:
      meta['score_id'] = str(item.score_id)  # scorers' ids are texts
    return Record(
      example.inputs,
      list(example.images),
      example.targets,
      id=self.record_id(item),
      dataset=self.dataset,
      meta=meta,
    )

  def record_id(self, item: SourceItem) -> str:
    return f'{self.dataset}/{self.split}/{item.id}'

  def turn(self, item: SourceItem) -> Turn:
    """An item's own turn: the same as a query and as a demonstration."""
    names = self.names(item)
    assert not isinstance(names, str), names
    images = tuple(f'images/{name}' for name in names)
    text, _ = self._form(item)
    if self.style == 'chat':
      text = text.removesuffix('\nBot:')  # of a dialog; assemble writes it
    if _is_video(item) and item.text is None:
      text = video(text, images).text
    answer = self._output(item)
    if not item.slots:
      answer = escape(respelled(answer))
      text = before_answer(text, answer)
    return Turn(text, images, answer)

  def _form(self, item: SourceItem) -> tuple[str, int | None]:
    """The text of an item's turn, and the number of its form."""
    if item.text is not None:
      return item.text, None
    assert self.templates is not None
    # A form may have a place for each picture, or none: then they are declared
    # in front.
    count = 0 if _is_video(item) else len(item.pictures)
    slots = [form.count('{image}') for form in self.templates.forms]
    fitting = [i for i, n in enumerate(slots) if n in (0, count)] or [
      # A cell of one's own table was empty: places are left over.
      i
      for i, n in enumerate(slots)
      if n > count
    ]
    if not fitting:
      raise UserError(
        f'the templates {self.templates.name} have no form for the {count} '
        f'pictures of {self.record_id(item)}: write one without {{image}}'
      )
    number = self._rng('form', item).choice(fitting)
    form = self.templates.forms[number]
    if slots[number] > count:
      *shown, rest = form.split('{image}', count)
      form = '{image}'.join([*shown, re.sub(' ?{image}', '', rest)]).lstrip()
    if item.slots:
      return fill_slots(form, **item.fields), number
    fields = {name: respelled(x) for name, x in item.fields.items()}
    return fill(form, **fields), number

  def _output(self, item: SourceItem) -> str:
    """One answer, drawn in proportion to its count; '' where there is none."""
    answers = item.answers if item.outputs is None else item.outputs
    answers = [answer for answer in answers if answer.strip()]
    return self._rng('answer', item).choice(answers) if answers else ''

  def _shots(self, item: SourceItem) -> list[SourceItem]:
    """Up to `shots` items of the split that show none of its pictures."""
    wanted = self._rng('count', item).randint(0, self.shots)
    candidates = self._candidates(item) if wanted else iter(())
    room = MAX_IMAGES - len(item.pictures)
    seen, found = self._identity(item), []
    while len(found) < wanted:
      shot = next(candidates, None)
      if shot is None:
        break
      if not isinstance(shot, SourceItem) or not self._fits(shot, item, seen):
        continue
      seen |= self._identity(shot)
      found.append(shot)
    while sum(len(shot.pictures) for shot in found) > room:
      found.pop()
    return found

  def _candidates(self, item: SourceItem) -> Iterator[SourceItem | Skip]:
    """Its own demonstrations, or the whole split: drawn, or nearest first."""
    if self.nearest:
      near = self.nearest(item.shots) if item.shots else self._nearest
      return near.order(item)
    pool = item.shots or self._pool
    order = _order(self._rng('shots', item), len(pool))
    return (pool[i] for i in order)

  @functools.cached_property
  def _pool(self) -> Sequence[SourceItem | Skip]:
    """The whole split, or nothing: a split without answers has none to show."""
    for entry in self.entries:
      if isinstance(entry, SourceItem) and self.answered(entry):
        return self.entries
    return ()

  @functools.cached_property
  def _nearest(self) -> Nearest:
    assert self.nearest is not None
    return self.nearest(self._pool)

  def _fits(
    self, shot: SourceItem, item: SourceItem, seen: frozenset[str]
  ) -> bool:
    if shot.source == item.source or not self._output(shot):
      return False
    if shot.group is not None and shot.group == item.group:
      return False
    if any(picture.path in seen for picture in shot.pictures):
      return False
    return not self.problem(shot) and not self._identity(shot) & seen

  def _identity(self, item: SourceItem) -> frozenset[str]:
    """What its pictures are known by: official places and contents."""
    names = self.names(item)
    return frozenset((*names, *(picture.path for picture in item.pictures)))

  def _rng(self, what: str, item: SourceItem) -> random.Random:
    key = f'{self.seed}\n{what}\n{self.record_id(item)}'.encode()
    digest = hashlib.blake2b(key, digest_size=16).digest()
    return random.Random(int.from_bytes(digest, 'big'))


def _order(rng: random.Random, count: int) -> Iterator[int]:
  """All numbers below count, shuffled as they are asked for."""
  moved: dict[int, int] = {}
  for i in range(count):
    j = rng.randrange(i, count)
    yield moved.get(j, j)
    moved[j] = moved.get(i, i)


def _is_video(item: SourceItem) -> bool:
  return bool(item.pictures) and item.pictures[0].frame is not None

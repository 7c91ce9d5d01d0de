"""Questions as they are asked: asked.jsonl, one for each id that is scored.

    {"id": "existence/0001.jpg/0", "split": "existence", "group": "0001.jpg",
     "asks": [{"shots": [], "query": {"text", "images", "answer"}}],
     "candidates": null, "targets": ["Yes"], "shots": []}

Winoground asks four times for one id. Images are names in .built/images. The
file is a function of the official files, the declaration and the seed.
"""

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmicl_jax.context.turns import Example, Turn, assemble, numbered
from mmicl_jax.data import jsonl
from mmicl_jax.data.build.items import Skip, SourceItem
from mmicl_jax.errors import UserError
from mmicl_jax.evaluation.declaration import Answering, Benchmark
from mmicl_jax.evaluation.demonstrations import ShotSource, choose
from mmicl_jax.evaluation.items import ItemSource, pool_of

ASKED = 'asked.jsonl'


@dataclasses.dataclass(frozen=True)
class Variant:
  """One way of asking: how many demonstrations, which form, which seed."""

  shots: int = 0
  prompt: int = 0
  seed: int = 0

  @property
  def label(self) -> str:
    return f'shots{self.shots}_prompt{self.prompt}_seed{self.seed}'


@dataclasses.dataclass(frozen=True)
class Ask:
  """A prompt: demonstrations and a query, whose images are names of files."""

  query: Turn
  shots: tuple[Turn, ...] = ()

  def example(self, folder: Path, style: str, name: str) -> Example:
    """What the model reads; folder: where the images are."""
    made = assemble(
      _placed(self.query, folder),
      [_placed(shot, folder) for shot in self.shots],
      style=style,
    )
    return dataclasses.replace(made, name=name)

  def text(self, style: str) -> str:
    """The whole prompt."""
    return assemble(self.query, self.shots, style=style).inputs

  @property
  def images(self) -> tuple[str, ...]:
    """The names of all images, in their order."""
    return tuple(x for turn in (*self.shots, self.query) for x in turn.images)


@dataclasses.dataclass(frozen=True)
class Question:
  """What is asked for one id; candidates are ranked, without them text is
  generated. targets: right answers, for people to read. group: the official
  item, whose questions are not independent of each other."""

  id: str
  split: str
  group: str
  asks: tuple[Ask, ...]
  candidates: tuple[str, ...] | None = None
  targets: tuple[str, ...] = ()
  shots: tuple[str, ...] = ()

  def to_json(self) -> str:
    return json.dumps(dataclasses.asdict(self), ensure_ascii=False)

  @classmethod
  def of(cls, value: Mapping[str, Any]) -> 'Question':
    """The question of a line's JSON value."""
    asks = tuple(
      Ask(Turn(**ask['query']), tuple(Turn(**shot) for shot in ask['shots']))
      for ask in value['asks']
    )
    own = value['candidates']
    texts = {k: tuple(value[k]) for k in ('targets', 'shots')}
    return cls(
      value['id'],
      value['split'],
      value['group'],
      asks,
      None if own is None else tuple(own),
      **texts,
    )


def read_questions(path: Path) -> Iterator[Question]:
  """Reads the questions of a file that this program wrote."""
  with jsonl.open_lines(path) as file:
    for _, _, line in jsonl.numbered_lines(file):
      yield Question.of(jsonl.parse_line(line))


@dataclasses.dataclass(frozen=True)
class AskedItem:
  """An official item, and how it is asked.

  items: several only where one id is asked several times. asks: one for each;
  their queries have the right answers. shots: the ids of the demonstrations.
  """

  source: ItemSource
  items: Sequence[SourceItem]
  asks: tuple[Ask, ...]
  shots: tuple[str, ...]


def asked_items(
  benchmark: Benchmark,
  sources: Sequence[ItemSource],
  form: str,
  variant: Variant,
  shots_from: ShotSource | list[Turn],
  limit: int | None = None,
  allow_partial: bool = False,
) -> Iterator[AskedItem]:
  """All items of the splits, in the official order; `limit` of each split.

  Raises UserError for an item that cannot be asked, since it would have to be
  scored; with allow_partial it is left out.
  """
  for source in sources:
    made = 0
    for items in _by_id(benchmark, source, allow_partial):
      if made == limit:
        break
      shots, names = _shots(items[0], source, form, variant, shots_from)
      made += 1
      yield AskedItem(
        source,
        items,
        tuple(Ask(_turn(source, item, form), shots) for item in items),
        names,
      )
    if not made:
      raise UserError(
        f'{benchmark.name}: {source.split} has no item that can be asked'
      )


def questions_of(
  benchmark: Benchmark,
  sources: Sequence[ItemSource],
  form: str,
  variant: Variant,
  shots_from: ShotSource | list[Turn],
  limit: int | None = None,
  allow_partial: bool = False,
) -> Iterator[Question]:
  """The questions of `asked_items`, without their answers."""
  for one in asked_items(
    benchmark, sources, form, variant, shots_from, limit, allow_partial
  ):
    answering = benchmark.answering_of(one.source.split)
    candidates = [
      _candidates(answering, item, len(ask.images) - len(ask.query.images))
      for item, ask in zip(one.items, one.asks, strict=True)
    ]
    yield Question(
      _score_id(one.items[0]),
      one.source.split,
      _group(one.items[0], benchmark.rotations),
      tuple(
        Ask(dataclasses.replace(ask.query, answer=''), ask.shots)
        for ask in one.asks
      ),
      candidates[0] if answering.ranks else None,
      _targets(one.items),
      one.shots,
    )


def _by_id(
  benchmark: Benchmark, source: ItemSource, allow_partial: bool
) -> Iterator[list[SourceItem]]:
  """Items of the same id together; of captions of one picture, the first."""
  groups: dict[str, list[SourceItem]] = {}
  faults: dict[str, str] = {}
  assembly = source.assembly('')
  for entry in source.entries:
    if isinstance(entry, Skip):
      # The second row of an id is no item of its own.
      if entry.reason != 'duplicate_id':
        faults.setdefault(entry.source, entry.reason)
    else:
      groups.setdefault(_score_id(entry), []).append(entry)
  if faults and not allow_partial:
    raise _fault(benchmark, source, *next(iter(faults.items())))
  for name, items in groups.items():
    items = items if benchmark.ask == 'pairs' else items[:1]
    if reason := assembly.problem(items[0]):
      if not allow_partial:
        raise _fault(benchmark, source, name, reason)
      continue
    yield items


def _fault(
  benchmark: Benchmark, source: ItemSource, name: str, reason: str
) -> UserError:
  return UserError(
    f'{benchmark.name}: {source.split}, item {name} cannot be asked '
    f'({reason}): mend the files in --raw, or leave such items out with '
    '--allow_partial'
  )


def _score_id(item: SourceItem) -> str:
  return str(item.id if item.score_id is None else item.score_id)


def _group(item: SourceItem, rotations: int) -> str:
  """The official item that a question is of."""
  return str(int(item.source) % rotations) if rotations else item.source


def _turn(source: ItemSource, item: SourceItem, form: str) -> Turn:
  """An item's turn; its images are names of kept files."""
  turn = source.assembly(form).turn(item)
  names = tuple(os.path.basename(str(image)) for image in turn.images)
  return dataclasses.replace(turn, images=names)


def _shots(
  item: SourceItem,
  source: ItemSource,
  form: str,
  variant: Variant,
  shots_from: ShotSource | list[Turn],
) -> tuple[tuple[Turn, ...], tuple[str, ...]]:
  """The demonstrations of an item, and their ids."""
  count = variant.shots
  if isinstance(shots_from, list):
    if len(shots_from) < count:
      raise UserError(
        f'{count} demonstrations asked for, but --shot_source has '
        f'{len(shots_from)} records'
      )
    turns = tuple(shots_from[:count])
    return turns, tuple(str(i) for i in range(count))
  pool = source if item.shots or not count else pool_of(source)
  own = pool.split == source.split
  found = choose(shots_from, pool, item, count, variant.seed, own)
  assembly = pool.assembly(form)
  return (
    tuple(_turn(pool, shot, form) for shot in found),
    tuple(assembly.record_id(shot) for shot in found),
  )


def _candidates(
  answering: Answering, item: SourceItem, first: int
) -> tuple[str, ...]:
  """The candidates of an item whose first image has the number `first`."""
  if isinstance(answering.candidates, tuple):
    return answering.candidates
  if answering.candidates == 'pictures':
    count = len(item.pictures)
    return tuple(numbered(f'image {{{i}}}', first) for i in range(1, count))
  own = item.meta.get(answering.candidates)
  if not own:
    raise UserError(
      f'item {item.id} has no "{answering.candidates}" to rank: answer its '
      'split by generation'
    )
  return tuple(own)


def _targets(items: Sequence[SourceItem]) -> tuple[str, ...]:
  """The official answers, each once, the commonest first."""
  answers = [
    answer
    for item in items
    for answer in (item.answers or item.outputs or ())
    if answer.strip()
  ]
  return tuple(sorted(dict.fromkeys(answers), key=lambda x: -answers.count(x)))


def _placed(turn: Turn, folder: Path) -> Turn:
  images = tuple(os.fspath(folder / name) for name in turn.images)
  return dataclasses.replace(turn, images=images)

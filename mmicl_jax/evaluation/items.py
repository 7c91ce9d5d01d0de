"""A benchmark's official items, as the dataset's builder reads them.

An ItemSource is one split: its items, where their pictures are kept, and the
turn of an item under one form of the question.
"""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmicl_jax.context.templates import Templates
from mmicl_jax.context.text import escape
from mmicl_jax.data.build.assembly import Assembly
from mmicl_jax.data.build.catalog import Dataset
from mmicl_jax.data.build.items import Skip, SourceItem
from mmicl_jax.data.build.looking import Looks, Processes
from mmicl_jax.data.build.plan import Plan
from mmicl_jax.data.build.table import DATASETS
from mmicl_jax.data.build.tree import Tree
from mmicl_jax.data.build.words import respelled
from mmicl_jax.errors import UserError
from mmicl_jax.evaluation import mic
from mmicl_jax.evaluation.declaration import Benchmark

BUILT = '.built'
IMAGES = 'images'


@dataclasses.dataclass(frozen=True)
class ItemSource:
  """One split of a benchmark's dataset.

  plan: what the builder would be asked for. out: the folder of the run, whose
  .built/images has the pictures.
  """

  benchmark: Benchmark
  plan: Plan
  split: str
  out: Path

  @functools.cached_property
  def paths(self) -> list[str | None]:
    """Where the annotation files are, in the tree."""
    return self.plan.annotations(self.split)

  @functools.cached_property
  def entries(self) -> list[SourceItem | Skip]:
    """All official items, in their order."""
    read = self.plan.dataset.items(
      self.plan.tree, self.split, self.plan.all_settings, self.paths
    )
    entries = list(read)
    if self.benchmark.ask == 'pairs':
      entries = list(_pairs(entries))
    return [_shown(entry, self.benchmark.shown) for entry in entries]

  @property
  def items(self) -> list[SourceItem]:
    """The items that can be read."""
    return [entry for entry in self.entries if isinstance(entry, SourceItem)]

  @functools.cached_property
  def looks(self) -> Looks:
    """Keeps the pictures that are sound."""
    _ = self.entries  # the annotation files are read, and summed up
    sums = repr(sorted(self.plan.tree.sums.items()))
    key = f'{self.benchmark.dataset} {self.split} {sums} {self.plan.settings}'
    digest = hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
    built = self.out / BUILT
    return Looks(
      self.plan.tree, built / IMAGES, built / 'looks' / digest, self.split
    )

  def picture(self, name: str) -> str:
    """Where a kept picture lies."""
    return os.fspath(self.out / BUILT / IMAGES / name)

  def look_at_all(self, workers: int) -> None:
    """Looks at all pictures at once, which is fastest, and remembers it."""
    self.looks.look_at_all(self.entries, Processes(workers))

  @functools.cached_property
  def _assemblies(self) -> dict[str, Assembly]:
    return {}

  def assembly(self, form: str) -> Assembly:
    """Makes turns with one form of the question."""
    if form not in self._assemblies:
      self._assemblies[form] = Assembly(
        self.plan.dataset.name,
        self.split,
        self.entries,
        self.looks.names,
        Templates(self.benchmark.name, (), (form,)),
        seed=0,
        shots=0,
        style=self.benchmark.style,
      )
    return self._assemblies[form]


def sources(
  benchmark: Benchmark,
  raw: Path,
  out: Path,
  splits: Sequence[str] = (),
) -> list[ItemSource]:
  """The splits that are asked of, in the declaration's order.

  raw: the official files, or a folder that has them in one of the benchmark's
  name. splits: others than those of the declaration. Raises UserError for
  files that are missing, naming the first.
  """
  places = [raw / name for name in (benchmark.name, benchmark.dataset)]
  places = [place for place in dict.fromkeys(places) if place.is_dir()]
  first: UserError | None = None
  for place in (*places, raw):
    try:
      return _sources_in(benchmark, place, out, splits)
    except UserError as error:
      # An official tree may have a folder of its own name: IconQA's has.
      first = first or error
  assert first is not None
  raise first


def _sources_in(
  benchmark: Benchmark, raw: Path, out: Path, splits: Sequence[str]
) -> list[ItemSource]:
  dataset, settings = _dataset(benchmark), dict(benchmark.settings)
  tree = Tree(raw, dataset.shape)
  found = dataset.found_in(tree, dataset.default_settings | settings)
  wanted = tuple(splits) or benchmark.splits or found.splits
  for split in wanted:
    if split in found.unlabelled:
      raise UserError(
        f'{benchmark.name}: {split} has no public answers, so it cannot be '
        f'scored: use {", ".join(found.splits)}'
      )
  plan = Plan(
    dataset,
    tree,
    out,
    wanted,
    shots=0,
    style=benchmark.style,
    settings=settings,
  )
  made = [ItemSource(benchmark, plan, split, out) for split in wanted]
  for source in made:
    _ = source.paths  # all files are asked for before anything is read
  return made


def pool_of(source: ItemSource) -> ItemSource:
  """The split that demonstrations of a split's items come from."""
  split = source.benchmark.shot_splits.get(source.split, source.split)
  if split == source.split:
    return source
  known = (*source.plan.dataset.splits, *source.plan.dataset.unlabelled)
  if split not in known:
    raise UserError(
      f'{source.benchmark.name}: "shot_splits" names {split}, which is none of '
      f'{", ".join(known)}'
    )
  pool = dataclasses.replace(source, split=split)
  _ = pool.paths
  return pool


def _dataset(benchmark: Benchmark) -> Dataset:
  if benchmark.dataset == mic.DATASET.name:
    return mic.DATASET
  if benchmark.dataset not in DATASETS:
    raise UserError(
      f'{benchmark.name}: "dataset" is {benchmark.dataset!r}, which '
      '`mmicl data build --list` does not have'
    )
  return DATASETS[benchmark.dataset]


def _shown(entry: SourceItem | Skip, shown: str) -> SourceItem | Skip:
  """The item with the answers that demonstrations are to show."""
  if not shown or isinstance(entry, Skip):
    return entry
  if shown == 'shortest':
    answers = [answer for answer in entry.answers if answer.strip()]
    outputs = (min(answers, key=len),) if answers else ()
  else:
    outputs = tuple(entry.meta.get(shown, ()))
  return dataclasses.replace(entry, outputs=outputs, answers=outputs)


def _pairs(entries: Sequence[SourceItem | Skip]):
  """Winoground's four questions, each with both pictures and both captions.

  As its author asks: pictures and captions are shuffled, by the item's id.
  """
  groups: dict[str, list[SourceItem]] = {}
  for entry in entries:
    if isinstance(entry, SourceItem):
      groups.setdefault(entry.source, []).append(entry)
    else:
      yield entry
  for source, items in groups.items():
    parts = {item.id.rpartition('/')[2]: item for item in items}
    digest = hashlib.blake2b(source.encode(), digest_size=1).digest()[0]
    swap_pictures, swap_captions = digest & 1, digest >> 1 & 1
    pictures = [parts[f'c0i{i}'].pictures[0] for i in (0, 1)]
    captions = [parts[f'c{c}i0'].fields['caption'] for c in (0, 1)]
    fields: dict[str, Any] = {
      ('first_caption', 'second_caption')[c ^ swap_captions]: escape(
        respelled(captions[c])
      )
      for c in (0, 1)
    }
    shown = tuple(pictures[i ^ swap_pictures] for i in (0, 1))
    for c in (0, 1):
      for i in (0, 1):
        item = parts[f'c{c}i{i}']
        asked = {
          'caption': str(c ^ swap_captions),
          'picture': f'{{{i ^ swap_pictures}}}',
        }
        answer = 'Yes' if c == i else 'No'
        yield dataclasses.replace(
          item,
          fields=fields | asked,
          pictures=shown,
          answers=(answer,),
          outputs=(answer,),
          slots=True,
        )

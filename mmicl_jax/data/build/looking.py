"""Which pictures of a split are sound, found out by many processes."""

import concurrent.futures
import dataclasses
import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from mmicl_jax.data.build.items import PictureRef, Skip, SourceItem
from mmicl_jax.data.build.pictures import look
from mmicl_jax.data.build.tree import Tree
from mmicl_jax.runtime import files
from mmicl_jax.runtime.parent import end_with_parent
from mmicl_jax.runtime.progress import ProgressBar

_PER_PART = 64  # files
_Part = list[list[PictureRef]]
# The tree, where pictures are kept, what is to be looked at, where to write
# what was found: of each picture its key, its name or '', and the reason or ''.
Job = tuple[Tree, Path, _Part, Path]
Findings = list[tuple[str, str, str]]
Engine = Callable[[Sequence[Job]], Iterable[Findings]]


class Looks:
  """What became of the pictures that were looked at.

  folder: where sound pictures are kept. parts: where results are, so that a
  build that goes on does not look again.
  """

  def __init__(self, tree: Tree, folder: Path, parts: Path, title: str):
    self._tree, self._folder, self._parts = tree, folder, parts
    self._title = title
    self._found: dict[str, tuple[str, str]] = {}

  def names(self, item: SourceItem) -> tuple[str, ...] | str:
    """The files of an item's pictures, or the reason why one is not sound."""
    if any(picture.key not in self._found for picture in item.pictures):
      for group in _by_file([dataclasses.replace(item, shots=())]):
        self._take(look(self._tree, group, self._folder))
    names = []
    for picture in item.pictures:
      name, reason = self._found[picture.key]
      if reason:
        return reason
      names.append(name)
    return tuple(names)

  @property
  def sound(self) -> list[str]:
    """The files of all sound pictures that were looked at."""
    return sorted({name for name, _ in self._found.values() if name})

  def look_at_all(
    self, entries: Sequence[SourceItem | Skip], engine: Engine
  ) -> None:
    """Looks at the pictures of all items, by processes or by Beam."""
    parts = list(_parts(_by_file(entries)))
    todo = []
    for number, part in enumerate(parts):
      place = self._parts / f'{number:06d}.json'
      found = json.loads(place.read_text('utf-8')) if place.exists() else None
      if found is not None and self._kept(found):
        self._take(found)
      else:
        todo.append((part, place))
    total = sum(map(len, parts))
    left = sum(len(part) for part, _ in todo)
    jobs = [(self._tree, self._folder, part, place) for part, place in todo]
    with ProgressBar(self._title, total, total - left, short=False) as bar:
      for (part, _), found in zip(todo, engine(jobs), strict=True):
        self._take(found)
        bar.advance(len(part))

  def _kept(self, found: Iterable[Sequence[str]]) -> bool:
    """Whether all pictures that were found sound are still there."""
    return all((self._folder / name).exists() for _, name, _ in found if name)

  def _take(self, found: Iterable[Sequence[str]]) -> None:
    for key, name, reason in found:
      self._found[key] = name, reason


@dataclasses.dataclass(frozen=True)
class Processes:
  """Does jobs on this machine, `workers` at a time."""

  workers: int

  def __call__(self, jobs: Sequence[Job]) -> Iterator[Findings]:
    """What is found by each job, in order."""
    if self.workers == 1 or len(jobs) < 2:
      yield from map(look_at_part, jobs)
      return
    context = multiprocessing.get_context('forkserver')
    # A worker that outlived a kill would go on to write beside the next run.
    with concurrent.futures.ProcessPoolExecutor(
      self.workers, context, initializer=end_with_parent
    ) as pool:
      yield from pool.map(look_at_part, jobs)


def look_at_part(job: Job) -> Findings:
  """Looks at some files, and writes down what was found."""
  tree, folder, part, place = job
  found = [result for group in part for result in look(tree, group, folder)]
  files.write_text(place, json.dumps(found))
  return found


def _by_file(entries: Iterable[SourceItem | Skip]) -> list[list[PictureRef]]:
  """Each different picture once, those of one file together, in order."""
  groups: dict[str, dict[str, PictureRef]] = {}
  for item in entries:
    if isinstance(item, SourceItem):
      for each in (item, *item.shots):
        for picture in each.pictures:
          groups.setdefault(picture.path, {}).setdefault(picture.key, picture)
  return [list(group.values()) for group in groups.values()]


def _parts(groups: list[list[PictureRef]]) -> Iterator[_Part]:
  for i in range(0, len(groups), _PER_PART):
    yield groups[i : i + _PER_PART]

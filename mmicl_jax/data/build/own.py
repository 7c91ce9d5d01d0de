"""One's own table, CSV or JSON Lines, with a row for each question."""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mmicl_jax.data.build.catalog import Dataset, Settings, Wanted, annotation
from mmicl_jax.data.build.items import Bad, PictureRef, Skip, SourceItem
from mmicl_jax.data.build.rows import each, field, ident, words
from mmicl_jax.data.build.sets.videos import FRAMES, frame_refs
from mmicl_jax.data.build.tree import Tree
from mmicl_jax.data.build.words import lettered
from mmicl_jax.errors import UserError

_SHOWN = 20  # columns that an error names

# Its row in the list of datasets.
LISTED = {
  'dataset': 'csv',
  'category': 'your own',
  'role': 'train',
  'template': 'vqa',
  'splits': '--split',
  'tree': 'a CSV or JSON Lines file with a row for each question',
  'licence': 'yours',
  'source': 'yours',
}


@dataclasses.dataclass(frozen=True)
class OwnTable:
  """Which columns of a file hold what; see `mmicl data build --help`."""

  path: Path
  question: str | None
  answer: str | None
  images: tuple[str, ...] = ()
  video: str | None = None
  options: str | None = None
  id: str | None = None
  group: str | None = None
  split: str = 'train'

  def __post_init__(self):
    for name, value in (('question', self.question), ('answer', self.answer)):
      if value is None:
        raise UserError(f'--dataset csv needs --{name}_column NAME')
    if not self.path.is_file():
      raise UserError(f'--raw {self.path} is no file: name a CSV or JSONL file')
    if self.images and self.video:
      raise UserError('give --image_columns or --video_column, not both')

  def tree(self, image_dir: str | None) -> Tree:
    """Pictures lie in `image_dir`, by default beside the file."""
    folder = self.path.parent
    if image_dir is not None and not Path(image_dir).is_dir():
      raise UserError(f'--image_dir {image_dir} is no folder: name one')
    shape = 'a CSV or JSON Lines file with a row for each question'
    return Tree(image_dir or folder, shape, annotations=folder)

  def dataset(self) -> Dataset:
    """The dataset that the table is."""
    return Dataset(
      'csv',
      'your own',
      'train',
      'a CSV or JSON Lines file',
      'yours',
      'yours',
      (self.split,),
      'multiple_choice'
      if self.options
      else 'video_qa'
      if self.video
      else 'vqa',
      self._files,
      self._items,
      shots=5,
      settings=FRAMES if self.video else {},
    )

  def _files(self, split: str, settings: Settings) -> Sequence[Wanted]:
    del split, settings
    return [annotation(self.path.name)]

  def _items(
    self, tree: Tree, split: str, settings: Settings, paths: Any
  ) -> Iterator[SourceItem | Skip]:
    del split, paths
    assert self.question is not None and self.answer is not None
    name = self.path.name
    if self.path.suffix.lower() in ('.jsonl', '.json'):
      read: Iterator[tuple[str, Any]] = tree.lines(name)
    else:
      delimiter = '\t' if self.path.suffix.lower() == '.tsv' else ','
      read = tree.table(name, delimiter=delimiter)
    rows = [
      (where, row if isinstance(row, Bad) else (number, row))
      for number, (where, row) in enumerate(read)
    ]
    self._check_columns(row for _, row in rows)

    def make(entry: Any) -> SourceItem:
      number, row = entry
      source = self._id(entry)
      fields = {'question': words(row, self.question or '')}
      answer = row.get(self.answer)
      if isinstance(answer, (int, float)) and not isinstance(answer, bool):
        answer = str(answer)
      if answer is None:
        raise Bad('no_answer')
      text: str = field({'answer': answer}, 'answer')
      if not text.strip():
        raise Bad('no_answer')
      meta: dict[str, Any] = {'row': number}
      if self.options is not None:
        choices = _choices(row.get(self.options))
        fields['options'] = lettered(choices)
        meta['choices'] = choices
      if self.video is not None:
        path = words(row, self.video)
        pictures = frame_refs(tree.picture([''], path), settings)
        meta['video'] = path
      else:
        pictures = tuple(
          PictureRef(tree.picture([''], row[column]))
          for column in self.images
          if row.get(column) is not None and field(row, column).strip()
        )
      group = None
      if self.group is not None and row.get(self.group) not in (None, ''):
        group = str(row[self.group])
      return SourceItem(
        source, source, fields, pictures, (text,), meta=meta, group=group
      )

    return each(rows, make, self._id)

  def _check_columns(self, rows: Iterable[Any]) -> None:
    """Raises UserError for a column that no row has; some may lack it."""
    there: dict[str, None] = {}
    for row in rows:
      if isinstance(row, tuple) and isinstance(row[1], dict):
        there.update(dict.fromkeys(row[1]))
    if not there:
      return  # what is wrong with such a file is said elsewhere
    asked = [
      ('question_column', self.question),
      ('answer_column', self.answer),
      *(('image_columns', name) for name in self.images),
      ('video_column', self.video),
      ('options_column', self.options),
      ('id_column', self.id),
      ('group_column', self.group),
    ]
    for flag, name in asked:
      if name is not None and name not in there:
        shown = ', '.join(list(there)[:_SHOWN])
        more = len(there) - _SHOWN
        raise UserError(
          f'{self.path} has no column {name!r}; it has {shown}'
          + f' and {more} more' * (more > 0)
          + f': name one of them by --{flag}'
        )

  def _id(self, entry: Any) -> str:
    number, row = entry
    if self.id is None:
      return str(number)
    return ident(field(row, self.id, (int, str)))


def _choices(value: Any) -> list[str]:
  """A list, a JSON list, or a|b|c."""
  if isinstance(value, str):
    if value.lstrip().startswith('['):
      try:
        value = json.loads(value)
      except ValueError as error:
        raise Bad('missing_field') from error
    else:
      value = [part.strip() for part in value.split('|')]
  if not isinstance(value, list) or not value:
    raise Bad('missing_field')
  value = [str(x) if type(x) in (int, float) else x for x in value]
  if not all(isinstance(x, str) and x.strip() for x in value):
    raise Bad('missing_field')
  return value

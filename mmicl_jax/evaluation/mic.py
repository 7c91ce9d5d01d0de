"""MIC records as a benchmark: a folder that was built, or one's own JSONL.

A record's prompt is asked as it is, demonstrations included.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from mmicl_jax.context.text import slotted
from mmicl_jax.data.build.catalog import Dataset, Settings, Wanted, annotation
from mmicl_jax.data.build.items import Bad, PictureRef, Skip, SourceItem
from mmicl_jax.data.build.rows import each
from mmicl_jax.data.build.tree import Tree
from mmicl_jax.data.image_files import holds_bytes, read_image_file
from mmicl_jax.data.records import parse_record
from mmicl_jax.errors import UserError


def _files(split: str, settings: Settings) -> Sequence[Wanted]:
  del settings
  return [annotation(f'{split}.jsonl')]


def _discover(tree: Tree, settings: Settings) -> tuple[str, ...]:
  del settings
  return tuple(sorted(path.stem for path in tree.root.glob('*.jsonl')))


def _items(
  tree: Tree, split: str, settings: Settings, paths: Sequence[str | None]
) -> Iterator[SourceItem | Skip]:
  """Scorers know a record by its row, from 0."""
  del split, settings
  [path] = paths
  assert path is not None
  rows = [
    (where, row if isinstance(row, Bad) else (number, where, row))
    for number, (where, row) in enumerate(tree.lines(path))
  ]

  def make(entry: Any) -> SourceItem:
    number, where, row = entry
    try:
      record = parse_record(json.dumps(row).encode(), where)
      text, answer = slotted(record.example.inputs, record.output_text)
    except UserError as error:
      raise Bad('missing_field') from error
    pictures = tuple(
      _picture(tree, image, f'{where}#{i}')
      for i, image in enumerate(record.example.images)
    )
    meta = {'id': record.id, 'dataset': record.dataset}
    return SourceItem(
      str(number), str(number), {}, pictures, (), (answer,), text, True, meta
    )

  return each(rows, make, lambda entry: entry[0])


def _picture(tree: Tree, image: Any, name: str) -> PictureRef:
  if isinstance(image, str) and not holds_bytes(image):
    return PictureRef(tree.picture([''], image))
  return PictureRef(name, data=read_image_file(image)[0])


DATASET = Dataset(
  'mic',
  'your own',
  'benchmark',
  'a file *.jsonl of MIC records, as `mmicl data build` writes it',
  'yours',
  'yours',
  (),
  None,
  _files,
  _items,
  discover=_discover,
)

"""WebSRC: questions about pictures of web pages."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmicl_jax.data.build.catalog import (
  Dataset,
  Settings,
  Wanted,
  annotation,
  the_file,
)
from mmicl_jax.data.build.items import Bad, PictureRef, Skip, SourceItem
from mmicl_jax.data.build.rows import each, words
from mmicl_jax.data.build.tree import Tree

_SPLITS = ('dataset_split_release.json', 'dataset_split.json')


def _files(split: str, settings: Settings) -> Sequence[Wanted]:
  del split, settings
  return [annotation(*_SPLITS)]


def _items(
  tree: Tree, split: str, settings: Settings, paths: Sequence[str | None]
) -> Iterator[SourceItem | Skip]:
  """Rows of all tables {domain}/{website}/dataset.csv, in the order of names.

  A website belongs to a split by the first two letters of its domain and its
  number. The released file names those of train and dev, a former one those of
  dev and test; the others are what is left.
  """
  del settings
  path = the_file(paths)
  named = tree.mapped(path)
  lists = {
    name: frozenset(map(str, value))
    for name, value in named.items()
    if isinstance(value, list)
  }
  if 'dev' not in lists:
    raise tree.layout(path, 'it has no list "dev"')
  top = os.path.dirname(path)
  tables = sorted(
    table.relative_to(tree.root / top).as_posix()
    for table in Path(tree.root / top).glob('*/*/dataset.csv')
  )
  if not tables:
    raise tree.layout(path, 'no {domain}/{website}/dataset.csv beside it')
  rows = [
    (where, (folder, row))
    for folder in map(os.path.dirname, tables)
    if _split_of(folder, lists) == split
    for where, row in tree.table(
      os.path.join(top, folder, 'dataset.csv'), 'question', 'id'
    )
  ]

  def make(entry: Any) -> SourceItem:
    folder, row = entry
    name, answer = row['id'], row.get('answer') or ''
    if len(name) < 9:
      raise Bad('bad_reference')
    if split != 'test' and not answer.strip():
      raise Bad('no_answer')
    page = tree.picture(
      [os.path.join(top, folder, 'processed_data')], f'{name[2:9]}.png'
    )
    meta = {'domain': folder.split('/')[0]}
    if row.get('element_id'):
      meta['element_id'] = row['element_id']
    return SourceItem(
      name,
      name,
      {'question': words(row, 'question')},
      (PictureRef(page),),
      (answer,) if answer.strip() else (),
      meta=meta,
    )

  return each(rows, make, lambda entry: words(entry[1], 'id'))


def _split_of(folder: str, lists: dict[str, frozenset[str]]) -> str:
  """'auto/03' -> the split that names 'au03'."""
  domain, website = folder.split('/')
  name = f'{domain[:2]}{website}'
  for split in ('dev', 'test', 'train'):
    if name in lists.get(split, ()):
      return split
  return 'test' if 'train' in lists else 'train'


DATASETS = (
  Dataset(
    'websrc',
    'web page QA',
    'held-out',
    'dataset_split_release.json, {domain}/{website}/{dataset.csv,'
    'processed_data/*.png}',
    'https://x-lance.github.io/WebSRC/',
    'pages: research only',
    ('train', 'dev'),
    'vqa',
    _files,
    _items,
    unlabelled=('test',),
  ),
)

"""WikiArt: paintings, with genre, artist and style as far as they are known.

Three lists with other members in another order: they are joined by path, where
MIC reads them by row number.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from mmicl_jax.data.build.catalog import (
  Dataset,
  Settings,
  Wanted,
  optional,
)
from mmicl_jax.data.build.items import Bad, PictureRef, Skip, SourceItem, each
from mmicl_jax.data.build.tree import Tree
from mmicl_jax.errors import UserError

_KINDS = ('artist', 'genre', 'style')


def _files(split: str, settings: Settings) -> Sequence[Wanted]:
  del settings
  found = []
  for kind in _KINDS:
    top = kind.capitalize()
    names = [f'{kind}_{split}.csv', f'{kind}_{split}']
    found.append(optional(*(f'{top}/{n}' for n in names), *names))
    names = [f'{kind}_class.txt', f'{kind}_class']
    found.append(optional(*(f'{top}/{n}' for n in names), *names))
  return found


def _items(
  tree: Tree, split: str, settings: Settings, paths: Sequence[str | None]
) -> Iterator[SourceItem | Skip]:
  del settings
  known: dict[str, dict[str, str | Bad]] = {}
  for kind, rows, classes in zip(_KINDS, paths[::2], paths[1::2], strict=True):
    if rows is None:
      continue
    if classes is None:
      raise UserError(
        f'{tree.root}: {kind}_class.txt is not there, which names the classes '
        f'of {rows}; the tree should be: {tree.shape}'
      )
    names = _classes(tree, classes)
    for path, number in _rows(tree, rows):
      known.setdefault(path, {})[kind] = names.get(number, Bad('bad_reference'))
  if not known:
    raise tree.layout(f'Style/style_{split}.csv', 'no list of the split')
  folders = tree.folders('wikiart', 'WikiArt', '')
  rows_of = [(path, (path, labels)) for path, labels in known.items()]

  def make(row: Any) -> SourceItem:
    path, labels = row
    for label in labels.values():
      if isinstance(label, Bad):
        raise label
    output = _sentence(labels)
    return SourceItem(
      path,
      path,
      {},
      (PictureRef(_place(tree, folders, path)),),
      (output,),
      meta={kind: labels[kind] for kind in _KINDS if kind in labels},
    )

  return each(rows_of, make, lambda row: row[0])


def _rows(tree: Tree, path: str) -> Iterator[tuple[str, str]]:
  """Path and class of each line, whichever of the three forms it has."""
  for line in tree.text(path).splitlines():
    cells = [cell.strip() for cell in line.rsplit(',', 1)]
    if len(cells) == 2 and cells[1].isdigit():
      yield cells[0].rstrip(',').strip(), cells[1]
    elif line.strip() and 'class' not in line and 'Label' not in line:
      raise tree.layout(path, f'the line {line[:60]!r} is not "path,class"')


def _classes(tree: Tree, path: str) -> dict[str, str]:
  found = {}
  for line in tree.text(path).splitlines():
    number, _, name = line.strip().partition(' ')
    if number:
      found[number] = name.strip().replace('_', ' ')
  return found


def _sentence(labels: dict[str, Any]) -> str:
  """'This artwork is in the genre of X, was created by Y, and is in the style
  of Z.', with what is known."""
  parts = []
  if 'genre' in labels:
    parts.append(f'is in the genre of {labels["genre"]}')
  if 'artist' in labels:
    parts.append(f'was created by {labels["artist"]}')
  if 'style' in labels:
    parts.append(f'exemplifies the style of {labels["style"]}')
  if len(parts) < 3:
    return f'This artwork {" and ".join(parts)}.'
  return f'This artwork {parts[0]}, {parts[1]}, and {parts[2]}.'


def _place(tree: Tree, folders: Sequence[str], path: str) -> str:
  """Names are UTF-8 in either of its normal forms, depending on the disk."""
  place = tree.picture(folders, path)
  for form in ('NFC', 'NFD'):
    other = tree.picture(folders, unicodedata.normalize(form, path))
    if not (tree.root / place).exists() and (tree.root / other).exists():
      place = other
  return place


DATASETS = (
  Dataset(
    'wikiart',
    'image QA',
    'train',
    '{Artist,Genre,Style}/*_{train,val}.csv with *_class.txt, '
    'wikiart/<Style>/*.jpg',
    'https://github.com/cs-chan/ArtGAN/tree/master/WikiArt%20Dataset',
    'non-commercial',
    ('train', 'val'),
    'wikiart',
    _files,
    _items,
    shots=5,
  ),
)

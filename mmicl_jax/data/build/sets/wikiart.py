"""WikiArt: paintings, with genre, artist and style as far as they are known.

Three lists with other members in another order: they are joined by path, where
MIC reads them by row number.
"""

import io
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from mmicl_jax.data.build.catalog import (
  Dataset,
  Settings,
  Wanted,
  annotation,
  optional,
)
from mmicl_jax.data.build.items import Bad, PictureRef, Skip, SourceItem
from mmicl_jax.data.build.rows import each
from mmicl_jax.data.build.tree import Tree
from mmicl_jax.errors import UserError

_KINDS = ('artist', 'genre', 'style')
_HEADS = ('class', 'label')  # of the column of numbers


def _files(split: str, settings: Settings) -> Sequence[Wanted]:
  """Any list of the split, and then each list and the names of its classes."""
  del settings
  lists = [_names(kind, f'{kind}_{split}', '.csv') for kind in _KINDS]
  found = [annotation(*(name for names in lists[::-1] for name in names))]
  for kind, names in zip(_KINDS, lists, strict=True):
    found.append(optional(*names))
    found.append(optional(*_names(kind, f'{kind}_class', '.txt')))
  return found


def _names(kind: str, stem: str, suffix: str) -> list[str]:
  names = [f'{stem}{suffix}', stem]
  return [f'{kind.capitalize()}/{name}' for name in names] + names


def _items(
  tree: Tree, split: str, settings: Settings, paths: Sequence[str | None]
) -> Iterator[SourceItem | Skip]:
  del split, settings
  known: dict[str, dict[str, str | Bad]] = {}
  # Of each picture its path as the first list spells it; others may spell it in
  # another normal form.
  spelled: dict[str, str] = {}
  unread: list[tuple[str, Bad]] = []
  lists = zip(_KINDS, paths[1::2], paths[2::2], strict=True)
  for kind, rows, classes in lists:
    if rows is None:
      continue
    if classes is None:
      raise UserError(
        f'{tree.root}: {kind}_class.txt is not there, which names the classes '
        f'of {rows}; the tree should be: {tree.shape}'
      )
    names = _classes(tree, classes)
    for where, row in _rows(tree, rows):
      if isinstance(row, Bad):
        unread.append((where, row))
        continue
      path, number = row
      path = spelled.setdefault(unicodedata.normalize('NFC', path), path)
      known.setdefault(path, {})[kind] = names.get(number, Bad('bad_reference'))
  folders = tree.folders('wikiart', 'WikiArt', '')

  def make(row: Any) -> SourceItem:
    path, labels = row
    for label in labels.values():
      if isinstance(label, Bad):
        raise label
    return SourceItem(
      path,
      path,
      {},
      (PictureRef(_place(tree, folders, path)),),
      (_sentence(labels),),
      meta={kind: labels[kind] for kind in _KINDS if kind in labels},
    )

  rows_of = [(path, (path, labels)) for path, labels in known.items()]
  return each([*rows_of, *unread], make, lambda row: row[0])


def _rows(tree: Tree, path: str) -> Iterator[tuple[str, tuple[str, str] | Bad]]:
  """Where each line is, and its path and class, in any of the three forms.

  Raises UserError if the first line is neither such a pair nor a header.
  """
  first = True
  for where, line in _lines(tree, path):
    picture, comma, number = line.rpartition(',')
    picture, number = picture.rstrip(', '), number.strip()
    if picture and number.isdecimal():
      yield where, (picture, number)
    elif not first:
      yield where, Bad('missing_field')
    elif not comma or not any(word in number.lower() for word in _HEADS):
      raise tree.layout(path, f'its first line {line[:60]!r} is no "path,7"')
    first = False


def _lines(tree: Tree, path: str) -> Iterator[tuple[str, str]]:
  """Lines that are not blank. Mojibake holds characters that other programs
  take for ends of lines, so only LF, CRLF and CR are."""
  for number, line in enumerate(io.StringIO(tree.text(path), newline=None), 1):
    if line.strip():
      yield f'{path}:{number}', line.strip(' \t\n')


def _classes(tree: Tree, path: str) -> dict[str, str]:
  found = {}
  for _, line in _lines(tree, path):
    number, _, name = line.partition(' ')
    if not number.isdecimal() or not name.strip():
      raise tree.layout(path, f'the line {line[:60]!r} is no "7 Name"')
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
    if not tree.has(place) and tree.has(other):
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

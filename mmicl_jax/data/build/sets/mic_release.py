"""The published MIC records, as people have them: mended where that is clear.

Their paths do not lead to their pictures, images stand in the text 32 times,
and prompts with one demonstration call two pictures image 0.
"""

import base64
import binascii
import os
import re
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

from mmicl_jax.context.text import (
  IMAGE,
  IMAGE_SPAN,
  MENTION,
  collapse,
  escape,
  slotted,
)
from mmicl_jax.context.turns import Turn
from mmicl_jax.data.build.catalog import (
  Dataset,
  Settings,
  Wanted,
  annotation,
  the_file,
)
from mmicl_jax.data.build.items import Bad, PictureRef, Skip, SourceItem
from mmicl_jax.data.build.parquet import parquet_rows
from mmicl_jax.data.build.rows import each, field, words
from mmicl_jax.data.build.tree import Tree
from mmicl_jax.data.image_files import holds_bytes
from mmicl_jax.errors import UserError

_LINES, _SAMPLED = 'data_jsonl', 'sampled'
_VIDEO = ('.mp4', '.avi', '.webm', '.mkv')
_DECLARES = re.compile(r'([Ii]mage )[0-9]+((?: is|:)? ?)$')


def _splits(tree: Tree, settings: Settings) -> tuple[str, ...]:
  """'vqa/okvqa/train' of data_jsonl/vqa/okvqa/train.jsonl; then 'sampled'."""
  del settings
  found = []
  top = tree.find(_LINES)
  if top is not None:
    found = [
      os.path.relpath(path, top).removesuffix('.jsonl')
      for path in tree.below(top, '*.jsonl')
    ]
  return (*found, *([_SAMPLED] if tree.find(_SAMPLED) else ()))


def _files(split: str, settings: Settings) -> Sequence[Wanted]:
  del settings
  return [
    annotation(_SAMPLED if split == _SAMPLED else f'{_LINES}/{split}.jsonl')
  ]


def _items(
  tree: Tree, split: str, settings: Settings, paths: Sequence[str | None]
) -> Iterator[SourceItem | Skip]:
  """The lines in their order; an id is the index of a line."""
  path = the_file(paths)
  old, _, new = settings['path_map'].partition('=')
  places = _Places(tree, old, new)
  if split != _SAMPLED:
    rows = _numbered(tree, path, '')
  else:
    names = sorted(
      found.name
      for found in (tree.root / path).iterdir()
      if found.suffix in ('.jsonl', '.parquet')
    )
    if not names:
      raise tree.layout(path, 'no *.jsonl and no *.parquet in it')
    rows = (
      row
      for name in names
      for row in _numbered(
        tree, f'{path}/{name}', f'{name}/' if len(names) > 1 else ''
      )
    )

  def make(entry: Any) -> SourceItem:
    name, row = entry
    return _item(name, row, places, f'{split}/{name}', split)

  return each(rows, make, lambda entry: entry[0])


def _numbered(
  tree: Tree, path: str, before: str
) -> Iterator[tuple[str, tuple[str, Any] | Bad]]:
  parquet = path.endswith('.parquet')
  rows = parquet_rows(tree, path) if parquet else tree.lines(path)
  for i, (where, row) in enumerate(rows):
    yield where, row if isinstance(row, Bad) else (f'{before}{i}', row)


def _item(
  name: str, row: Any, places: '_Places', where: str, split: str
) -> SourceItem:
  inputs, answer = words(row, 'input_text'), field(row, 'output_text')
  if not answer.strip():
    raise Bad('no_answer')
  named = field(row, 'input_image', (str, list))
  named = ([named] if named else []) if isinstance(named, str) else named
  if not all(isinstance(image, str) and image for image in named):
    raise Bad('missing_field')
  repaired = []
  whole, inputs = inputs, collapse(inputs)
  if whole != inputs:
    repaired.append('collapsed')
  spans = list(IMAGE_SPAN.finditer(inputs))
  if len(named) == 1 and named[0].lower().endswith(_VIDEO) and spans:
    place = places.find(named[0])
    pictures = [
      PictureRef(place, frame=(i + 1, len(spans))) for i in range(len(spans))
    ]
    moved = place != named[0]
  else:
    found = [_picture(x, places, f'{where}#{i}') for i, x in enumerate(named)]
    pictures = [picture for picture, _ in found]
    moved = any(changed for _, changed in found)
  if moved:
    repaired.append('paths')
  if len(pictures) != len(spans):
    raise Bad('bad_reference')
  if any(m['name'] not in (None, str(i)) for i, m in enumerate(spans)):
    repaired.append('names')
  try:
    text, output = _slots(inputs, answer)
    Turn(text, tuple(pictures), output)
  except UserError as error:
    raise Bad('reserved_text') from error
  return SourceItem(
    name,
    name,
    {},
    tuple(pictures),
    (answer,),
    outputs=(output,),
    text=text,
    slots=True,
    group=split,  # a record has its demonstrations already
    repaired=tuple(sorted(repaired)),
  )


def _slots(inputs: str, answer: str) -> tuple[str, str]:
  """As slotted, but a name that stands twice means the last one declared."""
  names = [m['name'] for m in IMAGE_SPAN.finditer(inputs)]
  given = [name for name in names if name is not None]
  if len(set(given)) == len(given):
    return slotted(inputs, answer)
  places: dict[str, int] = {}

  def reference(match: re.Match) -> str:
    numbers = re.findall('[0-9]+', match[0])
    if not all(number in places for number in numbers):
      return match[0]
    return re.sub('[0-9]+', lambda n: f'{{{places[n[0]]}}}', match[0])

  texts = []
  pieces = IMAGE_SPAN.sub(IMAGE, inputs).split(IMAGE)
  for i, piece in enumerate(pieces):
    piece, declared = escape(piece), ''
    if i < len(names) and (found := _DECLARES.search(piece)):
      piece = piece[: found.start()]
      declared = f'{found[1]}{{{i}}}{found[2]}'
    texts.append(MENTION.sub(reference, piece) + declared)
    if i < len(names):
      places[names[i] or str(i)] = i
  return '{image}'.join(texts), MENTION.sub(reference, escape(answer))


def _picture(
  image: str, places: '_Places', where: str
) -> tuple[PictureRef, bool]:
  """A picture, and whether its path had to be mended."""
  if holds_bytes(image):
    try:
      text = image.partition('base64,')[2] or image
      return PictureRef(where, data=base64.b64decode(text)), False
    except binascii.Error as error:
      raise Bad('broken_image') from error
  place = places.find(image)
  return PictureRef(place), place != image


class _Places:
  """Where pictures are: loose in the tree, or members of its zips."""

  def __init__(self, tree: Tree, old: str, new: str):
    self._tree, self._old, self._new = tree, old, new
    self._members: dict[str, list[str]] | None = None

  def find(self, path: str) -> str:
    """The place of a record's path; a plain one if it is nowhere."""
    if self._old and path.startswith(self._old):
      path = self._new + path[len(self._old) :]
    while path.startswith('./'):
      path = path[2:]
    for name in dict.fromkeys((path, path.replace('_/', '_'))):
      loose = self._tree.picture(self._tree.folders(''), name)
      if (self._tree.root / loose).is_file():
        return loose
      if member := self._member(name):
        return member
    return path

  def _member(self, path: str) -> str | None:
    """The member of a zip that ends like the path in most folders."""
    if self._members is None:
      self._members = {}
      for top in self._tree.below('', '*.zip'):
        try:
          with zipfile.ZipFile(self._tree.root / top) as files:
            names = sorted(files.namelist())
        except (OSError, zipfile.BadZipFile):
          continue
        for name in names:
          key = name.rpartition('/')[2]
          self._members.setdefault(key, []).append(f'{top}!{name}')
    found = self._members.get(path.rpartition('/')[2], [])
    return max(found, key=lambda place: _agree(place, path), default=None)


def _agree(place: str, path: str) -> int:
  """In how many names, from the last, a member and a path agree.

  The names of the archive's folders count as the member's.
  """
  one = re.split('[/!]', place.replace('.zip!', '!'))[::-1]
  other = path.split('/')[::-1]
  count = 0
  for a, b in zip(one, other, strict=False):
    if a != b:
      break
    count += 1
  return count


DATASETS = (
  Dataset(
    'mic_release',
    'the published records',
    'train',
    'data_jsonl/<category>/<dataset>/*.jsonl, sampled/*.{jsonl,parquet}, '
    'data/<dataset>/: pictures or zips of them',
    'https://huggingface.co/datasets/BleachNick/MIC_full',
    'unknown',
    (),
    None,
    _files,
    _items,
    settings={'path_map': ()},
    discover=_splits,
  ),
)

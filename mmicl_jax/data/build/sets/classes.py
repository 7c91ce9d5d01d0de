"""What a picture shows: miniImageNet, Hateful Memes, Bongard-HOI.

Bongard-HOI asks of crops: `crop_bbox` of each picture. Boxes of OpenImages were
drawn on smaller copies, so they are scaled as its own loader does; a box that
still leaves the picture is clamped, where that loader shows the whole picture.
"""

import json
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
from mmicl_jax.data.build.rows import answered, each, field, words
from mmicl_jax.data.build.tree import Tree

_Paths = Sequence[str | None]
# WordNet's names of the 100 classes, which no official file has.
_NAMES: dict[str, str] = json.loads(
  Path(__file__).with_name('miniimagenet.json').read_text('utf-8')
)
_OPENIMAGES = 1.6  # how much larger its pictures are than boxes say
_BONGARD = (
  'train',
  *(
    f'{split}_{objects}_obj_{acts}_act'
    for split in ('val', 'test')
    for objects in ('seen', 'unseen')
    for acts in ('seen', 'unseen')
  ),
)


def _mini_files(split: str, settings: Settings) -> Sequence[Wanted]:
  del settings
  return [annotation(f'{split}.csv')]


def _mini(
  tree: Tree, split: str, settings: Settings, paths: _Paths
) -> Iterator[SourceItem | Skip]:
  del settings
  path = the_file(paths)
  folders = tree.folders('images')
  moved: dict[str, tuple[str, ...]] = {}

  def make(row: Any) -> SourceItem:
    name, label = words(row, 'filename'), words(row, 'label')
    if label not in _NAMES:
      raise Bad('bad_reference')
    if label not in moved:
      moved[label] = tree.folders(f'{split}/{label}')
    places = (*folders, *moved[label])
    return SourceItem(
      name,
      name,
      {},
      (PictureRef(tree.picture(places, name)),),
      (_NAMES[label],),
      meta={'class': label},
    )

  return each(
    tree.table(path, 'filename', 'label'),
    make,
    lambda row: field(row, 'filename'),
  )


def _memes_files(split: str, settings: Settings) -> Sequence[Wanted]:
  del settings
  name = f'{split}.jsonl'
  return [annotation(name, f'annotations/{name}', f'data/{name}')]


def _memes(
  tree: Tree, split: str, settings: Settings, paths: _Paths
) -> Iterator[SourceItem | Skip]:
  del split, settings
  path = the_file(paths)
  folders = tree.folders('', 'data', 'annotations')

  def make(row: Any) -> SourceItem:
    name = str(row['id'])
    label = answered(row, 'label', int)
    if label not in (0, 1):
      raise Bad('bad_reference')
    return SourceItem(
      name,
      name,
      {'text': words(row, 'text')},
      (PictureRef(tree.picture(folders, words(row, 'img'))),),
      ('yes' if label else 'no',),
    )

  return each(tree.lines(path), make, lambda row: field(row, 'id', (int, str)))


def _bongard_files(split: str, settings: Settings) -> Sequence[Wanted]:
  del settings
  name = f'bongard_hoi_{split}.json'
  return [annotation(name, f'bongard_splits/{name}')]


def _bongard(
  tree: Tree, split: str, settings: Settings, paths: _Paths
) -> Iterator[SourceItem | Skip]:
  """Six positives, six negatives, then the last of one side as the query."""
  del settings
  path = the_file(paths)
  folders = tree.folders('', 'images', 'bongard_images')

  def make(entry: Any) -> list[SourceItem]:
    index, row = entry
    if not isinstance(row, list) or len(row) != 3:
      raise Bad('missing_field')
    sides = [
      [_bongard_picture(tree, folders, x) for x in _seven(side)]
      for side in row[:2]
    ]
    shown = (*sides[0][:6], *sides[1][:6])
    meta = {'concept': row[2]}
    return [
      SourceItem(
        f'{index}/{number}',
        str(index),
        {},
        (*shown, side[6]),
        (answer,),
        meta=meta,
        score_id=f'{split}/{index}/{number}',
      )
      for number, (side, answer) in enumerate(
        zip(sides, ('positive', 'negative'), strict=True)
      )
    ]

  rows = [(where, (i, row)) for i, (where, row) in enumerate(tree.listed(path))]
  return each(rows, make, lambda entry: entry[0])


def _seven(side: Any) -> list[Any]:
  if not isinstance(side, list) or len(side) != 7:
    raise Bad('missing_field')
  return side


def _bongard_picture(
  tree: Tree, folders: Sequence[str], value: Any
) -> PictureRef:
  name, box = words(value, 'im_path'), field(value, 'crop_bbox', list)
  if len(box) != 4 or not all(
    isinstance(x, (int, float)) and not isinstance(x, bool) for x in box
  ):
    raise Bad('bad_box')
  scale = _OPENIMAGES if 'openimages' in name else 1
  left, top, right, bottom = (float(x) * scale for x in box)
  return PictureRef(tree.picture(folders, name), (left, top, right, bottom))


DATASETS = (
  Dataset(
    'miniimagenet',
    'classification',
    'train',
    '{train,val,test}.csv, images/*.jpg',
    'https://github.com/twitter-research/meta-learning-lstm',
    'ImageNet terms',
    ('train', 'val', 'test'),
    'class_name',
    _mini_files,
    _mini,
    shots=5,
  ),
  Dataset(
    'hateful_memes',
    'classification',
    'held-out',
    '{train,dev_seen,dev_unseen,test_seen,test_unseen}.jsonl, img/*.png',
    'https://hatefulmemeschallenge.com',
    'by form',
    ('train', 'dev_seen', 'dev_unseen', 'test_seen', 'test_unseen'),
    'hateful',
    _memes_files,
    _memes,
  ),
  Dataset(
    'bongard_hoi',
    'classification',
    'held-out',
    'bongard_hoi_{train,{val,test}_{seen,unseen}_obj_{seen,unseen}_act}.json, '
    'and the pictures that they name',
    'https://github.com/NVlabs/Bongard-HOI',
    'non-commercial',
    _BONGARD,
    'bongard',
    _bongard_files,
    _bongard,
  ),
)

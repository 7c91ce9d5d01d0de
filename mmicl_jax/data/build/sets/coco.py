"""COCO's pictures, which many datasets share, COCO Caption and NoCaps."""

import os
from collections.abc import Iterator, Sequence
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

# In which folders a picture of a year is looked for; one of 2014's train may be
# in a copy of 2017's only, and the other way round.
YEARS = ('train2014', 'val2014', 'train2017', 'val2017')


def coco_picture(tree: Tree, image_id: Any, *places: str) -> PictureRef:
  """A picture of COCO by its id, in the first of the folders that has it.

  places: such as train2014. Raises Bad for an id that is none.
  """
  if isinstance(image_id, bool) or not isinstance(image_id, int):
    raise Bad('bad_reference')
  if image_id < 0:
    raise Bad('bad_reference')
  first = ''
  for place in places:
    prefix = '' if place.endswith('2017') else f'COCO_{place}_'
    name = f'{prefix}{image_id:012d}.jpg'
    # RefCOCO's copies lie deep.
    folders = tree.folders(place, f'images/mscoco/images/{place}')
    for folder in folders:
      path = os.path.join(folder, name)
      if tree.has(path):
        return PictureRef(path)
      first = first or path
    first = first or f'{place}/{name}'
  return PictureRef(first)


def _caption_files(split: str, settings: Settings) -> Sequence[Wanted]:
  if settings['karpathy'] == 'true':
    return [annotation('dataset_coco.json')]
  if split not in ('train', 'val'):
    return [annotation(f'dataset_coco.json (for {split}: --set karpathy=true)')]
  name = f'captions_{split}2014.json'
  return [annotation(f'annotations/{name}', name)]


def _captions(
  tree: Tree, split: str, settings: Settings, paths: Sequence[str | None]
) -> Iterator[SourceItem | Skip]:
  path = the_file(paths)
  if settings['karpathy'] == 'true':
    return karpathy(tree, path, split, _karpathy_picture)
  return _coco_captions(
    tree, path, lambda image: _own(tree, image, f'{split}2014')
  )


def _own(tree: Tree, image: Any, place: str) -> PictureRef:
  return coco_picture(tree, field(image, 'id', int), place, *YEARS)


def _coco_captions(
  tree: Tree, path: str, find: Any
) -> Iterator[SourceItem | Skip]:
  """Captions in COCO's layout: `images` and `annotations` apart."""
  whole = tree.mapped(path)
  for key in ('images', 'annotations'):
    if not isinstance(whole.get(key), list):
      raise tree.layout(path, f'it has no list "{key}"')
  images = {
    image['id']: image
    for image in whole['images']
    if isinstance(image, dict) and isinstance(image.get('id'), (int, str))
  }

  def make(row: Any) -> SourceItem:
    image_id = field(row, 'image_id', (int, str))
    if image_id not in images:
      raise Bad('bad_reference')
    caption = answered(row, 'caption').strip()
    meta = {'image_id': str(image_id)}
    if isinstance(images[image_id].get('domain'), str):
      meta['domain'] = images[image_id]['domain']
    return SourceItem(
      str(row['id']),
      str(row['id']),
      {},
      (find(images[image_id]),),
      (caption,),
      meta=meta,
      score_id=image_id,
    )

  rows = [(f'{path}[{i}]', row) for i, row in enumerate(whole['annotations'])]
  return each(rows, make, lambda row: field(row, 'id', (int, str)))


def karpathy(
  tree: Tree, path: str, split: str, find: Any
) -> Iterator[SourceItem | Skip]:
  """Sentences of a split in Karpathy's layout: five or so to a picture."""
  rows = []
  for where, image in tree.listed(path, 'images'):
    if not in_split(image, split):
      continue
    sentences = image.get('sentences') if isinstance(image, dict) else None
    if isinstance(sentences, list):
      rows += [
        (f'{where}[{i}]', (image, sentence))
        for i, sentence in enumerate(sentences)
      ]
    else:
      rows.append((where, Bad('missing_field')))

  def make(row: Any) -> SourceItem:
    image, sentence = row
    caption = answered(sentence, 'raw').strip()
    found, name = find(tree, image)
    return SourceItem(
      str(sentence['sentid']),
      str(sentence['sentid']),
      {},
      (found,),
      (caption,),
      meta={'image_id': name},
      score_id=name,
    )

  return each(rows, make, lambda row: field(row[1], 'sentid', (int, str)))


def in_split(row: Any, split: str) -> bool:
  """Whether a row of all splits is one of this; one that says none is told of
  with those of train."""
  own = row.get('split') if isinstance(row, dict) else None
  return own == split if isinstance(own, str) else split == 'train'


def _karpathy_picture(tree: Tree, image: Any) -> tuple[PictureRef, str]:
  place = field(image, 'filepath')
  if place not in YEARS:
    raise Bad('bad_reference')
  number = field(image, 'cocoid', int)
  return coco_picture(tree, number, place, *YEARS), str(number)


def _nocaps(
  tree: Tree, split: str, settings: Settings, paths: Sequence[str | None]
) -> Iterator[SourceItem | Skip]:
  del settings
  path = the_file(paths)
  folders = tree.folders({'val': 'validation'}.get(split, split), split)

  def find(image: Any) -> PictureRef:
    return PictureRef(tree.picture(folders, words(image, 'file_name')))

  if split == 'test':

    def make(image: Any) -> SourceItem:
      number = str(image['id'])
      return SourceItem(
        number, number, {}, (find(image),), score_id=image['id']
      )

    rows = tree.listed(path, 'images')
    return each(rows, make, lambda image: field(image, 'id', (int, str)))
  return _coco_captions(tree, path, find)


def _nocaps_files(split: str, settings: Settings) -> Sequence[Wanted]:
  del settings
  if split == 'val':
    return [annotation('nocaps_val_4500_captions.json')]
  return [annotation('nocaps_test_image_info.json')]


DATASETS = (
  Dataset(
    'coco_caption',
    'captioning',
    'train',
    'annotations/captions_{train,val}2014.json, {train,val}2014/*.jpg; with '
    'karpathy=true dataset_coco.json',
    'https://cocodataset.org/#download',
    'annotations CC BY 4.0, pictures by Flickr terms',
    ('train', 'restval', 'val', 'test'),
    'caption',
    _caption_files,
    _captions,
    shots=5,
    settings={'karpathy': ('false', 'true')},
  ),
  Dataset(
    'nocaps',
    'captioning',
    'held-out',
    'nocaps_val_4500_captions.json, validation/*.jpg',
    'https://nocaps.org/download',
    'captions CC BY, pictures of OpenImages',
    ('val',),
    'caption',
    _nocaps_files,
    _nocaps,
    unlabelled=('test',),
  ),
)

"""Questions about text in a picture: ST-VQA and TextVQA."""

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
from mmicl_jax.data.build.rows import answered, each, field, texts, words
from mmicl_jax.data.build.tree import Tree

_Paths = Sequence[str | None]


def _stvqa_files(split: str, settings: Settings) -> Sequence[Wanted]:
  del settings
  return [annotation(*(f'{split}_task_{i}.json' for i in (3, 2, 1)))]


def _stvqa(
  tree: Tree, split: str, settings: Settings, paths: _Paths
) -> Iterator[SourceItem | Skip]:
  """The three tasks ask the same questions: each one is taken once."""
  del settings, paths
  rows, told = [], set()
  for task in (3, 2, 1):
    path = tree.find(f'{split}_task_{task}.json')
    if path is None:
      continue
    own = set()
    for where, row in tree.listed(path, 'data'):
      number = str(row.get('question_id')) if isinstance(row, dict) else ''
      if number not in told:
        rows.append((where, row))
        own.add(number)
    told |= own
  top = (f'{split}_images', f'{split}_imgs', split, 'images', '')
  folders = tree.folders(*top)

  def make(row: Any) -> SourceItem:
    number = row['question_id']
    return SourceItem(
      str(number),
      str(number),
      {'question': words(row, 'question')},
      (PictureRef(tree.picture(folders, words(row, 'file_path'))),),
      _plain_answers(row, split != 'test'),
      meta={'source': str(row.get('dataset', ''))},
      score_id=number,
    )

  return each(rows, make, lambda row: field(row, 'question_id', (int, str)))


def _textvqa_files(split: str, settings: Settings) -> Sequence[Wanted]:
  del settings
  return [annotation(f'TextVQA_0.5.1_{split}.json')]


def _textvqa(
  tree: Tree, split: str, settings: Settings, paths: _Paths
) -> Iterator[SourceItem | Skip]:
  """Pictures of val lie among those of train."""
  del settings
  path = the_file(paths)
  top = ['test_images'] if split == 'test' else ['train_images']
  folders = tree.folders(*top, 'train_val_images')

  def make(row: Any) -> SourceItem:
    number, image = row['question_id'], words(row, 'image_id')
    return SourceItem(
      str(number),
      str(number),
      {'question': words(row, 'question')},
      (PictureRef(tree.picture(folders, f'{image}.jpg')),),
      _plain_answers(row, split != 'test'),
      meta={'image_id': image},
      score_id=number,
    )

  return each(
    tree.listed(path, 'data'),
    make,
    lambda row: field(row, 'question_id', (int, str)),
  )


def _plain_answers(row: Any, labelled: bool) -> tuple[str, ...]:
  if not labelled:
    return ()
  answered(row, 'answers', list)
  found = texts(row, 'answers')
  if not any(text.strip() for text in found):
    raise Bad('no_answer')
  return found


DATASETS = (
  Dataset(
    'stvqa',
    'image QA',
    'train',
    'train_task_{1,2,3}.json, train_images/<source>/*',
    'https://rrc.cvc.uab.es/?ch=11',
    'by registration',
    ('train',),
    'vqa',
    _stvqa_files,
    _stvqa,
    unlabelled=('test',),
    shots=5,
  ),
  Dataset(
    'textvqa',
    'image QA',
    'train',
    'TextVQA_0.5.1_{train,val}.json, train_images/*.jpg',
    'https://textvqa.org/dataset',
    'CC BY 4.0',
    ('train', 'val'),
    'vqa',
    _textvqa_files,
    _textvqa,
    unlabelled=('test',),
    shots=5,
  ),
)

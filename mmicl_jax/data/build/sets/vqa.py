"""Questions about one picture with short answers: VQAv2 and its kin."""

from collections.abc import Callable, Iterator, Sequence
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
from mmicl_jax.data.build.sets.coco import YEARS, coco_picture
from mmicl_jax.data.build.tree import Tree
from mmicl_jax.data.build.words import lettered

_V2 = {
  'train': ('train2014', 'train2014'),
  'val': ('val2014', 'val2014'),
  'test': ('test2015', 'test2015'),
  'test-dev': ('test-dev2015', 'test2015'),
}
_Paths = Sequence[str | None]


def _coco_files(
  questions: str, annotations: str
) -> Callable[..., list[Wanted]]:
  def files(split: str, settings: Settings) -> list[Wanted]:
    del settings
    name, _ = _V2[split]
    found = [annotation(questions.format(name))]
    if not split.startswith('test'):
      found.append(annotation(annotations.format(name)))
    return found

  return files


def _coco_questions(
  tree: Tree, split: str, settings: Settings, paths: _Paths
) -> Iterator[SourceItem | Skip]:
  """VQAv2 and OK-VQA: questions and answers are joined by question_id."""
  del settings
  path, *rest = paths
  assert path is not None
  solved: dict[Any, Any] | None = None
  if rest and rest[0] is not None:
    solved = {
      row['question_id']: row
      for _, row in tree.listed(rest[0], 'annotations')
      if isinstance(row, dict) and isinstance(row.get('question_id'), int)
    }
  place = _V2[split][1]
  places = (place, *YEARS) if place != 'test2015' else (place,)

  def make(row: Any) -> SourceItem:
    number = row['question_id']
    answers: tuple[str, ...] = ()
    meta: dict[str, Any] = {'image_id': str(field(row, 'image_id', int))}
    if solved is not None:
      if number not in solved:
        raise Bad('bad_reference')
      own = solved[number]
      answers = answer_list(own)
      for name in ('answer_type', 'question_type'):
        if isinstance(own.get(name), str):
          meta[name] = own[name]
    return SourceItem(
      str(number),
      str(number),
      {'question': words(row, 'question')},
      (coco_picture(tree, row['image_id'], *places),),
      answers,
      meta=meta,
      score_id=number,
    )

  return each(
    tree.listed(path, 'questions'),
    make,
    lambda row: field(row, 'question_id', (int, str)),
  )


def answer_list(row: Any) -> tuple[str, ...]:
  """The answers of a list of {"answer": ...}. Raises Bad if all are blank."""
  found = tuple(field(x, 'answer') for x in answered(row, 'answers', list))
  if not any(text.strip() for text in found):
    raise Bad('no_answer')
  return found


def _gqa_files(split: str, settings: Settings) -> Sequence[Wanted]:
  del settings
  return [annotation(f'{split}_balanced_questions.json')]


def _gqa(
  tree: Tree, split: str, settings: Settings, paths: _Paths
) -> Iterator[SourceItem | Skip]:
  del settings
  path = the_file(paths)
  labelled = split not in ('test', 'challenge')
  folders = tree.folders('images', 'allImages/images')

  def make(entry: Any) -> SourceItem:
    name, row = entry
    image = words(row, 'imageId')
    answers: tuple[str, ...] = ()
    outputs = None
    if labelled:
      full = answered(row, 'fullAnswer')
      answers = (full, field(row, 'answer'))
      outputs = (full,)
    return SourceItem(
      name,
      name,
      {'question': words(row, 'question')},
      (PictureRef(tree.picture(folders, f'{image}.jpg')),),
      answers,
      outputs,
      meta={'image_id': image},
    )

  rows = [
    (f'{path}["{key}"]', (key, row)) for key, row in tree.mapped(path).items()
  ]
  return each(rows, make, lambda entry: entry[0])


def _vizwiz_files(split: str, settings: Settings) -> Sequence[Wanted]:
  del settings
  return [
    annotation(
      f'annotations/{split}.json', f'Annotations/{split}.json', f'{split}.json'
    )
  ]


def _vizwiz(
  tree: Tree, split: str, settings: Settings, paths: _Paths
) -> Iterator[SourceItem | Skip]:
  del settings
  path = the_file(paths)
  folders = tree.folders(split, 'images')

  def make(row: Any) -> SourceItem:
    image = row['image']
    meta = {}
    if isinstance(row.get('answer_type'), str):
      meta['answer_type'] = row['answer_type']
    return SourceItem(
      image,
      image,
      {'question': words(row, 'question')},
      (PictureRef(tree.picture(folders, image)),),
      answer_list(row) if split != 'test' else (),
      meta=meta,
      score_id=image,
    )

  return each(tree.listed(path), make, lambda row: words(row, 'image'))


def _aokvqa_files(split: str, settings: Settings) -> Sequence[Wanted]:
  del settings
  return [annotation(f'aokvqa_v1p0_{split}.json')]


def _aokvqa(
  tree: Tree, split: str, settings: Settings, paths: _Paths
) -> Iterator[SourceItem | Skip]:
  del settings
  path = the_file(paths)

  def make(row: Any) -> SourceItem:
    number, choices = row['question_id'], texts(row, 'choices')
    answers: tuple[str, ...] = ()
    meta: dict[str, Any] = {
      'choices': list(choices),
      'image_id': str(field(row, 'image_id', int)),
    }
    if split != 'test':
      index = answered(row, 'correct_choice_idx', int)
      if not 0 <= index < len(choices):
        raise Bad('bad_reference')
      answers = (choices[index],)
      meta['direct_answers'] = list(texts(row, 'direct_answers'))
    places = (f'{split}2017', *YEARS, 'test2015')
    return SourceItem(
      number,
      number,
      {'question': words(row, 'question'), 'options': lettered(choices)},
      (coco_picture(tree, row['image_id'], *places),),
      answers,
      meta=meta,
    )

  return each(tree.listed(path), make, lambda row: words(row, 'question_id'))


DATASETS = (
  Dataset(
    'okvqa',
    'knowledge QA',
    'train',
    'OpenEnded_mscoco_{train,val}2014_questions.json, '
    'mscoco_{train,val}2014_annotations.json, {train,val}2014/*.jpg',
    'https://okvqa.allenai.org/download.html',
    'CC BY 4.0',
    ('train', 'val'),
    'vqa',
    _coco_files(
      'OpenEnded_mscoco_{}_questions.json', 'mscoco_{}_annotations.json'
    ),
    _coco_questions,
    shots=5,
  ),
  Dataset(
    'vqav2',
    'image QA',
    'train',
    'v2_OpenEnded_mscoco_{train2014,val2014}_questions.json, '
    'v2_mscoco_{train2014,val2014}_annotations.json, {train,val}2014/*.jpg',
    'https://visualqa.org/download.html',
    'CC BY 4.0',
    ('train', 'val'),
    'vqa',
    _coco_files(
      'v2_OpenEnded_mscoco_{}_questions.json', 'v2_mscoco_{}_annotations.json'
    ),
    _coco_questions,
    unlabelled=('test', 'test-dev'),
    shots=5,
  ),
  Dataset(
    'gqa',
    'visual reasoning',
    'train',
    '{train,val,testdev}_balanced_questions.json, images/*.jpg',
    'https://cs.stanford.edu/people/dorarad/gqa/download.html',
    'CC BY 4.0',
    ('train', 'val', 'testdev'),
    'vqa',
    _gqa_files,
    _gqa,
    unlabelled=('test', 'challenge'),
    shots=5,
  ),
  Dataset(
    'aokvqa',
    'knowledge QA',
    'held-out',
    'aokvqa_v1p0_{train,val}.json, {train,val}2017/*.jpg',
    'https://github.com/allenai/aokvqa',
    'Apache 2.0',
    ('train', 'val'),
    'multiple_choice',
    _aokvqa_files,
    _aokvqa,
    unlabelled=('test',),
  ),
  Dataset(
    'vizwiz',
    'image QA',
    'held-out',
    'annotations/{train,val}.json, {train,val}/*.jpg',
    'https://vizwiz.org/tasks-and-datasets/vqa',
    'CC BY 4.0',
    ('train', 'val'),
    'vqa',
    _vizwiz_files,
    _vizwiz,
    unlabelled=('test',),
  ),
)

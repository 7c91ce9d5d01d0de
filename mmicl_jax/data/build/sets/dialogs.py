"""Dialogs about a picture: LLaVA-Instruct-150K and Visual Dialog."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

from mmicl_jax.context.text import escape
from mmicl_jax.data.build.catalog import (
  Dataset,
  Settings,
  Wanted,
  annotation,
  optional,
)
from mmicl_jax.data.build.items import Bad, PictureRef, Skip, SourceItem
from mmicl_jax.data.build.rows import each, field, words
from mmicl_jax.data.build.sets.coco import coco_picture
from mmicl_jax.data.build.tree import Tree, check_inside
from mmicl_jax.data.build.words import respelled

_Paths = Sequence[str | None]
_LLAVA = 'llava_instruct_150k.json'
_PARTS = (
  'conversation_58k.json',
  'detail_23k.json',
  'complex_reasoning_77k.json',
)


def _llava_files(split: str, settings: Settings) -> Sequence[Wanted]:
  del split, settings
  return [annotation(_LLAVA, *_PARTS)]


def _llava(
  tree: Tree, split: str, settings: Settings, paths: _Paths
) -> Iterator[SourceItem | Skip]:
  """All turns but the last answer, which is the output."""
  del split, settings, paths
  whole = tree.find(_LLAVA)
  files = [whole] if whole else [tree.find(name) for name in _PARTS]
  # Of the three parts, one picture may have several conversations: an id is
  # counted from the second one on, as in the whole file.
  rows: list[tuple[str, Any]] = []
  told: dict[str, int] = {}
  for path in filter(None, files):
    for where, row in tree.listed(path):
      name = str(row.get('id')) if isinstance(row, dict) else ''
      told[name] = told.get(name, 0) + 1
      rows.append((where, (told[name], row)))

  def make(entry: Any) -> SourceItem:
    _, row = entry
    turns = field(row, 'conversations', list)
    spoken = []
    for i, turn in enumerate(turns):
      who = field(turn, 'from')
      if who != ('human', 'gpt')[i % 2]:
        raise Bad('missing_field')
      text = (
        field(turn, 'value').replace('<image>', '', 1)
        if i == 0
        else (field(turn, 'value'))
      )
      if not text.strip():
        raise Bad('empty_text' if who == 'human' else 'no_answer')
      spoken.append(text.strip())
    if len(spoken) < 2 or len(spoken) % 2:
      raise Bad('no_answer')
    image = words(row, 'image')
    check_inside(image)
    digits = os.path.basename(image).removesuffix('.jpg').rpartition('_')[2]
    if not digits.isdigit():
      raise Bad('bad_reference')
    found = coco_picture(
      tree, int(digits), 'train2017', 'train2014', 'val2014', 'val2017'
    )
    name = _llava_name(entry)
    return SourceItem(
      name,
      name,
      {'dialog': _dialog(spoken[:-1])},
      (found,),
      (spoken[-1],),
      (_shown(spoken[-1]),),
      slots=True,
      meta={'image_id': str(int(digits))},
    )

  return each(rows, make, _llava_name)


def _llava_name(entry: Any) -> str:
  number, row = entry
  name = str(field(row, 'id', (int, str)))
  return name if number == 1 else f'{name}#{number}'


def _dialog(spoken: Sequence[str]) -> str:
  """'User: ...\\nBot: ...\\nUser: ...\\nBot:'."""
  lines = [
    f'{("User", "Bot")[i % 2]}: {_shown(text)}' for i, text in enumerate(spoken)
  ]
  return '\n'.join([*lines, 'Bot:'])


def _shown(text: str) -> str:
  """Words of annotators inside a Turn's text."""
  return escape(respelled(text))


def _visdial_files(split: str, settings: Settings) -> Sequence[Wanted]:
  del settings
  found = [annotation(f'visdial_1.0_{split}.json')]
  dense = f'visdial_1.0_{split}_dense_annotations.json'
  return found if split == 'test' else [*found, optional(dense)]


def _visdial(
  tree: Tree, split: str, settings: Settings, paths: _Paths
) -> Iterator[SourceItem | Skip]:
  """A round is a record: the caption and the rounds before it, a question."""
  del settings
  path, *more = paths
  assert path is not None
  data = tree.mapped(path, 'data')
  questions, answers = data.get('questions'), data.get('answers')
  dialogs = data.get('dialogs')
  for name, value in (('questions', questions), ('answers', answers)):
    if not isinstance(value, list):
      raise tree.layout(path, f'"data" has no list "{name}"')
  if not isinstance(dialogs, list):
    raise tree.layout(path, '"data" has no list "dialogs"')
  dense = {}
  if more and more[0]:
    for _, row in tree.listed(more[0]):
      if isinstance(row, dict):
        key = row.get('image_id'), row.get('round_id')
        dense[key] = row.get('gt_relevance', row.get('relevance'))
  folder = f'VisualDialog_{split}2018'

  def make(row: Any) -> list[SourceItem]:
    image = field(row, 'image_id', int)
    caption = words(row, 'caption')
    found = _visdial_picture(tree, folder, image)
    said = [f'Caption: {_shown(caption.strip())}']
    made = []
    rounds = field(row, 'dialog', list)
    for number, turn in enumerate(rounds, 1):
      question = _of(questions, turn, 'question').strip()
      question = question if question.endswith('?') else f'{question}?'
      asked = '\n'.join([*said, f'User: {_shown(question)}', 'Bot:'])
      meta: dict[str, Any] = {'round': number, 'image_id': str(image)}
      own: tuple[str, ...] = ()
      options = turn.get('answer_options')
      if isinstance(options, list):
        meta['candidates'] = [
          _of(answers, {'answer': x}, 'answer') for x in options
        ]
      answer = ''
      if 'answer' in turn:
        answer = _of(answers, turn, 'answer').strip()
        said += [f'User: {_shown(question)}', f'Bot: {_shown(answer)}']
      if split != 'test':
        if not answer:
          raise Bad('no_answer')
        own = (answer,)
        if isinstance(turn.get('gt_index'), int):
          meta['gt_index'] = turn['gt_index']
      if (image, number) in dense:
        meta['relevance'] = dense[image, number]
      if split == 'test' and 'answer' in turn:
        continue  # only the last round is asked
      made.append(
        SourceItem(
          f'{image}/{number}',
          str(image),
          {'dialog': asked},
          (found,),
          own,
          tuple(map(_shown, own)),
          slots=True,
          meta=meta,
        )
      )
    return made

  rows = [(f'{path}[{i}]', row) for i, row in enumerate(dialogs)]
  return each(rows, make, lambda row: field(row, 'image_id', int))


def _visdial_picture(tree: Tree, folder: str, image: int) -> PictureRef:
  folders = tree.folders(folder)
  name = f'{folder}_{image:012d}.jpg'
  return PictureRef(tree.picture(folders, name))


def _of(texts: Any, turn: Any, name: str) -> str:
  """The text that a turn refers to. Raises Bad."""
  index = field(turn, name, int)
  if not 0 <= index < len(texts) or not isinstance(texts[index], str):
    raise Bad('bad_reference')
  return texts[index]


DATASETS = (
  Dataset(
    'llava',
    'dialog',
    'train',
    f'{_LLAVA} or its three parts, train2017/*.jpg or train2014/*.jpg',
    'https://huggingface.co/datasets/liuhaotian/LLaVA-Instruct-150K',
    'CC BY-NC 4.0',
    ('train',),
    'dialog',
    _llava_files,
    _llava,
  ),
  Dataset(
    'visdial',
    'dialog',
    'held-out',
    'visdial_1.0_val.json, VisualDialog_val2018/*.jpg',
    'https://visualdialog.org/data',
    'CC BY 4.0',
    ('val',),
    'dialog',
    _visdial_files,
    _visdial,
    unlabelled=('test',),
  ),
)

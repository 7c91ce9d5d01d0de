"""Multiple choice: IconQA, ScienceQA, MMBench."""

import base64
from collections.abc import Iterator, Sequence
from typing import Any

from mmicl_jax.context.text import escape
from mmicl_jax.data.build.catalog import (
  Dataset,
  Settings,
  Wanted,
  annotation,
  optional,
  the_file,
)
from mmicl_jax.data.build.items import Bad, PictureRef, Skip, SourceItem
from mmicl_jax.data.build.rows import answered, each, texts, words
from mmicl_jax.data.build.tree import Tree
from mmicl_jax.data.build.words import lettered, respelled
from mmicl_jax.errors import UserError

_Paths = Sequence[str | None]
_KINDS = ('choose_txt', 'choose_img', 'fill_in_blank')


def _pids(tree: Tree, path: str, split: str) -> list[Any]:
  """The problems of a split; none if the file does not know it."""
  numbers = tree.mapped(path).get(split, [])
  if not isinstance(numbers, list):
    raise tree.layout(path, f'"{split}" is no list')
  return numbers


def _icon_files(split: str, settings: Settings) -> Sequence[Wanted]:
  del split, settings
  return [annotation('pid_splits.json'), optional('problems.json')]


def _icon(
  tree: Tree, split: str, settings: Settings, paths: _Paths
) -> Iterator[SourceItem | Skip]:
  """Problems in the order of pid_splits.json; each has a folder of its own."""
  del settings
  pids, problems = paths
  assert pids is not None
  numbers = _pids(tree, pids, split)
  known = {} if problems is None else tree.mapped(problems)
  kind, part = split.rsplit('_', 1)
  folders = tree.folders(f'iconqa/{part}/{kind}', f'{part}/{kind}')

  def make(entry: Any) -> SourceItem:
    pid = str(entry)
    row = known.get(pid)
    if row is None:
      row = _own_data(tree, tree.picture(folders, f'{pid}/data.json'))
    own = PictureRef(tree.picture(folders, f'{pid}/image.png'))
    fields = {'question': words(row, 'question')}
    if kind == 'fill_in_blank':
      said = str(answered(row, 'answer', (str, int, float)))
      return SourceItem(pid, pid, fields, (own,), (said,))
    choices, index = texts(row, 'choices'), answered(row, 'answer', int)
    if not 0 <= index < len(choices):
      raise Bad('bad_reference')
    meta = {'choices': list(choices)}
    if kind == 'choose_txt':
      fields['options'] = lettered(choices)
      return SourceItem(pid, pid, fields, (own,), (choices[index],), meta=meta)
    shown = [f'image {{{i}}}' for i in range(1, len(choices) + 1)]
    return SourceItem(
      pid,
      pid,
      {
        'question': escape(respelled(fields['question'])),
        'options': lettered(shown),
      },
      (
        own,
        *(PictureRef(tree.picture(folders, f'{pid}/{c}')) for c in choices),
      ),
      outputs=(shown[index],),
      slots=True,
      meta=meta,
    )

  rows = [(f'{pids}[{i}]', pid) for i, pid in enumerate(numbers)]
  return each(rows, make, lambda pid: pid)


def _own_data(tree: Tree, path: str) -> Any:
  """A problem's own file, where problems.json does not hold it. Raises Bad."""
  if not (tree.root / path).is_file():
    raise Bad('bad_reference')
  try:
    return tree.json(path)
  except UserError as error:
    raise Bad('missing_field') from error


def _icon_template(split: str, settings: Settings) -> str:
  del settings
  return 'vqa' if split.startswith('fill_in_blank') else 'multiple_choice'


def _science_files(split: str, settings: Settings) -> Sequence[Wanted]:
  del split, settings
  return [
    annotation('pid_splits.json', 'scienceqa/pid_splits.json'),
    annotation('problems.json', 'scienceqa/problems.json'),
  ]


def _science(
  tree: Tree, split: str, settings: Settings, paths: _Paths
) -> Iterator[SourceItem | Skip]:
  """With or without a picture; the hint stands before the question."""
  del settings
  pids, problems = paths
  assert pids is not None and problems is not None
  numbers = _pids(tree, pids, split)
  known = tree.mapped(problems)
  folders = tree.folders(f'images/{split}', split)

  def make(pid: Any) -> SourceItem:
    if not isinstance(known.get(str(pid)), dict):
      raise Bad('bad_reference')
    row = known[str(pid)]
    choices, index = texts(row, 'choices'), answered(row, 'answer', int)
    if not 0 <= index < len(choices):
      raise Bad('bad_reference')
    question = words(row, 'question')
    if isinstance(row.get('hint'), str) and row['hint'].strip():
      question = f'{row["hint"].strip()}\n{question}'
    pictures: tuple[PictureRef, ...] = ()
    if row.get('image') is not None:
      name = f'{pid}/{words(row, "image")}'
      pictures = (PictureRef(tree.picture(folders, name)),)
    return SourceItem(
      str(pid),
      str(pid),
      {'question': question, 'options': lettered(choices)},
      pictures,
      (choices[index],),
      meta={'choices': list(choices), 'subject': str(row.get('subject', ''))},
    )

  rows = [(f'{pids}[{i}]', pid) for i, pid in enumerate(numbers)]
  return each(rows, make, lambda pid: pid)


def _mmbench_files(split: str, settings: Settings) -> Sequence[Wanted]:
  del settings
  names = (f'mmbench_{split}', f'MMBench_{split.upper()}_EN', split)
  own = [f'{name}.tsv' for name in names]
  return [
    annotation(*own, f'mmbench_{split}_20230712.tsv', f'mmbench_{split}_en.tsv')
  ]


def _mmbench(
  tree: Tree, split: str, settings: Settings, paths: _Paths
) -> Iterator[SourceItem | Skip]:
  """A row; its picture is base64, or the index of the row that has it."""
  del settings
  path = the_file(paths)
  rows = list(
    tree.table(path, 'index', 'image', 'question', 'A', 'B', delimiter='\t')
  )
  images = {row['index']: row['image'] for _, row in rows}

  def make(row: Any) -> SourceItem:
    number = row['index']
    letters = [x for x in 'ABCD' if (row.get(x) or '').strip()]
    choices = [row[x] for x in letters]
    question = words(row, 'question')
    if (row.get('hint') or '').strip():
      question = f'{row["hint"].strip()}\n{question}'
    answers: tuple[str, ...] = ()
    if split != 'test':
      right = answered(row, 'answer').strip()
      if right not in letters:
        raise Bad('bad_reference')
      answers = (row[right],)
    image = row['image'] or ''
    if 0 < len(image) < 64:
      image = images.get(image, image) or ''
    if not image.strip():
      raise Bad('missing_field')
    try:
      data = base64.b64decode(''.join(image.split()), validate=True)
    except ValueError as error:
      raise Bad('not_an_image') from error
    meta = {'choices': choices, 'category': row.get('category') or ''}
    return SourceItem(
      number,
      number,
      {'question': question, 'options': lettered(choices)},
      (PictureRef(f'{path}#{number}', data=data),),
      answers,
      meta=meta,
    )

  return each(rows, make, lambda row: row['index'])


DATASETS = (
  Dataset(
    'iconqa',
    'visual reasoning',
    'held-out',
    'iconqa_data/{pid_splits.json,problems.json}, '
    'iconqa_data/iconqa/{train,val,test}/<kind>/<pid>/*.png',
    'https://iconqa.github.io',
    'CC BY-SA 4.0',
    tuple(f'{k}_{s}' for k in _KINDS for s in ('train', 'val', 'test')),
    _icon_template,
    _icon_files,
    _icon,
  ),
  Dataset(
    'scienceqa',
    'knowledge QA',
    'held-out',
    'problems.json, pid_splits.json, images/{train,val,test}/<pid>/image.png',
    'https://scienceqa.github.io',
    'CC BY-NC-SA 4.0',
    ('train', 'val', 'test'),
    'multiple_choice',
    _science_files,
    _science,
  ),
  Dataset(
    'mmbench',
    'benchmark',
    'benchmark',
    'mmbench_dev.tsv or as OpenCompass names it',
    'https://github.com/open-compass/MMBench',
    'Apache 2.0',
    ('dev',),
    'multiple_choice',
    _mmbench_files,
    _mmbench,
    unlabelled=('test',),
  ),
)

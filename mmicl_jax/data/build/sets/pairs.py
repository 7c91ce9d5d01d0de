"""True or false of one picture or two: NLVR2, VSR, Winoground, POPE, MME."""

import codecs
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from mmicl_jax.data.build.catalog import (
  Dataset,
  Settings,
  Wanted,
  annotation,
  the_file,
)
from mmicl_jax.data.build.items import Bad, PictureRef, Skip, SourceItem
from mmicl_jax.data.build.parquet import parquet_rows
from mmicl_jax.data.build.rows import answered, each, field, words
from mmicl_jax.data.build.sets.coco import coco_picture
from mmicl_jax.data.build.tree import Tree, check_inside

_Paths = Sequence[str | None]
_MME = (
  'existence', 'count', 'position', 'color', 'posters', 'celebrity', 'scene',
  'landmark', 'artwork', 'OCR', 'commonsense_reasoning',
  'numerical_calculation', 'text_translation', 'code_reasoning',
)  # fmt: skip


def _nlvr2_files(split: str, settings: Settings) -> Sequence[Wanted]:
  del settings
  return [annotation(f'data/{split}.json', f'{split}.json')]


def _nlvr2(
  tree: Tree, split: str, settings: Settings, paths: _Paths
) -> Iterator[SourceItem | Skip]:
  """The left picture, then the right; the last number is the sentence's."""
  del settings
  path = the_file(paths)
  folders = tree.folders(f'images/{split}', f'{split}', f'{split}_img')

  def make(row: Any) -> SourceItem:
    name, label = row['identifier'], answered(row, 'label')
    if label not in ('True', 'False'):
      raise Bad('bad_reference')
    pair = name.rpartition('-')[0]
    if not pair:
      raise Bad('bad_reference')
    directory = row.get('directory')
    top = f'{directory}/' if isinstance(directory, int) else ''
    sides = tuple(
      PictureRef(tree.picture(folders, f'{top}{pair}-img{side}.png'))
      for side in (0, 1)
    )
    return SourceItem(
      name, name, {'statement': words(row, 'sentence')}, sides, (label,)
    )

  return each(tree.lines(path), make, lambda row: field(row, 'identifier'))


def _vsr_files(split: str, settings: Settings) -> Sequence[Wanted]:
  top = settings['set']
  return [annotation(f'splits/{top}/{split}.jsonl', f'{top}/{split}.jsonl')]


def _vsr(
  tree: Tree, split: str, settings: Settings, paths: _Paths
) -> Iterator[SourceItem | Skip]:
  """Ids are names of pictures, with #n from a picture's second caption on."""
  del split, settings
  path = the_file(paths)
  folders = tree.folders('images', 'trainval2017', 'train2017', 'val2017')
  asked: dict[str, int] = {}
  rows = []
  for number, (where, row) in enumerate(tree.lines(path)):
    image = row.get('image') if isinstance(row, dict) else None
    name = ''
    if isinstance(image, str):
      asked[image] = asked.get(image, 0) + 1
      name = image if asked[image] == 1 else f'{image}#{asked[image]}'
    rows.append((where, row if isinstance(row, Bad) else (number, name, row)))

  def make(entry: Any) -> SourceItem:
    number, name, row = entry
    label = answered(row, 'label', int)
    if label not in (0, 1):
      raise Bad('bad_reference')
    return SourceItem(
      name,
      name,
      {'statement': words(row, 'caption')},
      (PictureRef(tree.picture(folders, row['image'])),),
      ('True' if label else 'False',),
      meta={'relation': str(row.get('relation', ''))},
      score_id=number,
    )

  return each(rows, make, lambda entry: _named(entry[1]))


def _named(name: str) -> str:
  if not name:
    raise Bad('missing_field')
  return name


def _winoground_files(split: str, settings: Settings) -> Sequence[Wanted]:
  del split, settings
  lines = ('data/examples.jsonl', 'examples.jsonl')
  return [annotation(*lines, 'data/*.parquet', '*.parquet')]


def _winoground(
  tree: Tree, split: str, settings: Settings, paths: _Paths
) -> Iterator[SourceItem | Skip]:
  """Four records an item: each caption with each picture."""
  del split, settings
  path = the_file(paths)
  rows: Iterable[tuple[str, Any]]
  if path.endswith('.parquet'):  # pictures are in it
    folder = (tree.root / path).parent.relative_to(tree.root)
    names = sorted(x.name for x in (tree.root / folder).glob('*.parquet'))
    rows = (
      row for name in names for row in parquet_rows(tree, f'{folder / name}')
    )
  else:
    rows = tree.lines(path)
  archive = tree.find('data/images.zip', 'images.zip')
  folders = tree.folders('images', 'data/images')

  packed = tree.members(archive) if archive and not folders else ()

  def find(row: Any, field_name: str) -> PictureRef:
    image = row.get(field_name)
    if isinstance(image, dict) and isinstance(image.get('bytes'), bytes):
      return PictureRef(f'{path}#{row["id"]}/{field_name}', data=image['bytes'])
    name = words(row, field_name)
    if folders or archive is None:
      return PictureRef(tree.picture(folders, f'{name}.png'))
    places = (f'images/{name}.png', f'{name}.png')
    place = next((x for x in places if x in packed), places[0])
    return PictureRef(f'{archive}!{place}')

  def make(row: Any) -> list[SourceItem]:
    name = str(row['id'])
    pictures = [find(row, f'image_{i}') for i in (0, 1)]
    captions = [words(row, f'caption_{c}') for c in (0, 1)]
    meta = {'tag': str(row.get('tag', ''))}
    return [
      SourceItem(
        f'{name}/c{c}i{i}',
        name,
        {'caption': captions[c]},
        (pictures[i],),
        ('yes' if c == i else 'no',),
        meta=meta,
        score_id=name,
      )
      for c in (0, 1)
      for i in (0, 1)
    ]

  return each(rows, make, lambda row: field(row, 'id', (int, str)))


def _pope_files(split: str, settings: Settings) -> Sequence[Wanted]:
  del settings
  name = f'coco_pope_{split}.json'
  return [annotation(name, f'coco/{name}', f'output/coco/{name}')]


def _pope(
  tree: Tree, split: str, settings: Settings, paths: _Paths
) -> Iterator[SourceItem | Skip]:
  del settings
  path = the_file(paths)

  def make(row: Any) -> SourceItem:
    name = str(row['question_id'])
    label = answered(row, 'label').strip().lower()
    if label not in ('yes', 'no'):
      raise Bad('bad_reference')
    image = words(row, 'image')
    check_inside(image)
    digits = image.removesuffix('.jpg').rpartition('_')[2]
    if not digits.isdigit():
      raise Bad('bad_reference')
    return SourceItem(
      name,
      name,
      {'question': words(row, 'text')},
      (coco_picture(tree, int(digits), 'val2014'),),
      (label,),
      score_id=f'{split}/{name}',
    )

  return each(
    tree.lines(path), make, lambda row: field(row, 'question_id', (int, str))
  )


def _mme_files(split: str, settings: Settings) -> Sequence[Wanted]:
  del settings
  return [annotation(split)]


def _mme(
  tree: Tree, split: str, settings: Settings, paths: _Paths
) -> Iterator[SourceItem | Skip]:
  """Two questions a picture, in a text file of its name."""
  del settings
  [top] = paths
  assert top is not None
  questions = _inner(tree, top, 'questions_answers_YN')
  pictures = _inner(tree, top, 'images')
  files = {
    os.path.splitext(name)[0]: name
    for name in sorted(os.listdir(tree.root / pictures))
    if not name.endswith('.txt')
  }
  names = sorted(
    name.removesuffix('.txt')
    for name in os.listdir(tree.root / questions)
    if name.endswith('.txt')
  )
  if not names:
    raise tree.layout(top, 'no texts with questions in it')

  def make(name: str) -> list[SourceItem]:
    lines = _lines(tree, os.path.join(questions, f'{name}.txt'))
    if not lines:
      raise Bad('missing_field')
    if name not in files:
      raise Bad('missing_file')
    image = files[name]
    found = PictureRef(os.path.join(pictures, image))
    return [
      SourceItem(
        f'{image}/{number}',
        image,
        {'question': question},
        (found,),
        (answer,),
        score_id=f'{split}/{image}/{number}',
      )
      for number, (question, answer) in enumerate(map(_asked, lines))
    ]

  rows = [(os.path.join(questions, f'{name}.txt'), name) for name in names]
  return each(rows, make, lambda name: files.get(name, name))


def _asked(line: str) -> tuple[str, str]:
  """Question and answer of a line, 'question<TAB>Yes'. Raises Bad."""
  question, _, answer = (part.strip() for part in line.rpartition('\t'))
  if not question:
    raise Bad('missing_field')
  if answer not in ('Yes', 'No'):
    raise Bad('no_answer' if not answer else 'bad_reference')
  return question, answer


def _inner(tree: Tree, top: str, name: str) -> str:
  path = os.path.join(top, name)
  return path if (tree.root / path).is_dir() else top


def _lines(tree: Tree, path: str) -> list[str]:
  """The lines of a picture's own text. Raises Bad if it is not UTF-8."""
  try:
    text = tree.annotation(path).removeprefix(codecs.BOM_UTF8).decode()
  except UnicodeDecodeError as error:
    raise Bad('bad_line') from error
  return [line for line in io.StringIO(text, newline=None) if line.strip()]


DATASETS = (
  Dataset(
    'nlvr2',
    'visual reasoning',
    'train',
    'data/{train,dev,test1,test2}.json, images/{train/<directory>,dev,...}',
    'https://github.com/lil-lab/nlvr/tree/master/nlvr2',
    'CC BY 4.0; pictures by form',
    ('train', 'dev', 'test1', 'test2'),
    'nlvr2',
    _nlvr2_files,
    _nlvr2,
    shots=5,
  ),
  Dataset(
    'vsr',
    'visual reasoning',
    'held-out',
    'splits/{zeroshot,random}/{train,dev,test}.jsonl, images/*.jpg',
    'https://github.com/cambridgeltl/visual-spatial-reasoning',
    'Apache 2.0; pictures of COCO',
    ('train', 'dev', 'test'),
    'true_false',
    _vsr_files,
    _vsr,
    settings={'set': ('zeroshot', 'random')},
  ),
  Dataset(
    'winoground',
    'visual reasoning',
    'held-out',
    'data/examples.jsonl, data/images.zip or images/*.png; or data/*.parquet',
    'https://huggingface.co/datasets/facebook/winoground',
    'by agreement',
    ('test',),
    'matching',
    _winoground_files,
    _winoground,
  ),
  Dataset(
    'pope',
    'benchmark',
    'benchmark',
    'coco_pope_{random,popular,adversarial}.json, val2014/*.jpg',
    'https://github.com/RUCAIBox/POPE',
    'MIT; pictures of COCO',
    ('random', 'popular', 'adversarial'),
    'yes_no',
    _pope_files,
    _pope,
  ),
  Dataset(
    'mme',
    'benchmark',
    'benchmark',
    '<subtask>/{images,questions_answers_YN}/ or both in <subtask>/',
    'https://github.com/BradyFU/Awesome-Multimodal-Large-Language-Models',
    'by request',
    _MME,
    'yes_no',
    _mme_files,
    _mme,
  ),
)

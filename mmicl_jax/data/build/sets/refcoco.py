"""RefCOCO: an expression for an object at a place of the picture."""

import io
import pickle
from collections.abc import Iterator, Sequence
from typing import Any

from mmicl_jax.data.build.catalog import (
  Dataset,
  Settings,
  Wanted,
  annotation,
)
from mmicl_jax.data.build.items import Bad, Skip, SourceItem, each, field, words
from mmicl_jax.data.build.sets.coco import coco_picture
from mmicl_jax.data.build.tree import Tree

_ROWS = ('top', 'middle', 'bottom')
_COLUMNS = ('left', 'middle', 'right')
_CUTS = (0.33, 0.67)
_MAX_BYTES = 1 << 29


class _Plain(pickle.Unpickler):
  """Reads lists, dicts, texts and numbers; nothing that runs."""

  def find_class(self, module: str, name: str) -> Any:
    raise pickle.UnpicklingError(f'it names {module}.{name}')

  def persistent_load(self, pid: Any) -> Any:
    raise pickle.UnpicklingError('it refers to something outside')


def _files(split: str, settings: Settings) -> Sequence[Wanted]:
  del split
  names = [f'refs({settings["split_by"]}).{end}' for end in ('p', 'json')]
  return [
    annotation(*(f'refcoco/{name}' for name in names), *names),
    annotation('refcoco/instances.json', 'instances.json'),
  ]


def _items(
  tree: Tree, split: str, settings: Settings, paths: Sequence[str | None]
) -> Iterator[SourceItem | Skip]:
  del settings
  refs_path, instances = paths
  assert refs_path is not None and instances is not None
  whole = tree.mapped(instances)
  images = {x.get('id'): x for x in whole.get('images', ()) if _is_object(x)}
  boxes = {
    x.get('id'): x.get('bbox')
    for x in whole.get('annotations', ())
    if _is_object(x)
  }
  rows = []
  for i, ref in enumerate(_refs(tree, refs_path)):
    where = f'{refs_path}[{i}]'
    sentences = ref.get('sentences') if _is_object(ref) else None
    if not isinstance(sentences, list):
      rows.append((where, Bad('missing_field')))
    elif ref.get('split') == split:
      rows += [(f'{where}[{j}]', (ref, s)) for j, s in enumerate(sentences)]

  def make(row: Any) -> SourceItem:
    ref, sentence = row
    image_id = field(ref, 'image_id', int)
    annotation = field(ref, 'ann_id', int)
    if image_id not in images or annotation not in boxes:
      raise Bad('bad_reference')
    expression = words(sentence, 'sent').strip()
    place = _place(boxes[annotation], images[image_id])
    number = str(sentence['sent_id'])
    return SourceItem(
      number,
      number,
      {'region': place},
      (coco_picture(tree, image_id, 'train2014', 'val2014', 'train2017'),),
      (expression,),
      meta={'box': boxes[annotation], 'ref_id': str(ref.get('ref_id'))},
    )

  return each(rows, make, lambda row: field(row[1], 'sent_id', (int, str)))


def _refs(tree: Tree, path: str) -> list[Any]:
  """The list of references, of a JSON file or of a pickle that runs nothing."""
  if path.endswith('.json'):
    return [row for _, row in tree.listed(path)]
  data = tree.annotation(path)
  if len(data) > _MAX_BYTES:
    raise tree.layout(path, f'it has more than {_MAX_BYTES} bytes')
  for encoding in ('ASCII', 'latin1'):
    try:
      value = _Plain(io.BytesIO(data), encoding=encoding).load()
      break
    except UnicodeDecodeError:
      continue
    except Exception as error:  # a pickle may raise anything
      raise tree.layout(path, f'it is no plain pickle: {error}') from error
  else:
    raise tree.layout(path, 'its texts cannot be read')
  if not isinstance(value, list):
    raise tree.layout(path, 'it is no list')
  return value


def _place(box: Any, image: Any) -> str:
  """The cell of a 3 x 3 grid that holds the centre of the box."""
  numbers = [x for x in box or () if isinstance(x, (int, float))]
  if len(numbers) != 4 or min(numbers[2:]) <= 0:
    raise Bad('bad_box')
  x, y, width, height = numbers
  column = _cell((x + width / 2) / field(image, 'width', int))
  row = _cell((y + height / 2) / field(image, 'height', int))
  if (row, column) == (1, 1):
    return 'center'
  return f'{_ROWS[row]} {_COLUMNS[column]}'


def _cell(share: float) -> int:
  return sum(share > cut for cut in _CUTS)


def _is_object(value: Any) -> bool:
  return isinstance(value, dict)


DATASETS = (
  Dataset(
    'refcoco',
    'image QA',
    'train',
    'refcoco/{refs(unc).p, instances.json}, train2014/COCO_train2014_*.jpg',
    'https://github.com/lichengunc/refer',
    'Apache 2.0; pictures of COCO',
    ('train', 'val', 'testA', 'testB'),
    'region',
    _files,
    _items,
    shots=5,
    settings={'split_by': ('unc', 'google')},
  ),
)

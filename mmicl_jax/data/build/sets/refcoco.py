"""RefCOCO: an expression for an object at a place of the picture."""

import io
import pickle
from collections.abc import Iterator, Sequence
from typing import Any

from mmicl_jax.data.build.catalog import Dataset, Settings, Wanted, annotation
from mmicl_jax.data.build.items import Bad, Skip, SourceItem
from mmicl_jax.data.build.rows import answered, each, field
from mmicl_jax.data.build.sets.coco import coco_picture, in_split
from mmicl_jax.data.build.tree import Tree

_ROWS = ('top', 'middle', 'bottom')
_COLUMNS = ('left', 'middle', 'right')
_CUTS = (0.33, 0.67)
_SPLITS = {
  'unc': ('train', 'val', 'testA', 'testB'),
  'google': ('train', 'val', 'test'),
}
_FAR = 1e9  # pixels; also below NaN and infinity
_MAX_BYTES = 1 << 29


class _Plain(pickle._Unpickler):
  """Reads lists, dicts, texts and numbers; nothing that runs.

  It is the one in Python, which takes a few seconds: a few bytes can ask that
  in C for any amount of memory, by a large number of a memo.
  """

  dispatch = {
    code: load
    for code, load in pickle._Unpickler.dispatch.items()
    if code != pickle.BYTEARRAY8[0]  # it takes memory before it reads
  }

  def find_class(self, module: str, name: str) -> Any:
    raise pickle.UnpicklingError(f'it names {module}.{name}')

  def persistent_load(self, pid: Any) -> Any:
    raise pickle.UnpicklingError('it refers to something outside')


def _splits(tree: Tree, settings: Settings) -> tuple[str, ...]:
  del tree
  return _SPLITS[settings['split_by']]


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
  images = _by_id(tree, instances, whole, 'images')
  objects = _by_id(tree, instances, whole, 'annotations')
  rows = []
  for i, ref in enumerate(_refs(tree, refs_path)):
    if not in_split(ref, split):
      continue
    where = f'{refs_path}[{i}]'
    sentences = ref.get('sentences') if isinstance(ref, dict) else None
    if isinstance(sentences, list):
      rows += [(f'{where}[{j}]', (ref, s)) for j, s in enumerate(sentences)]
    else:
      rows.append((where, Bad('missing_field')))

  def make(row: Any) -> SourceItem:
    ref, sentence = row
    image_id = field(ref, 'image_id', int)
    object_id = field(ref, 'ann_id', int)
    if image_id not in images or object_id not in objects:
      raise Bad('bad_reference')
    expression = answered(sentence, 'sent').strip()
    box = field(objects[object_id], 'bbox', list)
    number = str(sentence['sent_id'])
    return SourceItem(
      number,
      number,
      {'region': region_of(box, images[image_id])},
      (coco_picture(tree, image_id, 'train2014', 'val2014', 'train2017'),),
      (expression,),
      meta={'box': box, 'ref_id': str(field(ref, 'ref_id', (int, str)))},
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


def region_of(box: Any, image: Any) -> str:
  """The cell of a 3 x 3 grid that holds the centre of the box."""
  finite = [x for x in box if isinstance(x, (int, float)) and abs(x) < _FAR]
  if len(box) != 4 or len(finite) != 4:
    raise Bad('bad_box')
  x, y, width, height = (float(number) for number in box)
  column = _cell(_centre(x, x + width, field(image, 'width', int)))
  row = _cell(_centre(y, y + height, field(image, 'height', int)))
  if (row, column) == (1, 1):
    return 'center'
  return f'{_ROWS[row]} {_COLUMNS[column]}'


def _centre(start: float, end: float, size: int) -> float:
  """Of the part of a side that is in the picture, as a share of its size."""
  start, end = max(start, 0), min(end, size)
  if start >= end:
    raise Bad('bad_box')
  return (start + end) / 2 / size


def _cell(share: float) -> int:
  return sum(share > cut for cut in _CUTS)


def _by_id(
  tree: Tree, path: str, whole: dict[str, Any], key: str
) -> dict[int, Any]:
  if not isinstance(whole.get(key), list):
    raise tree.layout(path, f'it has no list "{key}"')
  return {
    row['id']: row
    for row in whole[key]
    if isinstance(row, dict) and isinstance(row.get('id'), int)
  }


DATASETS = (
  Dataset(
    'refcoco',
    'image QA',
    'train',
    'refcoco/{refs(unc).p, instances.json}, train2014/COCO_train2014_*.jpg',
    'https://github.com/lichengunc/refer',
    'Apache 2.0; pictures of COCO',
    _SPLITS['unc'],
    'region',
    _files,
    _items,
    shots=5,
    settings={'split_by': ('unc', 'google')},
    discover=_splits,
  ),
)

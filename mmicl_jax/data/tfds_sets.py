"""Sets that TensorFlow Datasets has, as records: 'tfds:NAME#SPLIT'.

tfds:coco_captions/2014#train+restval   pictures with five captions each
tfds:ref_coco/refcoco_unc#train         the expression for an object at a place

They are read without TensorFlow's pipelines, which asks for their ArrayRecord
form: `tfds build coco_captions --file_format=array_record`.
"""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, SupportsIndex

from mmicl_jax.context.templates import load_templates
from mmicl_jax.context.turns import Turn, assemble
from mmicl_jax.data.build.items import Bad
from mmicl_jax.data.build.sets.refcoco import region_of
from mmicl_jax.data.build.words import respelled
from mmicl_jax.data.pairs import pair_record
from mmicl_jax.data.records import Record
from mmicl_jax.errors import UserError

PREFIX = 'tfds:'
# How many records an item gives: counting its texts would mean to read all
# pictures first. COCO has five captions at least; expressions are eight on
# average, and an item with fewer repeats them.
_RECORDS = {'coco_captions': 5, 'ref_coco': 8}


class TfdsIndex(Sequence):
  """Random access to the records of a split of TensorFlow Datasets.

  Item i gives the records i x n to i x n + n - 1. Raises UserError if the set
  is not one of those above, is not prepared on this machine, has no such split,
  or if the package is missing.
  """

  def __init__(
    self, path: str, data_dir: Any = None, *, need_answer: bool = True
  ):
    del need_answer  # every item has answers
    self.path = path
    name, _, split = path.removeprefix(PREFIX).partition('#')
    self._set = name.split('/')[0].split(':')[0]
    if self._set not in _RECORDS:
      raise UserError(
        f'{path}: of TensorFlow Datasets only {", ".join(_RECORDS)} are read'
      )
    if not split:
      raise UserError(f'{path} names no split: write {path}#train')
    try:
      tfds = importlib.import_module('tensorflow_datasets')
    except ImportError as error:
      raise UserError(
        f'{path} needs a package that is not installed ({error}): pip install '
        'tensorflow-datasets'
      ) from error
    try:
      self._items: Any = tfds.data_source(
        name,
        split=split,
        data_dir=data_dir,
        decoders={'image': tfds.decode.SkipDecoding()},
      )
    except Exception as error:  # it raises anything, also for a wrong name
      raise UserError(
        f'{path} cannot be read ({str(error).strip().splitlines()[0]}): check '
        f'the split, or run tfds build {name} --file_format=array_record'
      ) from error

  def __len__(self) -> int:
    return len(self._items) * _RECORDS[self._set]

  def __getitem__(self, i: SupportsIndex) -> Record:
    index = range(len(self))[i]
    item, part = divmod(index, _RECORDS[self._set])
    value, where = self._items[item], f'{self.path}:{index}'
    name = f'{value["image/id"]}/{part}'
    if self._set == 'coco_captions':
      captions = value['captions']['text']
      return pair_record(
        value['image'], captions[part % len(captions)], name, where
      )
    expressions = list(_expressions(value['objects']))
    if not expressions:
      raise UserError(f'{where}: the picture has no expression with a box')
    region, text = expressions[part % len(expressions)]
    form = load_templates('region').text(0, name, region=region)
    example = assemble(Turn(form, [value['image']], respelled(text)))
    return Record(
      example.inputs,
      [value['image']],
      example.targets,
      id=name,
      where=where,
      extra={'region': region},
    )


def _expressions(objects: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
  """(place, expression) of each expression; boxes without an area have none."""
  texts = objects['refexp']['raw']
  for box, own in zip(objects['bbox'], texts, strict=True):
    top, left, bottom, right = map(float, box)
    box = [left, top, right - left, bottom - top]
    try:
      region = region_of(box, {'width': 1, 'height': 1})
    except Bad:
      continue
    for text in own:
      text = text.decode() if isinstance(text, bytes) else str(text)
      if text.strip():
        yield region, ' '.join(text.split())

"""Sets of TensorFlow Datasets as records; tests/t5x reads them by the package
itself."""

import sys
import types

import numpy as np
import pytest

from mmicl_jax.data import mixtures
from mmicl_jax.data.opened import open_index, source_name
from mmicl_jax.data.sources import open_sources
from mmicl_jax.errors import UserError

JPEG = b'\xff\xd8\xff' + bytes(60)


def coco(i):
  texts = [b' a kite %d %d\n' % (i, j) for j in range(5 + i)]
  return {'image': JPEG, 'image/id': 7 + i, 'captions': {'text': texts}}


def refcoco(i):
  """Two objects, of which the first has no area, and three expressions."""
  boxes = [np.zeros(4, np.float32), np.float32([0, 0, 0.2, 0.3])]
  said = [np.array(x, object) for x in ([b'none'], [b'kite', b'image 1', b''])]
  return {
    'image': JPEG,
    'image/id': i,
    'objects': {'bbox': boxes, 'refexp': {'raw': said}},
  }


@pytest.fixture
def package(monkeypatch):
  """As much of the package as is used, with what it was asked for."""
  asked = []

  def data_source(name, **options):
    asked.append((name, options['split'], options['decoders']))
    if options['split'] == 'none':
      raise ValueError("Unknown split 'none'.\nmore")
    return [(coco if 'coco_captions' in name else refcoco)(i) for i in range(2)]

  module = types.ModuleType('tensorflow_datasets')
  module.data_source = data_source
  module.decode = types.SimpleNamespace(SkipDecoding=lambda: 'as it is')
  monkeypatch.setitem(sys.modules, module.__name__, module)
  return asked


def test_five_captions_of_each_picture(package):
  [source] = open_sources('tfds:coco_captions/2014#val', templates='caption')
  assert len(source.data) == 10 and source.name == 'coco_captions/2014'
  assert package == [('coco_captions/2014', 'val', {'image': 'as it is'})]
  texts = [example.targets for example in source.data]
  assert texts == [f'a kite {i} {j}' for i in range(2) for j in range(5)]
  index = open_index('tfds:coco_captions/2014#val')
  assert [index[0].id, index[9].id] == ['7/0', '8/4']
  assert index[0].images == (JPEG,)


def test_expressions_at_the_place_of_their_box(package):
  index = open_index('tfds:ref_coco/refcoco_unc#train')
  assert len(index) == 16
  found = [record.output_text for record in index][:3]
  assert found == ['kite', 'picture 1', 'kite']
  assert all('top left' in record.input_text for record in index)
  assert index[3].example.inputs.count('图') == 1
  assert index[3].extra == {'region': 'top left'}


def test_a_declared_set_needs_no_folder(package, tmp_path):
  path = tmp_path / 'mine.json'
  path.write_text(
    '{"train": {"coco_caption_tfds": 2, "refcoco_tfds": 1}, '
    '"validation": {"coco_caption_tfds": 3}}'
  )
  data = mixtures.training_data(str(path), str(tmp_path))
  assert data[0] == 'tfds:coco_captions/2014#train+restval'
  assert [source_name(name) for name in data] == [
    'coco_captions/2014',
    'ref_coco/refcoco_unc',
  ]
  sources = open_sources(data, weights=mixtures.training_rates(str(path)))
  assert [source.rate for source in sources] == [2, 1]
  held_out = mixtures.held_out_data(str(path), str(tmp_path))
  assert held_out == ('tfds:coco_captions/2014#val',)


def test_what_is_wrong_is_named(package, monkeypatch):
  with pytest.raises(UserError, match='only coco_captions, ref_coco are read'):
    open_index('tfds:mnist#train')
  with pytest.raises(UserError, match='write tfds:coco_captions/2014#train'):
    open_index('tfds:coco_captions/2014')
  with pytest.raises(UserError, match=r"split 'none'.\): check the split"):
    open_index('tfds:coco_captions/2014#none')
  monkeypatch.setitem(sys.modules, 'tensorflow_datasets', None)
  with pytest.raises(UserError, match='pip install tensorflow-datasets'):
    open_index('tfds:coco_captions/2014#val')

"""Sets that TensorFlow Datasets itself wrote, in miniature."""

import importlib.resources
import importlib.resources.abc
import io
import pickle
import sys

import numpy as np
import pytest
from PIL import Image

tfds = pytest.importorskip('tensorflow_datasets')

from mmicl_jax.data.opened import open_index  # noqa: E402


def jpeg(i):
  file = io.BytesIO()
  Image.new('RGB', (12, 9), (i, 0, 0)).save(file, 'JPEG')
  return file.getvalue()


def items(name):
  for i in range(2):
    thing = {
      'area': 4,
      'bbox': tfds.features.BBox(0.7, 0.7, 0.9, 0.9),
      'id': i,
      'label': 1,
    }
    both = {'image': io.BytesIO(jpeg(i)), 'image/id': i}
    if name.startswith('coco'):
      captions = [{'id': j, 'text': f'a kite {i} {j}'} for j in range(5)]
      things = [{**thing, 'is_crowd': False}]
      rest = {'image/filename': f'{i}.jpg', 'captions': captions}
      yield i, {**both, **rest, 'objects': things}
    else:
      rest = {
        'gt_box_index': 0,
        'mask': np.zeros((9, 12, 3), np.uint8),
        'refexp': [
          {'raw': f'{text} {i}', 'refexp_id': i} for text in ('kite', 'up')
        ],
      }
      things = [{**thing, **rest}]
      yield i, {**both, 'coco_annotations': [thing], 'objects': things}


@pytest.mark.parametrize(
  'name, texts',
  [
    (
      'coco_captions/2014',
      [f'a kite {i} {j}' for i in (0, 1) for j in range(5)],
    ),
    ('ref_coco/refcoco_unc', ['kite 0', 'up 0'] * 4 + ['kite 1', 'up 1'] * 4),
  ],
)
def test_records_of_a_prepared_set(tmp_path, monkeypatch, name, texts):
  # TensorFlow Datasets asks for a backport of what Python 3.11 has.
  monkeypatch.setitem(sys.modules, 'importlib_resources', importlib.resources)
  builder = tfds.builder(name, data_dir=tmp_path, file_format='array_record')
  monkeypatch.setattr(
    builder, '_split_generators', lambda _: {'train': items(name)}
  )
  builder.download_and_prepare()
  index = open_index(f'tfds:{name}#train', tmp_path)
  assert [record.output_text for record in index] == texts
  assert index[-1].images == (jpeg(1),)
  if name.startswith('ref'):
    assert 'bottom right' in index[0].input_text
  assert len(pickle.loads(pickle.dumps(index))) == len(texts)

"""Official trees in miniature, with what must come of them.

The trees lie beside the checkout and are not part of it; sets_test.py writes
small ones of its own for every dataset.
"""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from mmicl_jax.data.build import run, table
from mmicl_jax.data.build.plan import Plan
from mmicl_jax.data.build.tree import Tree

ROOT = Path(__file__).parents[4] / 'shared' / 'data' / 'miniatures'
pytestmark = pytest.mark.skipif(
  not ROOT.is_dir(),
  reason='the official miniatures are not beside the checkout',
)
NAMES = ('nlvr2', 'vqav2', 'vcr', 'msrvtt_qa')


@pytest.fixture(scope='module')
def expected():
  return json.loads((ROOT / 'expected.json').read_text('utf-8'))['datasets']


@pytest.fixture(scope='module')
def built(tmp_path_factory):
  """built(name): folder and manifest of a dataset, made once."""
  made = {}

  def build(name):
    if name not in made:
      if name == 'msrvtt_qa':
        pytest.importorskip('av')
      out = tmp_path_factory.mktemp('built') / name
      dataset = table.dataset_of(name)
      plan = Plan(dataset, Tree(ROOT / name, dataset.shape), out)
      made[name] = out, run.build(plan)
    return made[name]

  return build


def records(out, split):
  text = (out / f'{split}.jsonl').read_text('utf-8')
  return [json.loads(line) for line in text.splitlines()]


def official(split):
  return re.sub('20[0-9][0-9]$', '', split)


def code(data):
  """The number that a still of the miniatures carries."""
  image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert('L')
  a = np.asarray(image)
  h, w = a.shape
  y = a[int(h * 0.45) : int(h * 0.55)].mean(0)
  bits = [int(y[int((i + 0.5) * w / 12)] > 127) << i for i in range(12)]
  return sum(bits)


@pytest.mark.parametrize('name', NAMES)
def test_every_item_has_a_record_or_a_reason(expected, built, name):
  out, manifest = built(name)
  for split, items in expected[name]['splits'].items():
    own = official(split)
    if own not in manifest['splits']:
      continue
    entry = manifest['splits'][own]
    found = {
      record['meta']['source_ids'][0]: record for record in records(out, own)
    }
    skipped = {x for xs in entry['skipped'].values() for x in xs}
    assert entry['found'] == len(items)
    assert entry['written'] == len(found)
    for item in items:
      source = str(item['id'])
      if item['status'] == 'ok':
        record = found[source]
        if name != 'vcr':
          assert record['output_text'] in item['answers']
        if name == 'vqav2':
          question = record['meta']['question']
          assert question == item['text'].replace('image 0', 'picture 0')
      else:
        assert source in skipped and source not in found


@pytest.mark.parametrize('name', ('nlvr2', 'vqav2'))
def test_pictures_are_the_items_own_and_keep_their_bytes(expected, built, name):
  out, manifest = built(name)
  files = {p.read_bytes() for p in (ROOT / name).rglob('*') if p.is_file()}
  for split, items in expected[name]['splits'].items():
    if official(split) not in manifest['splits']:
      continue
    codes = {str(item['id']): item['images'] for item in items}
    for record in records(out, official(split)):
      data = [(out / path).read_bytes() for path in record['input_image']]
      assert set(data) <= files
      [source] = record['meta']['source_ids']
      own = codes[source]
      assert [code(x) for x in data[-len(own) :]] == own
      asked = [*record['meta']['shots'], record['id']]
      shown = [c for i in asked for c in codes[i.split('/')[-1]]]
      assert [code(x) for x in data] == shown
      assert len(set(shown)) == len(shown)


def test_objects_of_vcr_are_crops_of_their_boxes(expected, built):
  out, _ = built('vcr')
  raw = ROOT / 'vcr'
  rows = [
    json.loads(line)
    for line in (raw / 'train.jsonl').read_text('utf-8').splitlines()
  ]
  rows = {row['annot_id']: row for row in rows}
  for record in records(out, 'train'):
    row = rows[record['meta']['source_ids'][0]]
    meta = json.loads((raw / 'vcr1images' / row['metadata_fn']).read_text())
    named = []
    for part in (row['question'], *row['answer_choices']):
      for token in part:
        named += token if isinstance(token, list) else []
    named = list(dict.fromkeys(named))
    assert len(record['input_image']) == 1 + len(named)
    for number, path in zip(named, record['input_image'][1:], strict=True):
      with Image.open(out / path) as crop:
        left, top, right, bottom = meta['boxes'][number][:4]
        width = min(round(right), meta['width']) - max(round(left), 0)
        height = min(round(bottom), meta['height']) - max(round(top), 0)
        assert crop.size == (width, height)
    label = row['answer_label']
    assert record['output_text'].startswith(f'{"ABCD"[label]}. ')
    assert record['output_text'] in record['input_text']


def test_frames_are_uniform_and_in_order(expected, built):
  out, _ = built('msrvtt_qa')
  for split, items in expected['msrvtt_qa']['splits'].items():
    wanted = {str(x['id']): x for x in items}
    for record in records(out, official(split)):
      item = wanted[record['meta']['source_ids'][0]]
      frames = []
      for path in record['input_image']:
        a = np.asarray(Image.open(out / path).convert('L'))
        h, w = a.shape
        y = a[int(h * 0.15) : int(h * 0.35)].mean(0)
        frames.append(
          sum(int(y[int((i + 0.5) * w / 8)] > 127) << i for i in range(8))
        )
      off = np.abs(np.array(frames) - np.array(item['frames_8']))
      assert off.max() <= item['frame_tolerance'], frames
      assert (np.diff(frames) > 0).all()

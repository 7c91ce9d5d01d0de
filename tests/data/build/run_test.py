"""Building: the same bytes however it is run, killed, or asked for."""

import contextlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from mmicl_jax.__main__ import main
from mmicl_jax.data import records
from mmicl_jax.data.build import run, shards, table
from mmicl_jax.data.build.items import Bad
from mmicl_jax.data.build.plan import Plan
from mmicl_jax.data.build.tree import Tree
from mmicl_jax.errors import UserError

ITEMS = 150
BROKEN = {8: 'broken_image', 20: 'missing_file', 33: 'not_an_image'}
ANSWERS = ['blue', 'blue', 'navy', '']


def picture(number):
  pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3), 'uint8')
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, 'JPEG')
  return file.getvalue()


@pytest.fixture(scope='module')
def raw(tmp_path_factory):
  """VQAv2 in miniature: two questions to every third picture, some broken."""
  root = tmp_path_factory.mktemp('raw')
  (root / 'train2014').mkdir()
  questions, annotations = [], []
  for i in range(ITEMS):
    image = i - 1 if i % 3 == 1 else i
    number = 10 * i + 3
    questions.append(
      {
        'image_id': image,
        'question': f'What is number {i}?',
        'question_id': number,
      }
    )
    annotations.append(
      {
        'question_id': number,
        'image_id': image,
        'answers': [{'answer': answer} for answer in ANSWERS],
      }
    )
    data = picture(image)
    reason = BROKEN.get(image)
    data = {'broken_image': data[:200], 'not_an_image': b'<html>'}.get(
      reason, data
    )
    if reason != 'missing_file':
      path = root / 'train2014' / f'COCO_train2014_{image:012d}.jpg'
      path.write_bytes(data)
  random.Random(0).shuffle(annotations)
  for name, value in (
    ('v2_OpenEnded_mscoco_train2014_questions', {'questions': questions}),
    ('v2_mscoco_train2014_annotations', {'annotations': annotations}),
  ):
    (root / f'{name}.json').write_text(json.dumps(value))
  return root


def build(raw, out, workers=1, overwrite=False, **plan):
  dataset = table.dataset_of('vqav2')
  planned = Plan(dataset, Tree(raw, dataset.shape), out, **plan)
  return run.build(planned, workers, overwrite)


def content(out):
  return {
    str(path.relative_to(out)): path.read_bytes()
    for path in sorted(out.rglob('*'))
    if path.is_file()
  }


@pytest.fixture(scope='module')
def built(raw, tmp_path_factory):
  out = tmp_path_factory.mktemp('built') / 'out'
  build(raw, out)
  return out


def test_what_became_of_every_item_is_told(raw, built):
  manifest = json.loads((built / 'manifest.json').read_text())
  entry = manifest['splits']['train']
  assert (
    entry['found']
    == ITEMS
    == entry['written'] + sum(map(len, entry['skipped'].values()))
  )
  assert {k: len(v) for k, v in entry['skipped'].items()} == {
    'broken_image': 1,
    'missing_file': 1,
    'not_an_image': 2,
  }
  assert manifest['complete'] and manifest['images']['count'] == len(
    os.listdir(built / 'images')
  )
  assert not (built / '.parts').exists()
  found = list(records.read_records(built / 'train.jsonl'))
  assert [r.id for r in found] == sorted(
    (r.id for r in found), key=lambda i: int(i.split('/')[-1])
  )
  assert {r.output_text for r in found} == {'blue', 'navy'}
  share = np.mean([r.output_text == 'blue' for r in found])
  assert 0.55 < share < 0.78  # drawn in proportion to its count


def test_demonstrations_are_others_and_show_other_pictures(built):
  counts = []
  for record in records.read_records(built / 'train.jsonl'):
    shots = record.meta['shots']
    counts.append(len(shots))
    assert record.id not in shots and len(set(shots)) == len(shots)
    assert len(set(record.input_image)) == len(record.input_image)
    assert len(record.input_image) == len(shots) + 1
  assert set(counts) == set(range(6))


@pytest.mark.parametrize('workers', [2, 4])
def test_workers_places_and_order_of_files_change_nothing(
  raw, built, tmp_path, workers
):
  moved = tmp_path / 'elsewhere'
  moved.mkdir()
  for path in sorted(raw.rglob('*'), reverse=True):
    if path.is_file():
      target = moved / 'a' / path.relative_to(raw)
      target.parent.mkdir(parents=True, exist_ok=True)
      shutil.copy(path, target)
  build(moved / 'a', tmp_path / 'out', workers)
  assert content(tmp_path / 'out') == content(built)


def test_another_seed_draws_other_demonstrations_of_the_same_items(
  raw, built, tmp_path
):
  build(raw, tmp_path / 'out', seed=1)
  one, two = (
    list(records.read_records(out / 'train.jsonl'))
    for out in (built, tmp_path / 'out')
  )
  assert [r.id for r in one] == [r.id for r in two]
  shots = [[r.meta['shots'] for r in found] for found in (one, two)]
  assert sum(a != b for a, b in zip(*shots, strict=True)) > ITEMS / 2


def test_a_limit_gives_the_first_records_of_the_same_stream(
  raw, built, tmp_path
):
  build(raw, tmp_path / 'out', limit=12)
  whole = (built / 'train.jsonl').read_bytes().splitlines()
  assert (tmp_path / 'out' / 'train.jsonl').read_bytes().splitlines() == whole[
    :12
  ]


def test_array_records_hold_the_pictures(raw, built, tmp_path, monkeypatch):
  module = pytest.importorskip('array_record.python.array_record_module')
  monkeypatch.setattr(shards, 'PER_SHARD', 60)
  build(raw, tmp_path / 'out', format='array_record')
  assert not (tmp_path / 'out' / 'images').exists()
  lines = []
  for i in range(3):
    path = tmp_path / 'out' / f'train-{i:05d}-of-00003.array_record'
    lines += module.ArrayRecordReader(str(path)).read_all()
  plain = list(records.read_records(built / 'train.jsonl'))
  assert len(lines) == len(plain)
  for line, record in zip(lines, plain, strict=True):
    own = records.parse_record(line)
    assert (own.id, own.input_text) == (record.id, record.input_text)
    for a, b in zip(own.input_image, record.images, strict=True):
      with open(b, 'rb') as file:
        assert records.parse_record(line) and _decoded(a) == file.read()


def _decoded(text):
  import base64

  return base64.b64decode(text)


def test_a_finished_build_is_only_verified(raw, built, tmp_path):
  shutil.copytree(built, tmp_path / 'out')
  before = {p: p.stat().st_mtime_ns for p in (tmp_path / 'out').rglob('*')}
  build(raw, tmp_path / 'out')
  after = {p: p.stat().st_mtime_ns for p in (tmp_path / 'out').rglob('*')}
  assert before == after
  lost, *_, flipped = sorted((tmp_path / 'out' / 'images').iterdir())
  lost.unlink()
  build(raw, tmp_path / 'out')
  assert content(tmp_path / 'out') == content(built)
  flipped.write_bytes(flipped.read_bytes()[:-3] + b'\0\xff\xd9')
  build(raw, tmp_path / 'out')
  assert content(tmp_path / 'out') == content(built)


def test_another_build_is_refused_or_replaced(raw, built, tmp_path):
  shutil.copytree(built, tmp_path / 'out')
  with pytest.raises(UserError, match='its seed is 0, not 4'):
    build(raw, tmp_path / 'out', seed=4)
  assert content(tmp_path / 'out') == content(built)
  build(raw, tmp_path / 'out', seed=4, overwrite=True)
  build(raw, tmp_path / 'new', seed=4)
  assert content(tmp_path / 'out') == content(tmp_path / 'new')


@pytest.mark.parametrize('name', ['thesis.tex', 'images/mine.jpg'])
def test_a_folder_that_is_not_ours_is_left_alone(raw, tmp_path, name):
  mine = tmp_path / 'out' / name
  mine.parent.mkdir(parents=True)
  mine.write_text('mine')
  with pytest.raises(UserError, match=name.split('/')[0]):
    build(raw, tmp_path / 'out', overwrite=True)
  assert content(tmp_path / 'out') == {name: b'mine'}


def test_too_many_bad_items_write_no_records(raw, tmp_path):
  with pytest.raises(UserError, match=r'4 of 150 items.*not_an_image \(2\)'):
    build(raw, tmp_path / 'out', max_bad=0.01)
  assert os.listdir(tmp_path / 'out') == ['manifest.json']
  manifest = json.loads((tmp_path / 'out' / 'manifest.json').read_text())
  assert manifest['complete'] is False
  build(raw, tmp_path / 'out', overwrite=True)
  assert (tmp_path / 'out' / 'train.jsonl').exists()


@pytest.mark.parametrize(
  'change, message',
  [
    (['--dataset', 'nonsense'], '--dataset nonsense: unknown'),
    (['--splits', 'nonsense'], "no split 'nonsense'"),
    (['--set', 'frames=8'], 'no such setting'),
    (['--shots', '99'], '--shots 99'),
    (['--limit', '0'], '--limit 0'),
    (['--raw', 'absent'], '--raw absent does not exist'),
    (['--splits', 'val'], 'v2_OpenEnded_mscoco_val2014_questions.json'),
  ],
)
def test_mistakes_are_one_sentence(raw, tmp_path, capsys, change, message):
  command = ['data', 'build', '--dataset', 'vqav2', '--raw', str(raw)]
  command += ['--out', str(tmp_path / 'out'), *change]
  assert main(command) == 2
  shown = capsys.readouterr().err
  assert message in shown and shown.count('\n') == 1
  assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
  'data, message',
  [
    (b'{"questions": [\xff]}', 'byte 15 is not UTF-8'),
    (b'{"questions": [', 'not JSON'),
    (b'{"question": []}', 'has no "questions"'),
    (b'[]', 'has no "questions"'),
  ],
)
def test_annotation_files_that_are_not_the_official_ones(
  raw, tmp_path, capsys, data, message
):
  shutil.copytree(raw, tmp_path / 'raw')
  name = 'v2_OpenEnded_mscoco_train2014_questions.json'
  (tmp_path / 'raw' / name).write_bytes(data)
  command = ['data', 'build', '--dataset', 'vqav2', '--workers', '1']
  command += ['--raw', str(tmp_path / 'raw'), '--out', str(tmp_path / 'out')]
  assert main(command) == 2
  shown = capsys.readouterr().err.splitlines()[-1]
  assert message in shown and name in shown
  assert not (tmp_path / 'out' / 'manifest.json').exists()


def test_the_list_names_all_datasets(capsys):
  assert main(['data', 'build', '--list', '--json']) == 0
  rows = json.loads(capsys.readouterr().out)
  assert {row['dataset'] for row in rows} == {*table.DATASETS, 'csv'}
  assert all(row['tree'] and row['source'] and row['licence'] for row in rows)


def test_members_of_a_zip(tmp_path):
  """A damaged one is named like a damaged file, and a bomb is not unpacked."""
  path = tmp_path / 'a.zip'
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as file:
    file.writestr('good.jpg', picture(1))
    file.writestr('cut.jpg', picture(2))
    file.writestr('empty.jpg', b'')
  data = bytearray(path.read_bytes())
  start = data.index(b'cut.jpg') + len('cut.jpg')
  data[start + 20 : start + 60] = bytes(40)
  path.write_bytes(data)
  found = Tree(tmp_path)
  assert found.read('a.zip!good.jpg') == picture(1)
  for name, reason in (
    ('cut.jpg', 'broken_image'),
    ('empty.jpg', 'empty_file'),
    ('no.jpg', 'missing_file'),
    ('../good.jpg', 'outside_raw'),
  ):
    with pytest.raises(Bad) as error:
      found.read(f'a.zip!{name}')
    assert error.value.reason == reason


@pytest.mark.slow
def test_no_worker_outlives_a_build_that_is_killed(raw, tmp_path):
  """It would write pictures beside the build that goes on."""
  out = tmp_path / 'out'
  command = [sys.executable, '-m', 'mmicl_jax', 'data', 'build']
  command += ['--dataset', 'vqav2', '--raw', raw, '--out', out]
  command += ['--workers', '2', '--seed', '7']
  path = os.pathsep.join(filter(None, sys.path))
  process = subprocess.Popen(
    list(map(str, command)),
    env=os.environ | {'PYTHONPATH': path},
    stderr=subprocess.DEVNULL,
    start_new_session=True,  # all that it starts is in its group
  )
  while process.poll() is None and not (out / 'images').exists():
    time.sleep(0.005)  # until there are workers
  process.kill()
  process.wait()
  for _ in range(6000):  # a busy machine needs minutes
    try:
      os.killpg(process.pid, 0)
    except ProcessLookupError:
      return
    time.sleep(0.05)
  os.killpg(process.pid, signal.SIGKILL)
  pytest.fail('a worker waits for ever')


def test_a_replacement_that_is_killed_leaves_nothing_of_the_former(
  raw, tmp_path, monkeypatch
):
  """At any of the last steps, of which a kill seldom finds one."""
  build(raw, tmp_path / 'fresh', limit=2)
  build(raw, tmp_path / 'former', limit=3, format='array_record')
  real, left = run._publish, [0]

  def killed(function):
    def step(*args, **rest):
      left[0] -= 1
      if left[0] == -1:
        raise KeyboardInterrupt
      return function(*args, **rest)

    return step

  def publish(*args):
    with monkeypatch.context() as patch:
      for name in ('replace', 'unlink', 'rmdir'):
        patch.setattr(os, name, killed(getattr(os, name)))
      patch.setattr(shutil, 'rmtree', killed(shutil.rmtree))
      real(*args)

  for moment in range(100):
    out, left[0], whole = tmp_path / str(moment), moment, False
    shutil.copytree(tmp_path / 'former', out)
    with monkeypatch.context() as patch:
      patch.setattr(run, '_publish', publish)
      with contextlib.suppress(KeyboardInterrupt):
        build(raw, out, limit=2, overwrite=True)
        whole = True
    build(raw, out, limit=2, overwrite=True)
    assert content(out) == content(tmp_path / 'fresh')
    if whole:
      break
  assert whole and moment > 4

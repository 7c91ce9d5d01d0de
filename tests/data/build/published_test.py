"""WebSRC, VL-ICL Bench and the published MIC records, in miniature."""

import base64
import io
import json
import zipfile

import pytest
from PIL import Image

from mmicl_jax.data.build import run, table
from mmicl_jax.data.build.plan import Plan
from mmicl_jax.data.build.tree import Tree
from mmicl_jax.data.check import problems
from mmicl_jax.errors import UserError


def picture(shade):
  file = io.BytesIO()
  Image.new('RGB', (6 + shade % 7, 6), (shade, 99, 9)).save(file, 'PNG')
  return file.getvalue()


def write(path, value):
  path.parent.mkdir(parents=True, exist_ok=True)
  data = value if isinstance(value, bytes) else value.encode()
  path.write_bytes(data)


def build(name, raw, out, **more):
  dataset = table.dataset_of(name)
  plan = Plan(dataset, Tree(raw, dataset.shape), out, **more)
  return run.build(plan)


def records(out, split):
  file = out / f'{split.replace("/", ".")}.jsonl'
  assert all(not found for _, found in problems(str(file)))
  return [json.loads(line) for line in file.read_text('utf-8').splitlines()]


def shown(out, record):
  return [(out / image).read_bytes() for image in record['input_image']]


@pytest.fixture
def websrc(tmp_path):
  raw = tmp_path / 'raw'
  write(
    raw / 'data/dataset_split_release.json',
    json.dumps({'dev': ['au01'], 'train': ['au03', 'bo01']}),
  )
  head = 'question,id,element_id,answer_start,answer\n'
  for folder, rows in (
    ('auto/03', 'What?,au030000100000,7,0,None\nIs it?,au0300002001,-1,1,no\n'),
    ('book/01', 'Who?,bo010000100000,5,1,A. Writer\n,bo010000100001,5,1,x\n'),
    ('auto/01', 'Price?,au010000100000,5,1,$5\nGone?,au010000900000,5,1,y\n'),
  ):  # fmt: skip
    write(raw / f'data/{folder}/dataset.csv', head + rows)
  write(raw / 'data/auto/08/dataset.csv', 'question,id\nWhat?,au080000100000\n')
  for i, page in enumerate(
    ('auto/03/processed_data/0300001', 'auto/03/processed_data/0300002',
     'book/01/processed_data/0100001', 'auto/01/processed_data/0100001',
     'auto/08/processed_data/0800001')
  ):  # fmt: skip
    write(raw / f'data/{page}.png', picture(i))
  return raw


def test_websrc(websrc, tmp_path):
  out = tmp_path / 'out'
  found = build('websrc', websrc, out)
  assert list(found['splits']) == ['train', 'dev']
  assert found['unlabelled'] == ['test']
  train = records(out, 'train')
  assert [r['id'].rpartition('/')[2] for r in train] == [
    'au030000100000', 'au0300002001', 'bo010000100000',
  ]  # fmt: skip
  assert [r['output_text'] for r in train] == ['None', 'no', 'A. Writer']
  assert [shown(out, r) for r in train] == [[picture(i)] for i in range(3)]
  assert found['splits']['train']['skipped'] == {
    'empty_text': ['bo010000100001']
  }
  assert found['splits']['dev']['skipped'] == {
    'missing_file': ['au010000900000']
  }
  build('websrc', websrc, tmp_path / 'test', splits=('test',))
  [asked] = records_without_answers(tmp_path / 'test')
  assert asked['output_text'] == '' and 'What?' in asked['input_text']


def records_without_answers(out):
  text = (out / 'test.jsonl').read_text('utf-8')
  return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def vl_icl(tmp_path):
  raw = tmp_path / 'raw'
  open_mi = [
    {
      'id': 'open_mi_0', 'image': ['open_mi/q.png'], 'question': 'This is a',
      'answer': 'dax', 'classes': ['dax', 'perpo'],
      'support': {
        'dax': {'images': ['open_mi/a.png', 'open_mi/b.png']},
        'perpo': {'images': ['open_mi/c.png', 'open_mi/gone.png']},
      },
    }
  ]  # fmt: skip
  write(raw / 'open_mi/query.json', json.dumps(open_mi))
  write(raw / 'open_mi/support.json', '[]')
  induction = [
    {'id': i, 'image': [f'{i}.png'], 'question': 'What is the result?',
     'answer': 3 + i, 'operator': '-'}
    for i in range(2)
  ]  # fmt: skip
  support = [
    {'id': 9, 'image': ['s.png'], 'question': 'What is the result?',
     'answer': [5, 1, 6]}
  ]  # fmt: skip
  write(raw / 'operator_induction/query.json', json.dumps(induction))
  write(raw / 'operator_induction/support.json', json.dumps(support))
  for i, name in enumerate('qabc'):
    write(raw / f'open_mi/{name}.png', picture(i))
  for i, name in enumerate('01s'):
    write(raw / f'operator_induction/{name}.png', picture(20 + i))
  return raw


def test_vl_icl_takes_its_own_support(vl_icl, tmp_path):
  for seed in range(9):  # until as many as there are were drawn
    out = tmp_path / f'{seed}'
    found = build('vl_icl', vl_icl, out, shots=3, seed=seed)
    assert list(found['splits']) == ['open_mi', 'operator_induction']
    [query] = records(out, 'open_mi')
    assert query['output_text'] == 'dax'
    assert shown(out, query)[-1] == picture(0)
    names = {s.rpartition('support/')[2] for s in query['meta']['shots']}
    assert names <= {'dax/0', 'dax/1', 'perpo/0'}
    assert len(query['input_image']) == 1 + len(names)
    assert query['input_text'].count('perpo') == ('perpo/0' in names)
    for number, record in enumerate(records(out, 'operator_induction')):
      assert record['meta']['score_id'] == f'operator_induction/{number}'
      assert record['output_text'] == str(3 + number)
      if record['meta']['shots']:
        assert ' 1\n\n' in record['input_text']
    if len(names) == 3:
      return
  pytest.fail('never three demonstrations')


FAULT = (
  'image 0 is <image0>图图图. Is image 0 red? yes\n\n'
  'image 0 is <image0>图图图. Is image 0 blue?'
)


@pytest.fixture
def release(tmp_path):
  raw = tmp_path / 'raw'
  lines = [
    {'input_text': FAULT, 'output_text': 'no, image 0 is not',
     'input_image': ['./data/coco/train2014/a_/1.png',
                     'data/coco/train2014/2.png'], 'output_image': ''},
    {'input_text': 'image 0 is <image0>图. What {image} is it?',
     'output_text': 'a cat', 'input_image': 'data/old/3.png'},
    {'input_text': 'image 0 is <image0>图. Where?', 'output_text': 'here',
     'input_image': ['data/coco/none.png']},
    {'input_text': 'Only <image0>图.', 'output_text': 'x', 'input_image': []},
    {'input_text': 'Text <image7> alone?', 'output_text': 'x',
     'input_image': ''},
    {'input_text': 'Text?', 'output_text': ' ', 'input_image': ''},
    {'input_text': 'Text?', 'output_text': 'plain', 'input_image': ''},
    {'input_text': '<image0>图?', 'output_text': 'x',
     'input_image': ['../../secret.png']},
  ]  # fmt: skip
  text = '\n'.join(json.dumps(line, ensure_ascii=False) for line in lines)
  write(raw / 'data_jsonl/vqa/okvqa/train.jsonl', f'{text}\nnot JSON\n')
  write(raw / 'data/new/3.png', picture(3))
  write(tmp_path / 'secret.png', picture(50))
  write(raw / 'data/coco/coco.zip', b'')
  with zipfile.ZipFile(raw / 'data/coco/coco.zip', 'w') as file:
    file.writestr('train2014/a_1.png', picture(1))
    file.writestr('val2014/2.png', picture(40))
    file.writestr('train2014/2.png', picture(2))
  return raw


def test_published_records_are_mended(release, tmp_path):
  out = tmp_path / 'out'
  settings = {'path_map': 'data/old=data/new'}
  found = build('mic_release', release, out, settings=settings, max_bad=1.0)
  entry = found['splits']['vqa/okvqa/train']
  assert entry['repaired'] == {
    'collapsed': ['0'], 'names': ['0'], 'paths': ['0', '1'],
  }  # fmt: skip
  assert entry['skipped'] == {
    'bad_line': ['data_jsonl/vqa/okvqa/train.jsonl:9'],
    'bad_reference': ['3'],
    'missing_file': ['2'],
    'no_answer': ['5'],
    'outside_raw': ['7'],
    'reserved_text': ['4'],
  }
  mended, cat, plain = records(out, 'vqa/okvqa/train')
  assert mended['id'] == 'mic_release/vqa/okvqa/train/0'
  assert mended['input_text'] == (
    'image 0 is <image0>图. Is image 0 red? yes\n\n'
    'image 1 is <image1>图. Is image 1 blue?'
  )
  assert mended['output_text'] == 'no, image 1 is not'
  assert shown(out, mended) == [picture(1), picture(2)]
  assert cat['input_text'] == 'image 0 is <image0>图. What {image} is it?'
  assert shown(out, cat) == [picture(3)]
  assert plain['input_text'] == 'Text?' and plain['input_image'] == []
  assert mended['meta']['shots'] == [] and mended['meta']['template'] is None


def sampled():
  held = base64.b64encode(picture(5)).decode()
  return {
    'input_text': 'image 0 is <image0>图. Which?',
    'input_image': [held], 'output_text': 'this',
  }  # fmt: skip


def test_sampled_lines_hold_their_pictures(tmp_path):
  write(tmp_path / 'raw/sampled/a.jsonl', json.dumps(sampled()))
  build('mic_release', tmp_path / 'raw', tmp_path / 'out')
  [record] = records(tmp_path / 'out', 'sampled')
  assert record['id'] == 'mic_release/sampled/0'
  assert shown(tmp_path / 'out', record) == [picture(5)]


def test_sampled_parquet(tmp_path):
  """Some shards of all that their names speak of."""
  pyarrow = pytest.importorskip('pyarrow')
  parquet = pytest.importorskip('pyarrow.parquet')
  folder = tmp_path / 'raw/sampled'
  folder.mkdir(parents=True)
  for i in range(2):
    rows = pyarrow.Table.from_pylist([sampled(), sampled()])
    parquet.write_table(rows, folder / f'train-0000{i}-of-00666-ab.parquet')
  build('mic_release', tmp_path / 'raw', tmp_path / 'out')
  found = records(tmp_path / 'out', 'sampled')
  assert len({r['id'] for r in found}) == 4
  assert shown(tmp_path / 'out', found[3]) == [picture(5)]
  (folder / 'train-00001-of-00666-ab.parquet').write_bytes(b'PAR1 cut')
  with pytest.raises(UserError, match='00001-of-00666-ab.parquet'):
    build('mic_release', tmp_path / 'raw', tmp_path / 'new')


def test_an_empty_tree_is_named(tmp_path):
  (tmp_path / 'raw').mkdir()
  for name in ('mic_release', 'vl_icl', 'websrc'):
    with pytest.raises(UserError, match='the tree should be'):
      build(name, tmp_path / 'raw', tmp_path / 'out')
  assert all('splits' in d.listed() for d in table.DATASETS.values())

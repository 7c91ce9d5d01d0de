import json
import pickle

import pytest

from mmicl_jax.data import opened
from mmicl_jax.data.records import Record
from mmicl_jax.data.sources import open_sources
from mmicl_jax.errors import UserError


def line(i):
  return Record(f'What is {i}?', [], f'it is {i}', id=f'x/{i}').to_json()


@pytest.fixture
def built(tmp_path):
  """Splits of two and one file, the first one sharded as ArrayRecord."""
  module = pytest.importorskip('array_record.python.array_record_module')
  names = [
    'train-00000-of-00002.array_record',
    'train-00001-of-00002.array_record',
  ]
  for name, numbers in zip(names, ((0, 1, 2), (3, 4)), strict=True):
    writer = module.ArrayRecordWriter(str(tmp_path / name), 'group_size:1')
    for i in numbers:
      writer.write(line(i).encode())
    writer.close()
  (tmp_path / 'a.val.jsonl').write_text(line(9) + '\n')
  splits = {
    'train': {'files': dict.fromkeys(names, '')},
    'a/val': {'files': {'a.val.jsonl': ''}},
  }
  manifest = {'format': 1, 'complete': True, 'splits': splits}
  (tmp_path / 'manifest.json').write_text(json.dumps(manifest))
  return tmp_path


def ids(data):
  return [record.id for record in data]


def test_names_stand_for_files(built):
  every = opened.open_chain(str(built))
  assert ids(every) == ['x/0', 'x/1', 'x/2', 'x/3', 'x/4', 'x/9']
  assert every[-2].where.endswith('train-00001-of-00002.array_record:1')
  assert ids(opened.open_chain(f'{built}/a/val')) == ['x/9']
  assert ids(opened.open_chain(f'{built}/train-*1*.array_record')) == [
    'x/3', 'x/4',
  ]  # fmt: skip
  assert ids(pickle.loads(pickle.dumps(every))) == ids(every)
  assert opened.record_files('none.jsonl') == ['none.jsonl']


def test_trainers_read_one_split_of_a_folder(built):
  [source] = open_sources(str(built))
  assert ids(source.data) == ['x/0', 'x/1', 'x/2', 'x/3', 'x/4']
  [source] = open_sources(f'{built}/a/val')
  assert ids(source.data) == ['x/9']
  with pytest.raises(UserError, match='no split val: name one of train, a/val'):
    open_sources(str(built), split='val')
  with pytest.raises(UserError, match='does not exist'):
    open_sources(str(built / 'none.array_record'))


def test_sources_are_called_after_their_sets(built):
  names = [built, f'{built}/a/val', f'{built}/train-*.array_record']
  assert {source.name for source in open_sources(list(map(str, names)))} == {
    built.name
  }
  assert opened.source_name('some/mine.jsonl') == 'mine.jsonl'


def test_weights_and_limits_are_for_each_name(built):
  names = [str(built), f'{built}/a/val']
  first, second = open_sources(names, weights=(3, 0.5), limit=(2, 7))
  assert (first.rate, second.rate) == (3, 0.5)
  assert ids(first.data) == ['x/0', 'x/2'] and ids(second.data) == ['x/9']
  first, second = open_sources(names, limit=3)
  assert ids(first.data) == ['x/0', 'x/1', 'x/3'] and first.rate == 3
  for wrong in ({'weights': 1}, {'limit': (1, 2, 3)}, {'weights': (0, 1)}):
    with pytest.raises(UserError, match='above 0 for each'):
      open_sources(names, **wrong)


def test_bad_files_are_named(built):
  (built / 'b.array_record').write_text('no')
  with pytest.raises(UserError, match='b.array_record is no ArrayRecord'):
    opened.open_chain(str(built / 'b.array_record'))
  manifest = built / 'manifest.json'
  manifest.write_text(manifest.read_text().replace('true', 'false'))
  with pytest.raises(UserError, match='not complete'):
    opened.open_chain(str(built))

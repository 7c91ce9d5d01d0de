"""Records, images, vocabularies, gin files and features on a bucket."""

import pickle

import fsspec
import gin
import numpy as np
import pytest
import tiny_records

from mmicl_jax.__main__ import main
from mmicl_jax.configure import gin_files
from mmicl_jax.context import templates
from mmicl_jax.data import feature_store, images, records, sources
from mmicl_jax.errors import UserError
from mmicl_jax.runtime import remote
from mmicl_jax.tokenizer import Tokenizer

PLACE = 'memory://bucket/data'
INDEX = {'fingerprint': 'f', 'queries': 2, 'width': 3, 'dtype': 'float32'}


@pytest.fixture
def bucket(monkeypatch, tmp_path):
  monkeypatch.setattr(remote, 'PAUSES', (0, 0))
  system = fsspec.filesystem('memory')
  monkeypatch.setattr(system, 'store', {})
  monkeypatch.setattr(system, 'pseudo_dirs', [''])
  for path in tiny_records.write(tmp_path, 3).iterdir():
    system.pipe_file(f'/bucket/data/{path.name}', path.read_bytes())
  return system


def test_records_and_their_images_are_those_of_a_disk(bucket, tmp_path):
  here = list(records.read_records(tmp_path / 'train.jsonl'))
  there = list(records.read_records(f'{PLACE}/train.jsonl'))
  assert there[0].where == f'{PLACE}/train.jsonl:1'
  assert there[0].images == (f'{PLACE}/0.png',)
  index = pickle.loads(pickle.dumps(records.JsonlIndex(f'{PLACE}/train.jsonl')))
  for one, other, again in zip(here, there, index, strict=True):
    assert (one.inputs, one.targets) == (other.inputs, other.targets)
    assert again.images == other.images
    np.testing.assert_array_equal(
      *(images.load_image(r.images[0], 14) for r in (one, other))
    )
  (source,) = sources.open_sources(f'{PLACE}/train.jsonl')
  assert (source.name, len(source.data)) == ('train.jsonl', 3)


@pytest.mark.parametrize('more', [[], ['--images']])
def test_data_check_looks_for_images_there(bucket, capsys, more):
  assert main(['data', 'check', f'{PLACE}/train.jsonl', *more]) == 0
  bucket.rm_file('/bucket/data/1.png')
  assert main(['data', 'check', f'{PLACE}/eval.jsonl', *more]) == 2
  problem = f'{PLACE}/eval.jsonl:2: the image {PLACE}/1.png could not be read'
  assert problem in capsys.readouterr().out


def test_what_is_absent_there_is_one_sentence(bucket):
  for call, words in (
    (lambda: sources.open_sources(f'{PLACE}/no.jsonl'), 'does not exist'),
    (lambda: Tokenizer(f'{PLACE}/no.model'), 'cannot read the SentencePiece'),
    (lambda: gin_files.parse_gin([f'{PLACE}/no.gin'], []), 'was not found'),
    (lambda: feature_store.FeatureStore(f'{PLACE}/no'), 'holds no features'),
  ):
    with pytest.raises(UserError, match=words):
      call()


def test_vocabulary_and_templates_are_those_of_a_disk(bucket, tmp_path):
  there = Tokenizer(f'{PLACE}/spiece.model')
  assert there.digest == Tokenizer(tmp_path / 'spiece.model').digest
  text = b'{"fields": ["question"], "forms": ["{image} {question}"]}'
  bucket.pipe_file('/bucket/data/own.json', text)
  data, form = f'{PLACE}/train.jsonl', f'{PLACE}/own.json'
  (source,) = sources.open_sources(data, templates=form)
  assert 'what colour is it?' in source.data[0].inputs
  assert templates.load_templates('vqa')


def test_gin_files_include_each_other_there(bucket):
  bucket.pipe_file(
    '/bucket/data/a.gin', b"include 'memory://bucket/data/b.gin'"
  )
  bucket.pipe_file('/bucket/data/b.gin', b'TRAIN_STEPS = 7\n')
  with gin_files.apart():
    gin_files.parse_gin([f'{PLACE}/a.gin'], [])
    assert gin_files.macros()['TRAIN_STEPS'] == 7
    gin.clear_config()


def test_features_are_added_and_found_there(bucket):
  url = f'{PLACE}/cache'
  feature_store.write_index(url, INDEX)
  one, other = feature_store.FeatureStore(url), feature_store.FeatureStore(url)
  values = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
  keys = [b'a' * 32, b'b' * 32]
  one.add(keys[:1], values[:1])
  other.add(keys[1:], values[1:])  # behind what the first one has sent
  one.refresh()
  again = pickle.loads(pickle.dumps(one))
  for store in (one, other, again, feature_store.FeatureStore(url)):
    for key, value in zip(keys, values, strict=True):
      np.testing.assert_array_equal(store.get(key), value)
  names = {n for n in remote.listing(url) if 'keys' not in n}
  assert names == {'index.json', 'features-00000.npy', 'features-00001.npy'}
  feature_store.write_index(url, INDEX)
  with pytest.raises(UserError, match='another model'):
    feature_store.write_index(url, INDEX | {'fingerprint': 'g'})
  bucket.rm_file('/bucket/data/cache/index.json')
  with pytest.raises(UserError, match='it is gone'):
    feature_store.write_index(url, INDEX)
  stores = [feature_store.cache_store(PLACE, INDEX, 'own') for _ in range(2)]
  assert [len(s) for s in stores] == [0, 0]
  assert 'own/index.json' in remote.listing(PLACE)

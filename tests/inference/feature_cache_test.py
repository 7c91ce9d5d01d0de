"""Features of frozen towers: what is stored, and training that reads them."""

import dataclasses
import errno
import json
import pickle
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import small_run
import tiny_records

from mmicl_jax import __main__ as cli
from mmicl_jax.checkpoints import model_dir
from mmicl_jax.checkpoints import store as checkpoints
from mmicl_jax.checkpoints.fingerprint import features_index, fingerprint
from mmicl_jax.data import feature_store, images
from mmicl_jax.data.loader import record_loader
from mmicl_jax.data.records import read_records
from mmicl_jax.errors import UserError
from mmicl_jax.inference import feature_cache, prompts
from mmicl_jax.inference.engine import Engine
from mmicl_jax.inference.prompts import Request
from mmicl_jax.models import configs, mmicl
from mmicl_jax.training import features, optim

pytestmark = pytest.mark.slow  # one model is compiled for all of them


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  """Records, and stage 1's MODEL_DIR beside them."""
  folder = tiny_records.write(tmp_path_factory.mktemp('data'), 5)
  save(folder, 'model', 0)
  return folder


init = jax.jit(mmicl.init_params, static_argnums=0)


def without_dropout(folder):
  config = tiny_records.config(folder)
  return dataclasses.replace(
    config,
    qformer=dataclasses.replace(config.qformer, dropout_rate=0.0),
  )


def save(folder, name, seed):
  config = without_dropout(folder)
  params = init(config, jax.random.key(seed))
  checkpoints.save_weights(folder / name, params)
  model_dir.write_config(folder / name, config)


def arguments(folder, out, *more):
  return [
    *('data', 'cache-features', str(folder / 'train.jsonl')),
    *('--checkpoint', str(folder / 'model'), '--out', str(out), *more),
  ]


@pytest.fixture(scope='module')
def store(data):
  """In float32."""
  assert cli.main(arguments(data, data / 'cache', '--dtype=float32')) == 0
  return data / 'cache'


def losses(folder, directory, cache, pack=False, **changes):
  config = without_dropout(folder)
  loader = record_loader(
    str(folder / 'train.jsonl'),
    config,
    str(folder / 'spiece.model'),
    batch_size=2,
    inputs_length=48,
    targets_length=4,
    max_images=2,
    feature_cache=cache and str(cache),
    pack=pack,
  )
  seen = []
  settings = {
    'config': config,
    'trainable': 'tune',
    'train': loader,
    'model_dir': directory,
    'train_steps': 4,
    'batch_size': 2,
    'learning_rate': optim.constant(1e-2),
    'init_from': folder / 'model',
    'log_every': 1,
    'vocabulary': folder / 'spiece.model',
    'feature_cache': cache,
    'on_metrics': lambda _, metrics: seen.append(metrics['loss']),
  }
  small_run.train_with(**settings | changes)
  return seen


@pytest.fixture(scope='module')
def uncached(data):
  return losses(data, data / 'uncached', None)


def test_training_is_what_it_is_without(data, store, uncached, tmp_path):
  found = losses(data, tmp_path, store)
  assert len(found) == 4 and found[0] != found[-1]
  np.testing.assert_allclose(found, uncached, rtol=1e-6)


def test_features_are_packed_as_images_are(data, store, tmp_path):
  steps = {'pack': True, 'train_steps': 2}
  found = losses(data, tmp_path / 'a', store, **steps)
  images = losses(data, tmp_path / 'b', None, **steps)
  np.testing.assert_allclose(found, images, rtol=1e-6)


def test_bfloat16_rounds_and_no_more(data, uncached, tmp_path):
  cache = tmp_path / 'cache'
  assert cli.main(arguments(data, cache)) == 0
  assert feature_store.FeatureStore(cache).dtype == ml_dtypes.bfloat16
  found = losses(data, tmp_path / 'model', cache)
  np.testing.assert_allclose(found, uncached, rtol=2**-8)


def test_features_are_the_models(data, store):
  reader = feature_store.FeatureStore(store)
  assert len(reader) == 5 and reader.shape == (2, 8)
  config = model_dir.read_config(data / 'model')
  params = checkpoints.load_weights(data / 'model')
  pixels = images.load_image(str(data / '3.png'), config.vit.image_size)
  expected = mmicl.MMICL(config).apply(
    {'params': params}, jnp.asarray(pixels)[None, None], method='read_images'
  )
  # By content, from wherever it comes; and in worker processes.
  source = (data / '3.png').read_bytes()
  for one in (reader, pickle.loads(pickle.dumps(reader))):
    np.testing.assert_allclose(one.lookup(source), expected[0, 0], rtol=1e-5)
  with pytest.raises(UserError, match='cache-features on its records too'):
    reader.lookup(np.zeros((4, 4, 3), np.uint8))


def test_a_second_call_adds_what_is_new(data, tmp_path, capsys):
  cache = tmp_path / 'cache'
  records = (data / 'train.jsonl').read_text().splitlines()
  (data / 'two.jsonl').write_text('\n'.join(records[:2]) + '\n')
  short = arguments(data, cache, '--json')
  short[2] = str(data / 'two.jsonl')
  assert cli.main(short) == 0
  assert '"images": 2, "added": 2' in capsys.readouterr().out
  assert cli.main(arguments(data, cache)) == 0
  assert '5 images, 3 of them new' in capsys.readouterr().out
  assert cli.main(arguments(data, cache)) == 0
  assert '5 images, 0 of them new' in capsys.readouterr().out
  assert len(feature_store.shards(cache)) == 2


def test_other_weights_are_refused(data, store, tmp_path, capsys):
  save(data, 'other', 1)
  with pytest.raises(UserError, match='those of another model'):
    losses(data, tmp_path / 'run', store, init_from=data / 'other')
  other = arguments(data, store, '--dtype=float32')
  other[4] = str(data / 'other')
  assert cli.main(other) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert 'the features of another model: choose another folder' in line


def test_weights_in_bfloat16_are_the_same_weights(data, store, tmp_path):
  found = losses(data, tmp_path, store, frozen_dtype='bfloat16', train_steps=1)
  assert len(found) == 1


def test_stage_1_trains_what_the_features_stand_for(data, store, tmp_path):
  with pytest.raises(UserError, match='this stage trains qformer'):
    losses(data, tmp_path, store, trainable='pretrain')


def test_text_for_the_qformer_is_refused(data, store):
  with pytest.raises(UserError, match='without text'):
    record_loader(
      str(data / 'train.jsonl'),
      configs.TINY,
      'spiece.model',
      2,
      feature_cache=str(store),
      qformer_vocabulary='vocab.txt',
    )


def test_a_torn_shard_is_named(data, tmp_path):
  cache = tmp_path / 'cache'
  assert cli.main(arguments(data, cache)) == 0
  (path,) = feature_store.shards(cache)
  path.write_bytes(path.read_bytes()[:-9])
  with pytest.raises(UserError, match='features-00000.npy is damaged'):
    feature_store.FeatureStore(cache)
  path.unlink()
  assert cli.main(arguments(data, cache)) == 0
  assert len(feature_store.FeatureStore(cache)) == 5
  with pytest.raises(UserError, match='holds no features'):
    feature_store.FeatureStore(tmp_path)


@pytest.mark.parametrize(
  'more, match',
  [
    (['--batch_size', '0'], '--batch_size (0) must be at least 1'),
    (['--out', ''], "--out ('') name a folder"),
    (['--checkpoint', 'nowhere'], 'there is no checkpoint'),
  ],
)
def test_wrong_arguments_write_nothing(data, tmp_path, capsys, more, match):
  assert cli.main([*arguments(data, tmp_path / 'cache'), *more]) == 2
  assert match in capsys.readouterr().err.splitlines()[-1]
  assert not (tmp_path / 'cache').exists()


def test_the_record_of_a_bad_image_is_named(data, tmp_path):
  line = json.loads((data / 'train.jsonl').read_text('utf-8').splitlines()[0])
  line['input_image'] = ['data:image/png;base64,AAAA']
  (tmp_path / 'bad.jsonl').write_text('\n' + json.dumps(line))
  with pytest.raises(UserError, match=r'bad.jsonl:2: the data URL .*: not an'):
    feature_cache.write_features(
      [str(tmp_path / 'bad.jsonl')], str(data / 'model'), tmp_path / 'cache'
    )


def test_answering_and_training_share_a_store(
  data, store, tmp_path, monkeypatch
):
  """Each reads what the other has written, by the content of the files."""
  config = model_dir.read_config(data / 'model')
  params = checkpoints.load_weights(data / 'model')
  source, size = str(data / '3.png'), config.vit.image_size
  prompt = Request(
    np.arange(3),
    (images.load_image(source, size),),
    image_keys=(feature_store.key_of(source),),
  )

  def ask(folder):
    engine = Engine(config, params, cache_dir=folder)
    [found] = engine.reader.features([prompt]).values()
    engine.reader.save()
    return found

  own = ask(tmp_path)
  [folder] = tmp_path.iterdir()
  features.check_features(folder, config, {}, params)
  written = feature_store.FeatureStore(folder).lookup(source)
  np.testing.assert_array_equal(written, own)
  monkeypatch.setattr(prompts, 'see', None)  # nothing is computed
  np.testing.assert_allclose(ask(store), own, rtol=1e-5)


FORMER = Path(__file__).parent


def test_a_store_of_the_former_code_is_read_and_continued(tmp_path):
  """Written at 7426302: its index, its keys, its fingerprint."""
  for name, file in (
    ('index.json', 'former_index.json'),
    ('features-00000.npy', 'former_features.npy'),
    ('features-00000.keys.npy', 'former_features.keys.npy'),
  ):
    shutil.copy(FORMER / file, tmp_path / name)
  config = tiny_records.model(60, 59)
  params = jax.tree.map(
    lambda x: (np.arange(x.size) % 251 / 64).astype(x.dtype).reshape(x.shape),
    jax.eval_shape(
      lambda key: mmicl.init_params(config, key), jax.random.key(0)
    ),
  )
  bfloat16 = configs.with_execution(config, dtype='bfloat16')
  index = features_index(bfloat16, params)
  feature_store.write_index(tmp_path, index)  # of the same model: no error
  found = feature_store.FeatureStore(tmp_path)
  rows = np.arange(32, dtype=ml_dtypes.bfloat16).reshape(2, 2, 8)
  sources = [b'not decoded, only hashed: 0', b'not decoded, only hashed: 1']
  for source, row in zip(sources, rows, strict=True):
    np.testing.assert_array_equal(found.lookup(source), row)
  found.add([feature_store.key_of(b'more')], rows[:1])
  found = feature_store.FeatureStore(tmp_path)
  np.testing.assert_array_equal(found.lookup(b'more'), rows[0])
  np.testing.assert_array_equal(found.lookup(sources[1]), rows[1])


def test_a_full_disk_leaves_the_shards_before(data, tmp_path, monkeypatch):
  cache = tmp_path / 'cache'
  assert cli.main(arguments(data, cache)) == 0
  before = sorted(path.name for path in cache.iterdir())

  def full(file, array):
    file.write(b'some')
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(np, 'save', full)
  rows = np.zeros((1, 2, 8), ml_dtypes.bfloat16)
  with pytest.raises(UserError, match='No space left on device'):
    feature_store.FeatureStore(cache).add([b'k'], rows)
  assert sorted(path.name for path in cache.iterdir()) == before


def test_the_fingerprint_is_of_what_matters(data):
  config = without_dropout(data)
  params = init(config, jax.random.key(0))
  first = fingerprint(config, params)
  wetter = dataclasses.replace(
    config, qformer=dataclasses.replace(config.qformer, dropout_rate=0.5)
  )
  projector = {'kernel': params['projector']['kernel'] + 1}
  assert first == fingerprint(wetter, params | {'projector': projector})
  queries = params['query_tokens'] * 1.5
  assert first != fingerprint(config, params | {'query_tokens': queries})


def test_demonstrations_are_those_that_the_model_sees_alike(data, tmp_path):
  """As the nearest in the store that cache-features writes of these images."""
  rows = [
    {'i': i, 'q': 'What?', 'a': 'it', 'p': record.images[0]}
    for i, record in enumerate(read_records(data / 'train.jsonl'))
  ]
  pictures = [images.content(row['p']) for row in rows]
  for row, picture in zip(rows, pictures, strict=True):
    (tmp_path / f'{row["i"]}.png').write_bytes(picture)
    row['p'] = f'{row["i"]}.png'
  (tmp_path / 'q.jsonl').write_text('\n'.join(map(json.dumps, rows)))
  cache = tmp_path / 'cache'
  command = [
    *('data', 'build', '--dataset', 'csv', '--raw', str(tmp_path / 'q.jsonl')),
    *('--question_column', 'q', '--answer_column', 'a', '--id_column', 'i'),
    *('--image_columns', 'p', '--retrieve', 'image', '--workers', '1'),
    *('--checkpoint', str(data / 'model')),
  ]
  assert cli.main([*command, '--out', str(tmp_path / 'one')]) == 0
  more = ['--feature_cache', str(cache)]
  assert cli.main([*command, '--out', str(tmp_path / 'two'), *more]) == 0
  store = feature_store.FeatureStore(cache)
  vectors = [store.lookup(x).astype(np.float64).mean(0) for x in pictures]
  vectors = [x / np.linalg.norm(x) for x in vectors]
  text = (tmp_path / 'one/train.jsonl').read_text()
  assert text == (tmp_path / 'two/train.jsonl').read_text()
  assert not (tmp_path / 'one/.parts').exists()
  shown = 0
  for i, line in enumerate(text.splitlines()):
    others = [j for j in range(len(rows)) if pictures[j] != pictures[i]]
    others.sort(key=lambda j: (-round(vectors[i] @ vectors[j], 5), str(j)))
    shots = json.loads(line)['meta']['shots']
    assert shots == [f'csv/train/{j}' for j in others[: len(shots)]]
    shown += len(shots)
  assert shown > 3

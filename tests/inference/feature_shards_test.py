"""Shards of cached features, put together to the store of one run."""

import json

import jax
import pytest
import tiny_records

from mmicl_jax.__main__ import main
from mmicl_jax.checkpoints import model_dir, store
from mmicl_jax.data import feature_store
from mmicl_jax.models.mmicl import init_params


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  """Nine records with eight pictures, a model, one run and three shards."""
  folder = tiny_records.write(tmp_path_factory.mktemp('data'), 8)
  lines = (folder / 'train.jsonl').read_text('utf-8').splitlines()
  again = '\n'.join([lines[3], *lines])  # a picture that comes twice
  (folder / 'train.jsonl').write_text(again + '\n', 'utf-8')
  config = tiny_records.config(folder)
  params = jax.jit(init_params, static_argnums=0)(config, jax.random.key(0))
  store.save_weights(folder / 'model', params)
  model_dir.write_config(folder / 'model', config)
  assert cache(folder, 'whole') == 0
  for i in range(3):
    assert cache(folder, f'part_{i}', '--shard', f'{i}/3') == 0
  return folder


def cache(folder, out, *more):
  return main(
    [
      *('data', 'cache-features', str(folder / 'train.jsonl')),
      *('--checkpoint', str(folder / 'model'), '--batch_size', '2'),
      *('--out', str(folder / out), *more),
    ]
  )


def merge(data, out, *shards):
  return main(['merge', str(out), *(str(data / f'part_{i}') for i in shards)])


@pytest.mark.slow
def test_merged_shards_are_the_store_of_one_run(data, tmp_path, capsys):
  counts = [
    len(feature_store.FeatureStore(data / f'part_{i}')) for i in range(3)
  ]
  assert counts == [4, 2, 2]
  assert merge(data, tmp_path / 'out', 2, 0, 1) == 0
  for path in (data / 'whole').glob('*'):
    if not path.name.startswith('.'):
      assert (tmp_path / 'out' / path.name).read_bytes() == path.read_bytes()
  # Again, nothing is added.
  assert merge(data, tmp_path / 'out', 0, 1, 2) == 0
  assert len(feature_store.shards(tmp_path / 'out')) == 1
  # What does not belong together is refused.
  capsys.readouterr()
  assert merge(data, tmp_path / 'no', 0, 2) == 2
  assert 'shard 1/3 is missing' in capsys.readouterr().err
  place = data / 'part_1' / 'shard.json'
  told = json.loads(place.read_text())
  place.write_text(json.dumps(told | {'run': 'other records'}))
  assert merge(data, tmp_path / 'no', 0, 1, 2) == 2
  assert 'are not shards of the same run' in capsys.readouterr().err
  place.unlink()  # as in a shard that was stopped
  assert merge(data, tmp_path / 'no', 0, 1, 2) == 2
  assert 'with --shard I/N again, which goes on' in capsys.readouterr().err
  assert not (tmp_path / 'no').exists()
  assert cache(data, 'part_1', '--shard', '1/3') == 0
  assert '0 of them new' in capsys.readouterr().out
  assert merge(data, tmp_path / 'no', 0, 1, 2) == 0

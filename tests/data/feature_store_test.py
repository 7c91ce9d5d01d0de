"""Stored features by themselves: damage is found, and said where."""

import contextlib
import json

import ml_dtypes
import numpy as np
import pytest

from mmicl_jax.data import feature_store
from mmicl_jax.errors import UserError


@pytest.fixture
def small(tmp_path):
  """A store of two images' features and what it holds."""
  index = {'fingerprint': 'a', 'queries': 2, 'width': 8, 'dtype': 'bfloat16'}
  rows = np.arange(32, dtype=ml_dtypes.bfloat16).reshape(2, 2, 8)
  images = [np.full((2, 2, 3), i, np.uint8) for i in range(2)]
  feature_store.write_index(tmp_path / 'a', index)
  keys = [feature_store.key_of(image) for image in images]
  feature_store.FeatureStore(tmp_path / 'a').add(keys, rows)
  return tmp_path / 'a', images, rows


@pytest.mark.parametrize('keys', [False, True])
def test_a_flipped_byte_is_found_wherever_it_is(small, keys):
  folder, images, rows = small
  path = folder / f'features-00000{".keys" if keys else ""}.npy'
  whole = path.read_bytes()
  for place in range(len(whole)):
    torn = bytearray(whole)
    torn[place] ^= 1 << place % 8
    path.write_bytes(torn)
    with contextlib.suppress(UserError):
      found = feature_store.FeatureStore(folder)
      for image, row in zip(images, rows, strict=True):
        np.testing.assert_array_equal(found.lookup(image), row)


def test_the_shard_of_a_damaged_row_is_named(small):
  folder, images, rows = small
  path = folder / 'features-00000.npy'
  whole = bytearray(path.read_bytes())
  whole[-1] ^= 1
  path.write_bytes(whole)
  found = feature_store.FeatureStore(folder)
  np.testing.assert_array_equal(found.lookup(images[0]), rows[0])
  with pytest.raises(UserError, match='00000.npy is damaged .row 1 has other'):
    found.lookup(images[1])


@pytest.mark.parametrize('text', ['', '[]', 'null', '{"queries": 2}', None])
def test_an_index_that_says_nothing(small, text):
  folder, _, _ = small
  index = feature_store.read_index(folder)
  if text is None:
    (folder / 'index.json').unlink()
  else:
    (folder / 'index.json').write_text(text)
  match = 'does not say whose' if text is not None else 'holds no features'
  with pytest.raises(UserError, match=match):
    feature_store.FeatureStore(folder)
  # Whoever writes must not declare the shards that are there its own.
  with pytest.raises(UserError, match='index.json .* delete the folder'):
    feature_store.write_index(folder, index)


def test_a_dtype_that_no_store_has(small):
  folder, _, _ = small
  index = feature_store.read_index(folder) | {'dtype': 'int8'}
  (folder / 'index.json').write_text(json.dumps(index))
  with pytest.raises(UserError, match="index.json .*the dtype 'int8'"):
    feature_store.FeatureStore(folder)


def test_a_folder_that_cannot_be_made(small, tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(UserError, match='could not be written .*another folder'):
    feature_store.write_index(
      tmp_path / 'file', feature_store.read_index(small[0])
    )

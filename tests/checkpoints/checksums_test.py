import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmicl_jax.checkpoints import checksums
from mmicl_jax.runtime import small_arrays


@pytest.fixture(params=['program', 'NumPy'], autouse=True)
def way(request, monkeypatch):
  """Both ways to sum: by a program, and of a small array by NumPy."""
  if request.param == 'program':
    monkeypatch.setattr(small_arrays, 'MOST', -1)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'int32', 'uint8'])
def test_every_bit_counts(dtype):
  x = np.asarray(jax.random.uniform(jax.random.key(0), (3, 5)) * 99, dtype)
  before = checksums.of({'a': {'x': jnp.asarray(x)}})
  assert before == {'a/x': checksums.of_array(x)}
  for bit in range(8):
    flipped = np.frombuffer(x.tobytes(), np.uint8).copy()
    flipped[-1] ^= 1 << bit
    y = flipped.view(x.dtype).reshape(x.shape)
    dtypes = {'a/x': x.dtype}
    assert checksums.changed({'a': {'x': jnp.asarray(y)}}, before, dtypes)
  assert not checksums.changed({'a': {'x': jnp.asarray(x)}}, before, dtypes)


def test_a_number_of_python_is_an_array():
  assert checksums.of({'step': 3}) == checksums.of({'step': jnp.int32(3)})


def test_places_count():
  x = jnp.arange(6.0).reshape(2, 3)
  sums = checksums.of({'x': x, 'other order': x[::-1]})
  assert sums['x'] != sums['other order']


def test_another_dtype_is_not_compared():
  x = jnp.ones((2, 2))
  saved = checksums.of({'x': x})
  cast = {'x': x.astype(jnp.bfloat16)}
  assert not checksums.changed(cast, saved, {'x': x.dtype})


def test_an_array_in_host_memory_is_summed_by_pieces(monkeypatch):
  monkeypatch.setattr(checksums, '_PIECE', 7)
  x = np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float32)
  for value in (x, x.T, x[0, 0, 0], x[:0]):
    array = np.asarray(value)
    found = checksums.of({'x': jnp.asarray(array)})['x']
    assert checksums.of_array(array) == found

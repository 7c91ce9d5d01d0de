import jax
import jax.numpy as jnp
import numpy as np

from mmicl_jax.runtime import small_arrays


def test_a_view_keeps_no_memory_from_being_used_again():
  """A run sums its parameters at a save; the next step donates them."""
  x = jnp.arange(1000.0) + 1
  view = small_arrays.values_of(x)
  np.testing.assert_array_equal(view, np.arange(1000) + 1)
  assert view.ctypes.data == x.unsafe_buffer_pointer()
  place = x.unsafe_buffer_pointer()
  del view
  add = jax.jit(lambda x: x + 1, donate_argnums=0)
  assert add(x).unsafe_buffer_pointer() == place and x.is_deleted()


def test_only_small_arrays_are_viewed(monkeypatch):
  x = jnp.zeros((2, 3), jnp.bfloat16)
  assert small_arrays.values_of(x).dtype == jnp.bfloat16
  assert small_arrays.values_of(np.int32(3)) == 3
  assert small_arrays.values_of(3) is None
  monkeypatch.setattr(small_arrays, 'MOST', 5)
  assert small_arrays.values_of(x) is None
  assert small_arrays.values_of(np.zeros(6)) is None

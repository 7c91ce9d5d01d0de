"""A checkpoint is written one parameter at a time, through Orbax."""

import gc
import inspect
import weakref

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from mmicl_jax.checkpoints import store
from mmicl_jax.convert.streaming import write_checkpoint

CANARY = (
  "Orbax's NumpyHandler has changed: mmicl_jax/convert/streaming.py overrides "
  'its private method `async _open_and_write(self, value, tspec, ts_context)`, '
  'through which every array must be written. Look at NumpyHandler in '
  'orbax/checkpoint/_src/serialization/type_handlers.py, mend _LeafHandler, '
  'then this test.'
)
SHAPES = {
  name: jax.ShapeDtypeStruct((64, 64), np.float32)
  for name in ('a/kernel', 'b/kernel', 'b/bias', 'c')
}


def test_the_private_method_that_is_overridden_is_still_there():
  method = getattr(ocp.type_handlers.NumpyHandler, '_open_and_write', None)
  assert inspect.iscoroutinefunction(method), CANARY
  names = list(inspect.signature(method).parameters)
  assert names == ['self', 'value', 'tspec', 'ts_context'], CANARY


@pytest.mark.slow
def test_a_parameter_is_gone_before_the_next_is_read(tmp_path):
  alive: list[weakref.ref] = []
  read: list[str] = []

  def parameter(path):
    gc.collect()
    assert not [ref for ref in alive if ref() is not None], CANARY
    array = np.full((64, 64), len(read), np.float32)
    alive.append(weakref.ref(array))
    read.append(path)
    return array

  write_checkpoint(tmp_path, SHAPES, parameter)
  assert sorted(read) == sorted(SHAPES), CANARY
  saved = store.load_weights(tmp_path)
  for number, path in enumerate(read):
    *parents, name = path.split('/')
    tree = saved[parents[0]] if parents else saved
    np.testing.assert_array_equal(tree[name], number)

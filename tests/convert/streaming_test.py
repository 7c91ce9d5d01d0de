"""A checkpoint is written one parameter at a time, through Orbax."""

import gc
import inspect
import weakref

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from mmicl_jax.checkpoints import faults, store
from mmicl_jax.convert.streaming import CheckpointReader, write_checkpoint
from mmicl_jax.errors import UserError

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


@pytest.mark.slow
def test_changed_bits_of_written_weights_are_found(tmp_path):
  """Whoever reads them: neither OCDBT nor zarr guard values."""
  rng = np.random.default_rng(0)
  arrays = {n: rng.normal(size=(64, 64)).astype(np.float32) for n in SHAPES}
  write_checkpoint(tmp_path, SHAPES, arrays.__getitem__)
  reader = CheckpointReader(tmp_path)
  np.testing.assert_array_equal(reader.read('c'), arrays['c'])
  folder = tmp_path / 'checkpoint_0/state/ocdbt.process_0/d'
  files = [path for path in folder.iterdir() if path.stat().st_size > 2**13]
  assert len(files) == len(SHAPES)
  for path in files:
    whole = path.read_bytes()
    for place in (1000, 7000):
      changed = bytearray(whole)
      changed[place] ^= 1
      path.write_bytes(changed)
      with pytest.raises(UserError, match='is damaged'):
        store.load_weights(tmp_path)
      with pytest.raises(UserError, match='is damaged'):
        for name in SHAPES:
          CheckpointReader(tmp_path).read(name)
    path.write_bytes(whole)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
  monkeypatch.setattr(faults, 'PAUSES', ())

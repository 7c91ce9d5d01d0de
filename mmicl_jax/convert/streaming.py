"""Writes and reads a checkpoint of weights, one parameter at a time.

The layout is that of `store.save_weights`, but the parameters of a large model
are never in memory together: Orbax gets leaves that are read only when they are
written.
"""

import asyncio
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from mmicl_jax.checkpoints import checksums, store
from mmicl_jax.checkpoints.steps import PREFIX, locate
from mmicl_jax.checkpoints.verify import read_sums, write_sums
from mmicl_jax.errors import UserError
from mmicl_jax.models import trees
from mmicl_jax.runtime.remote import absolute_path

Reader = Callable[[str], np.ndarray]
CHUNK_BYTES = 64 * 2**20  # compressed as one piece


class _Leaf:
  """An array that is read when it is written."""

  def __init__(
    self, like: jax.ShapeDtypeStruct, read: Callable[[], np.ndarray]
  ):
    self.shape, self.dtype, self.read = like.shape, np.dtype(like.dtype), read
    self.ndim, self.size = len(like.shape), math.prod(like.shape)
    self.nbytes = self.size * self.dtype.itemsize


class _LeafHandler(ocp.type_handlers.NumpyHandler):
  """Writes one `_Leaf` after the other, each as an np.ndarray."""

  def __init__(self):
    super().__init__(deepcopy_host_arrays=False)
    self._turn: asyncio.Lock | None = None
    self._failed = False

  async def _open_and_write(self, value, tspec, ts_context):
    if self._turn is None:  # made in the loop that runs the writes
      self._turn = asyncio.Lock()
    async with self._turn:
      if self._failed:  # the directory will be removed
        return
      try:
        array = value.read() if isinstance(value, _Leaf) else value
        await super()._open_and_write(array, tspec, ts_context)
      except BaseException:
        self._failed = True
        raise


def write_checkpoint(
  model_dir: str | os.PathLike,
  shapes: Mapping[str, jax.ShapeDtypeStruct],
  read: Reader,
  done: Callable[[int], Any] = lambda size: None,
) -> None:
  """Writes checkpoint_0 with the parameters that `read` returns by path.

  done: called with the bytes of each parameter after it was read.
  """

  step = np.array(0, np.int32)
  sums = {'state/step': checksums.of_array(step)}

  def leaf(path: str) -> _Leaf:
    def reader() -> np.ndarray:
      array = read(path)
      sums[f'target/{path}'] = checksums.of_array(array)
      done(array.nbytes)
      return array

    return _Leaf(shapes[path], reader)

  handler = _LeafHandler()
  registry = ocp.type_handlers.create_type_handler_registry(
    (_Leaf, handler), (np.ndarray, handler)
  )
  target = {path: leaf(path) for path in shapes}
  tree = {
    'target': trees.unflatten(target),
    'state': {'step': step},
  }
  # Otherwise a stacked kernel of gigabytes is compressed as one piece.
  save_args = jax.tree.map(
    lambda _: ocp.SaveArgs(chunk_byte_size=CHUNK_BYTES), tree
  )
  with ocp.CheckpointManager(
    absolute_path(model_dir),
    options=ocp.CheckpointManagerOptions(
      step_prefix=PREFIX, enable_async_checkpointing=False
    ),
    item_handlers={
      'state': store.arrays_handler(type_handler_registry=registry)
    },
  ) as manager:
    args = ocp.args.PyTreeSave(tree, save_args=save_args)
    manager.save(0, args=ocp.args.Composite(state=args), force=True)
  write_sums(epath.Path(model_dir) / f'{PREFIX}_0', sums)


class CheckpointReader:
  """Reads the parameters of a MODEL_DIR or checkpoint_<step> one at a time.

  Raises UserError if there is no checkpoint, or if it is damaged.
  """

  def __init__(self, path: str | os.PathLike):
    directory, step = locate(path)
    self.directory = directory
    self.path = directory / f'{PREFIX}_{step}' / 'state'
    self._handler = ocp.PyTreeCheckpointHandler()
    try:
      tree = self._handler.metadata(self.path).tree
      saved = trees.flatten(tree['target'])
      self._sums = read_sums(self.path.parent) or {}
    except Exception as error:  # a damaged file may raise anything
      raise self._damaged(error) from error
    self.shapes = {
      name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in saved.items()
    }

  def read(self, path: str) -> np.ndarray:
    """Reads one parameter in the dtype that it was saved in."""
    item = trees.unflatten({f'target/{path}': self.shapes[path]})
    args = ocp.args.PyTreeRestore(
      item,
      restore_args=jax.tree.map(
        lambda x: ocp.RestoreArgs(restore_type=np.ndarray), item
      ),
      partial_restore=True,
    )
    try:
      restored = self._handler.restore(self.path, args=args)
    except Exception as error:
      raise self._damaged(error) from error
    array = np.asarray(jax.tree.leaves(restored)[0])
    saved = self._sums.get(f'target/{path}')
    if saved is not None and checksums.of_array(array) != saved:
      raise self._damaged(ValueError(f'{path} has other bits than were saved'))
    return array

  def _damaged(self, error: Exception) -> UserError:
    return UserError(
      f'the checkpoint {self.path.parent} is damaged or incomplete '
      f'({(str(error) or repr(error)).splitlines()[0][:150]}): name another '
      f'{PREFIX}_<step>'
    )

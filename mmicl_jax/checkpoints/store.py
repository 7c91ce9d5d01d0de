"""Writes and reads checkpoints in T5X's layout, by Orbax.

MODEL_DIR/checkpoint_<step>/state holds the tree of tree.py. A Checkpointer
writes two more folders: `dataset` holds the position of the data iterator, and
`sums` the arrays' checksums. The other files of a MODEL_DIR are in
model_dir.py.
"""

import errno
import functools
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from mmicl_jax.checkpoints import checksums
from mmicl_jax.checkpoints.faults import (
  Damage,
  Fault,
  fault_of,
  no_memory,
  patiently,
  reason,
)
from mmicl_jax.checkpoints.position import IteratorStateHandler
from mmicl_jax.checkpoints.steps import PREFIX, latest_step, locate, step_path
from mmicl_jax.checkpoints.tree import Tree, state_tree
from mmicl_jax.checkpoints.verify import (
  SUMS,
  check_same,
  check_sums,
  read_sums,
)
from mmicl_jax.errors import UserError
from mmicl_jax.models import trees
from mmicl_jax.runtime.remote import absolute_path

PART_BYTES, PARTS = 2**23, 32


def save_weights(
  model_dir: str | os.PathLike, params: Tree, step: int = 0
) -> None:
  """Writes checkpoint_<step> with parameters only.

  Raises UserError if it cannot be written.
  """
  tree = state_tree(params, np.int32(step))
  directory = epath.Path(absolute_path(model_dir))
  try:
    with manager(directory) as opened:
      state, sums = ocp.args.PyTreeSave(tree), checksums.of(tree)
      args = {'state': state, SUMS: ocp.args.JsonSave(sums)}
      opened.save(step, args=ocp.args.Composite(**args), force=True)
  except (OSError, ValueError) as error:
    raise not_written(directory, step, error) from error


def load_weights(
  path: str | os.PathLike,
  like: Tree | None = None,
  modules: Sequence[str] | None = None,
) -> dict:
  """Reads the parameters of a MODEL_DIR's newest or a given checkpoint.

  path: a MODEL_DIR or a checkpoint_<step>. like: a parameter tree of
  jax.ShapeDtypeStruct, whose dtypes and shardings the arrays are read into;
  without it they are as they were saved. modules: the top modules to read;
  None reads all. Raises UserError if there is no checkpoint, or if it is of
  another architecture or damaged.
  """
  found: dict[str, jax.Array] = {}
  for part in read_weights(path, like, modules):
    found |= part
  return trees.unflatten(found)


def read_weights(
  path: str | os.PathLike,
  like: Tree | None = None,
  modules: Sequence[str] | None = None,
) -> Iterator[dict[str, jax.Array]]:
  """Does `load_weights` in parts: yields dicts of arrays by path.

  A caller that empties each dict before it asks for the next has only one part
  in memory, besides what it keeps.
  """
  directory, step = locate(path)
  place = step_path(directory, step)

  def describe() -> tuple[Tree, Tree, Mapping[str, int] | None]:
    saved = saved_tree(place)
    theirs = {
      name: x
      for name, x in saved['target'].items()
      if modules is None or name in modules
    }
    as_saved = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), theirs
    )
    target = {'target': as_saved if like is None else dict(like)}
    check_same(place, {'target': theirs}, target)
    return target, saved, read_sums(place)

  try:
    target, saved, sums = patiently(place, describe)
  except Damage as error:
    raise _damaged(place, error) from error

  def parts() -> Iterator[dict[str, jax.Array]]:
    for part in parts_of(target):
      read = functools.partial(_read_part, place, part)
      try:
        found = patiently(place, read)
        verified(place, found, sums, saved)
      except Damage as error:
        raise _damaged(place, error) from error
      for name in list(found):
        found[name.removeprefix('target/')] = found.pop(name)
      yield found

  return parts()


def has_any(path: str | os.PathLike, params: Tree) -> bool:
  """Whether a checkpoint has any of the parameters in a tree.

  path: as for `load_weights`, whose errors this raises, too.
  """
  directory, step = locate(path)
  place = step_path(directory, step)
  try:
    saved = patiently(place, lambda: saved_tree(place))
  except Damage as error:
    raise _damaged(place, error) from error
  names = trees.flatten(saved['target']).keys()
  return not names.isdisjoint(trees.flatten(params))


def resumable(model_dir: str | os.PathLike, like: Tree) -> bool:
  """Whether this MODEL_DIR has a checkpoint that a run would resume.

  like: the run's `state_tree` of jax.ShapeDtypeStruct. Raises UserError if the
  newest checkpoint is of another architecture, trainable set or optimizer.
  """
  step = latest_step(model_dir)
  if step is None:
    return False
  check_tree(step_path(epath.Path(absolute_path(model_dir)), step), like)
  return True


def check_tree(path: str | os.PathLike, like: Tree) -> None:
  """Raises UserError if a checkpoint_<step> has another tree or is damaged."""
  directory, step = locate(path)
  place = step_path(directory, step)
  try:
    saved = patiently(place, lambda: saved_tree(place))
  except Damage as error:
    raise _damaged(place, error) from error
  if 'state' not in like:
    saved = {'target': saved['target']}
  check_same(place, saved, like)


def saved_tree(path: epath.Path) -> Tree:
  """The metadata (shape, dtype) of all arrays of a checkpoint_<step>.

  Raises Damage if the file that describes them is damaged, and errors of files
  unchanged.
  """
  handler = ocp.PyTreeCheckpointHandler(use_ocdbt=True)
  try:
    tree: Tree = handler.metadata(path / 'state').tree
    tree['target']
  except Exception as error:
    if fault_of(error) is Fault.UNKNOWN:  # odd contents may raise anything
      raise Damage(f'its state is not described ({reason(error)})') from error
    raise
  return tree


def read_arrays(path: epath.Path, like: Tree) -> Tree:
  """Reads the arrays that `like` names into its dtypes and shardings."""
  found: dict[str, jax.Array] = {}
  for part in parts_of(like):
    found |= _read_part(path, part)
  return trees.unflatten(found)


def parts_of(like: Tree) -> Iterator[dict[str, jax.ShapeDtypeStruct]]:
  """Yields a tree's leaves by path, in parts that are read together.

  A part is one array, or several small ones: together PART_BYTES or a PARTS-th
  of the model, since remote storage answers slowly. The largest arrays come
  first, so that the memory that reading them takes is free again before the
  rest is in memory.
  """
  leaves = trees.flatten(like)
  sizes = {n: math.prod(x.shape) * x.dtype.itemsize for n, x in leaves.items()}
  room = max(PART_BYTES, sum(sizes.values()) // PARTS)
  part: dict[str, jax.ShapeDtypeStruct] = {}
  filled = 0
  for name in sorted(leaves, key=lambda name: -sizes[name]):
    if part and filled + sizes[name] > room:
      yield part
      part, filled = {}, 0
    part[name] = leaves[name]
    filled += sizes[name]
  if part:
    yield part


def _read_part(
  path: epath.Path, part: Mapping[str, jax.ShapeDtypeStruct]
) -> dict[str, jax.Array]:
  # Orbax's handler, since a manager would wait for hosts that fail.
  handler = ocp.PyTreeCheckpointHandler(use_ocdbt=True)
  args = restore_args(trees.unflatten(part))
  return trees.flatten(handler.restore(path / 'state', args=args))


def verified(
  path: epath.Path, tree: Tree, sums: Mapping[str, int] | None, saved: Tree
) -> None:
  """Does `check_sums`; raises UserError if there is too little memory."""
  try:
    check_sums(tree, sums, saved)
  except Exception as error:
    if fault_of(error) is Fault.MEMORY:
      raise no_memory(path, error) from error
    raise


def manager(directory: epath.Path, **options: Any) -> ocp.CheckpointManager:
  """Orbax's manager of a MODEL_DIR; options: which checkpoints it keeps."""
  return ocp.CheckpointManager(
    directory,
    options=ocp.CheckpointManagerOptions(
      step_prefix=PREFIX,
      cleanup_tmp_directories=True,
      # If folders were made asynchronously, a save would wait five minutes for
      # one that cannot be made, and then name that wait as the reason.
      async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
      **options,
    ),
    item_handlers={
      'state': arrays_handler(),
      'dataset': IteratorStateHandler(),
      SUMS: ocp.JsonCheckpointHandler(),
    },
  )


def arrays_handler(**options: Any) -> ocp.PyTreeCheckpointHandler:
  """Orbax's handler of arrays, which raises OSError if it joined no files.

  If a disk fails to list a folder, Orbax sees no files there, joins none, takes
  the checkpoint for complete and lets it replace older ones. options: Orbax's.
  """
  handler = ocp.PyTreeCheckpointHandler(use_ocdbt=True, **options)
  finalize = handler.finalize

  def checked(directory: epath.Path) -> None:
    finalize(directory)
    try:
      (directory / 'manifest.ocdbt').stat()
    except FileNotFoundError as error:
      raise OSError(errno.EIO, os.strerror(errno.EIO)) from error

  # A subclass would not do: Orbax looks arguments up by the handler's type.
  vars(handler)['finalize'] = checked
  return handler


def restore_args(like: Tree) -> ocp.args.PyTreeRestore:
  """Orbax's arguments to read the arrays that `like` names."""
  # partial_restore ignores the empty nodes that a T5X checkpoint also holds.
  return ocp.args.PyTreeRestore(
    like,
    restore_args=jax.tree.map(
      lambda x: ocp.ArrayRestoreArgs(
        sharding=x.sharding or _local(), global_shape=x.shape, dtype=x.dtype
      ),
      like,
    ),
    partial_restore=True,
  )


def _local() -> jax.sharding.Sharding:
  return jax.sharding.SingleDeviceSharding(jax.local_devices()[0])


def _damaged(path: epath.Path, error: Exception) -> UserError:
  return UserError(
    f'the checkpoint {path} is damaged or incomplete ({reason(error)}); name '
    'another checkpoint_<step>'
  )


def not_written(directory, step, error) -> UserError:
  """The UserError for a checkpoint that could not be written.

  step: None stands for the last save.
  """
  name = 'the last checkpoint' if step is None else f'{PREFIX}_{step}'
  full = os.strerror(errno.ENOSPC)  # at the end of TensorStore's long errors
  why = full if full in str(error) else reason(error)
  return UserError(
    f'{name} could not be written to {directory} '
    f'({why}); earlier checkpoints are intact: '
    'make room or choose another MODEL_DIR'
  )

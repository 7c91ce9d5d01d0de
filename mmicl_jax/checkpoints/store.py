"""Checkpoints in T5X's layout, written and read by Orbax.

MODEL_DIR/checkpoint_<step>/state holds {'target': parameters, 'state':
{'step', 'param_states'}} with T5X's names for the optimizer state, so that
either trainer resumes the other's run; beside it `dataset` holds the position
of the data iterator and `sums` the arrays' checksums (checkpointer.py writes
both). What else a MODEL_DIR needs to be usable alone is in model_dir.py.
"""

import errno
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from flax import serialization, traverse_util

from mmicl_jax.checkpoints import checksums
from mmicl_jax.checkpoints.position import IteratorStateHandler
from mmicl_jax.errors import UserError
from mmicl_jax.models import trees
from mmicl_jax.runtime.remote import absolute_path

Tree = Mapping[str, Any]
PREFIX = 'checkpoint'
SUMS = 'sums'  # the item with the checksums of `state`


def state_tree(params: Tree, step: Any, opt_state: Any = None) -> dict:
  """The tree that is saved; without an optimizer state: weights only.

  Optimizer states get the names they have under T5X's
  OptaxWrapper(multi_transform({'train': ..., 'frozen': ...})), whose empty
  nodes are left out.
  """
  state = {'step': step}
  if opt_state is not None:
    inner = _without_empty(serialization.to_state_dict(opt_state))
    state['param_states'] = {'inner_states': {'train': {'inner_state': inner}}}
  return {'target': dict(params), 'state': state}


def opt_state_of(tree: Tree, like: Any) -> Any:
  """Takes the optimizer state out of a saved tree, in the structure `like`."""
  inner = tree['state']['param_states']['inner_states']['train']['inner_state']
  flat = traverse_util.flatten_dict(
    serialization.to_state_dict(like), keep_empty_nodes=True
  )
  flat |= traverse_util.flatten_dict(inner)
  return serialization.from_state_dict(like, traverse_util.unflatten_dict(flat))


def save_weights(
  model_dir: str | os.PathLike, params: Tree, step: int = 0
) -> None:
  """Writes checkpoint_<step> with parameters alone, as converters do."""
  tree = state_tree(params, np.int32(step))
  directory = epath.Path(absolute_path(model_dir))
  try:
    with manager(directory) as opened:
      args = ocp.args.Composite(state=ocp.args.PyTreeSave(tree))
      opened.save(step, args=args, force=True)
  except (OSError, ValueError) as error:
    raise not_written(directory, step, error) from error


def load_weights(
  path: str | os.PathLike,
  like: Tree | None = None,
  modules: Sequence[str] | None = None,
) -> dict:
  """Parameters of a MODEL_DIR's newest checkpoint, or of a checkpoint_<step>.

  like: a parameter tree of jax.ShapeDtypeStruct, whose dtypes and shardings
  are used; without it arrays come as they were saved. modules: only these, by
  their names at the top. Raises UserError if there is no checkpoint or it is of
  another architecture or damaged.
  """
  directory, step = locate(path)
  with manager(directory, read_only=True) as opened:
    try:
      saved = opened.item_metadata(step)['state'].tree
      theirs = {
        name: x
        for name, x in saved['target'].items()
        if modules is None or name in modules
      }
      as_saved = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), theirs
      )
      target = {'target': as_saved if like is None else dict(like)}
      check_same(step_path(directory, step), {'target': theirs}, target)
      args = ocp.args.Composite(state=restore_args(target))
      found = opened.restore(step, args=args)['state']
      sums = read_sums(step_path(directory, step))
      check_sums({'target': found['target']}, sums, saved)
      return found['target']
    except UserError:
      raise
    except Exception as error:
      raise _damaged(step_path(directory, step), error) from error


def latest_step(model_dir: str | os.PathLike) -> int | None:
  """The step of a MODEL_DIR's newest checkpoint; None if it has none."""
  directory = epath.Path(absolute_path(model_dir))
  return max(_steps(directory), default=None)


def resumable(model_dir: str | os.PathLike, like: Tree) -> bool:
  """Whether a run in this MODEL_DIR goes on from a checkpoint there.

  like: a `state_tree` of jax.ShapeDtypeStruct. Raises UserError if the newest
  is of another architecture, trainable set or optimizer.
  """
  step = latest_step(model_dir)
  if step is None:
    return False
  check_tree(step_path(epath.Path(absolute_path(model_dir)), step), like)
  return True


def check_tree(path: str | os.PathLike, like: Tree) -> None:
  """Raises UserError if a checkpoint_<step> has another tree or is damaged."""
  directory, step = locate(path)
  with manager(directory, read_only=True) as opened:
    try:
      saved = opened.item_metadata(step)['state'].tree
    except Exception as error:
      raise _damaged(step_path(directory, step), error) from error
  if 'state' not in like:
    saved = {'target': saved['target']}
  check_same(step_path(directory, step), saved, like)


def locate(path: str | os.PathLike) -> tuple[epath.Path, int]:
  """MODEL_DIR and step of a MODEL_DIR (its newest) or a checkpoint_<step>."""
  directory = epath.Path(absolute_path(path))
  match = re.fullmatch(rf'{PREFIX}_(\d+)', directory.name)
  if match:
    if not directory.exists():
      raise UserError(f'there is no checkpoint at {directory}')
    return directory.parent, int(match[1])
  steps = _steps(directory)
  if not steps:
    raise UserError(
      f'there is no {PREFIX}_<step> in {directory}: name a directory that '
      'training or conversion has written'
    )
  return directory, max(steps)


def _steps(directory: epath.Path) -> list[int]:
  return [
    int(m[1])
    for p in (directory.iterdir() if directory.is_dir() else ())
    if (m := re.fullmatch(rf'{PREFIX}_(\d+)', p.name))
  ]


def manager(
  directory: epath.Path, read_only: bool = False, **options: Any
) -> ocp.CheckpointManager:
  """Orbax's manager of a MODEL_DIR; options: of what it keeps."""
  return ocp.CheckpointManager(
    directory,
    options=ocp.CheckpointManagerOptions(
      step_prefix=PREFIX,
      # A reader must not sweep away what a training run is writing.
      cleanup_tmp_directories=not read_only,
      read_only=read_only,
      **options,
    ),
    item_handlers={
      'state': ocp.PyTreeCheckpointHandler(use_ocdbt=True),
      'dataset': IteratorStateHandler(),
      'sums': ocp.JsonCheckpointHandler(),
    },
  )


def step_path(directory: epath.Path, step: int) -> epath.Path:
  return directory / f'{PREFIX}_{step}'


def restore_args(like: Tree) -> ocp.args.PyTreeRestore:
  # A T5X checkpoint also holds empty nodes: partial_restore passes over them.
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


def check_same(path: epath.Path, saved: Tree, like: Tree) -> None:
  """Raises UserError naming the first parameter that differs, both shapes."""
  ours = _shapes(like['target'])
  theirs = _shapes(saved['target'])
  for name in sorted(ours.keys() | theirs.keys()):
    if ours.get(name) != theirs.get(name):
      raise UserError(
        f'{path} is of another architecture: the parameter {name} has shape '
        f'{theirs.get(name, "none (it is absent)")} there and '
        f'{ours.get(name, "none (it is absent)")} in this model; use the '
        'model configuration that the checkpoint was trained with'
      )
  if 'state' not in like:
    return
  ours, theirs = _shapes(like['state']), _shapes(saved['state'])
  for name in sorted(ours.keys() | theirs.keys()):
    if ours.get(name) != theirs.get(name):
      raise UserError(
        f'{path} was trained with another trainable set or optimizer '
        f'({name} is in only one of the two): resume it with its own stage, '
        'or start the new stage in another MODEL_DIR with INIT_FROM'
      )


def has_item(path: epath.Path, name: str) -> bool:
  """Whether a checkpoint has an item beside `state`.

  Raises FileNotFoundError if it was saved with one that is gone.
  """
  if (path / name).exists():
    return True
  try:
    text = (path / '_CHECKPOINT_METADATA').read_text()
    items = json.loads(text)['item_handlers']
    lost = name in items and SUMS in items  # T5X's has no sums
  except (OSError, ValueError, KeyError, TypeError):
    lost = False
  if lost:
    raise FileNotFoundError(f'its {name} is gone')
  return False


def read_sums(path: epath.Path) -> dict[str, int] | None:
  """The checksums that were saved; None in a checkpoint that T5X saved."""
  if not has_item(path, SUMS):
    return None
  return {
    name: int(x)
    for name, x in json.loads((path / SUMS / 'metadata').read_text()).items()
  }


def check_sums(tree: Tree, sums: Mapping[str, int] | None, saved: Tree) -> None:
  """Raises ValueError if arrays of a tree are not what was saved.

  saved: the metadata of all that was saved.
  """
  dtypes = {name: x.dtype for name, x in trees.flatten(saved).items()}
  if names := checksums.changed(tree, sums or {}, dtypes):
    raise ValueError(f'{names[0]} has other bits than when it was saved')


def _damaged(path: epath.Path, error: Exception) -> UserError:
  return UserError(
    f'the checkpoint {path} is damaged or incomplete ({reason(error)}); name '
    'another checkpoint_<step>'
  )


def reason(error: Exception) -> str:
  """An error's first line, however long or empty its text is."""
  return str(error).splitlines()[0][:200] if str(error) else repr(error)


def _shapes(tree: Tree) -> dict[str, tuple[int, ...]]:
  flat = trees.flatten(tree)
  return {name: tuple(x.shape) for name, x in flat.items()}


def _without_empty(tree: Tree) -> dict:
  return traverse_util.unflatten_dict(traverse_util.flatten_dict(tree))


def not_written(directory, step, error) -> UserError:
  name = 'the last checkpoint' if step is None else f'{PREFIX}_{step}'
  full = os.strerror(errno.ENOSPC)  # at the end of TensorStore's long errors
  why = full if full in str(error) else reason(error)
  return UserError(
    f'{name} could not be written to {directory} '
    f'({why}); earlier checkpoints are intact: '
    'make room or choose another MODEL_DIR'
  )

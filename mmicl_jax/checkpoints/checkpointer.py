"""Saves the checkpoints of a training run, keeps some, and restores them."""

import contextlib
import errno
import logging
import os
from collections.abc import Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from mmicl_jax.checkpoints import checksums
from mmicl_jax.checkpoints.faults import Damage, patiently, reason
from mmicl_jax.checkpoints.kept import KeptCheckpoints
from mmicl_jax.checkpoints.position import (
  IteratorStateHandler,
  IteratorStateSave,
)
from mmicl_jax.checkpoints.staged import Stage, stage_of
from mmicl_jax.checkpoints.steps import PREFIX, step_path, steps_in
from mmicl_jax.checkpoints.store import (
  manager,
  not_written,
  read_arrays,
  saved_tree,
  verified,
)
from mmicl_jax.checkpoints.tree import Tree
from mmicl_jax.checkpoints.verify import (
  SUMS,
  check_same,
  has_item,
  read_sums,
)
from mmicl_jax.errors import UserError
from mmicl_jax.runtime import hosts as multihost
from mmicl_jax.runtime.mirror import named
from mmicl_jax.runtime.remote import absolute_path, is_remote

log = logging.getLogger(__name__)


class Checkpointer:
  """The checkpoints of one MODEL_DIR.

  keep, best_by: which of them stay, see KeptCheckpoints. Saving is
  asynchronous: `save` returns once the arrays are copied to host memory. Raises
  UserError if the directory cannot be written.
  """

  def __init__(
    self,
    model_dir: str | os.PathLike,
    *,
    keep: int | None = None,
    best_by: str | None = None,
  ):
    self._kept = KeptCheckpoints(keep, best_by)
    if not os.fspath(model_dir):
      raise UserError('MODEL_DIR is empty: name a directory')
    self._stage: Stage | None = stage_of(model_dir)
    if self._stage is not None:
      model_dir = self._stage.local
    self.directory = epath.Path(absolute_path(model_dir))
    try:
      _make(self.directory)
    except (OSError, ValueError) as error:
      why = getattr(error, 'strerror', None) or error
      raise UserError(
        f'cannot make the model directory {self.directory}: {why}; '
        'choose another MODEL_DIR'
      ) from error
    here = not is_remote(self.directory)
    if here and not os.access(self.directory, os.W_OK):
      raise UserError(
        f'the model directory {self.directory} is not writable; change its '
        'permissions or choose another MODEL_DIR'
      )
    for path in self.directory.glob(f'{PREFIX}_*tmp*'):
      log.warning('%s is of a save that was interrupted: ignored', path)
    try:
      self._manager = patiently(self.directory, self._open)
    except Damage as error:
      raise UserError(
        f'the model directory {self.directory} cannot be listed ({error}): '
        'look at its files, or choose another MODEL_DIR'
      ) from error
    self._kept.read(self.directory, self.steps())

  def _open(self) -> ocp.CheckpointManager:
    """Orbax's manager; raises OSError if it overlooks a checkpoint.

    It does that if a disk fails while it lists the folder.
    """
    opened = manager(self.directory, preservation_policy=self._kept)
    missing = set(steps_in(self.directory)) - set(opened.all_steps())
    # In a bucket they may be interrupted saves, which a disk does not have.
    if missing and not is_remote(self.directory):
      raise OSError(errno.EIO, 'not all checkpoints were listed')
    return opened

  def steps(self) -> list[int]:
    """The steps of all complete checkpoints, in ascending order."""
    return sorted(self._manager.all_steps())

  def best(self) -> int | None:
    """The step of the best checkpoint, if one was rated."""
    return self._kept.best(self.steps())

  def save(self, step: int, tree: Tree, iterator_state: Any = None) -> None:
    """Saves a `state_tree` and the data iterator's state (of JSON's types)."""
    items = {
      'state': ocp.args.PyTreeSave(dict(tree)),
      SUMS: ocp.args.JsonSave(checksums.of(tree)),
    }
    if iterator_state is not None:
      items['dataset'] = IteratorStateSave(iterator_state)
    try:
      if self._stage is not None:
        self._stage.wait()  # for the former checkpoint
      self._manager.save(
        step,
        args=ocp.args.Composite(**items),
        force=True,
      )
    except (OSError, ValueError) as error:
      raise not_written(self.directory, step, error) from error
    if self._stage is not None:
      self._stage.send_after(step, self._manager.wait_until_finished)

  def publish(self) -> None:
    """Copies new files beside the checkpoints to a remote MODEL_DIR."""
    if self._stage is not None:
      self._stage.send_rest()

  def rate(self, step: int, metrics: Mapping[str, float]) -> None:
    """Rates a saved checkpoint, and deletes those that need not stay.

    metrics: of an evaluation at this step. Returns when the checkpoint is
    complete. Raises UserError if it or its metrics cannot be written.
    """
    self.wait()
    if jax.process_index() == 0:
      self._kept.write(self.directory, step, metrics)
    # The metrics must be on disk before other checkpoints are deleted.
    multihost.wait_for_all(f'rated_{step}')
    self._kept.rate(step, metrics)
    steps = self.steps()
    for old in sorted(set(steps) - self._kept.stay(steps)):
      self._manager.delete(old)
    if self._stage is not None:
      self._stage.send_metrics(step)

  def restore(self, step: int, like: Tree) -> tuple[dict, Any]:
    """Reads a checkpoint: (state tree, iterator state or None).

    like: a `state_tree` of jax.ShapeDtypeStruct, whose dtypes and shardings the
    arrays are read into. The iterator state is None if T5X or another number of
    processes saved the checkpoint. Raises UserError if the checkpoint is of
    another architecture or trainable set, or cannot be read at present, and
    Damage if it is not what was saved. If one host raises, all do.
    """
    path = step_path(self.directory, step)

    def read() -> tuple[Tree, Tree, Mapping[str, int] | None, Any]:
      saved = saved_tree(path)
      check_same(path, saved, like)
      sums, position = read_sums(path), None
      if has_item(path, 'dataset') and IteratorStateHandler.exists(
        path / 'dataset', ours=sums is not None
      ):
        position = IteratorStateHandler().restore(path / 'dataset')
      return read_arrays(path, like), saved, sums, position

    found, end, damage = None, None, None
    try:
      if self._stage is not None:
        self._stage.fetch(step)
      found = patiently(path, read)
    except Damage as error:
      damage = error
    except Exception as error:
      end = error
    if not multihost.all_agree(end is None):
      raise end or UserError(
        f'another process could not read {path}: see what it says'
      )
    if not multihost.all_agree(damage is None):
      raise damage or Damage('another host cannot read it')
    assert found is not None
    state, saved, sums, position = found
    verified(path, state, sums, saved)
    if self._stage is not None:
      self._stage.forget(step)
    return dict(state), position

  def restore_latest(self, like: Tree) -> tuple[int, dict, Any] | None:
    """Reads the newest sound checkpoint: (step, state tree, iterator state).

    None if there is no checkpoint. Damaged ones that are newer are renamed to
    torn_checkpoint_<step>. Raises UserError, and renames nothing, if one cannot
    be read at present, or if all are damaged.
    """
    steps = self._common_steps()
    torn: dict[int, Damage] = {}
    for step in reversed(steps):
      try:
        found = self.restore(step, like)
      except Damage as damage:
        torn[step] = damage
        continue
      for other, error in torn.items():
        self._set_aside(other, error)
      return step, *found
    if torn:
      raise UserError(
        f'none of the checkpoints {steps} in {self.directory} can be read '
        f'({reason(torn[steps[-1]])}): bring back a copy of one, or start in '
        'a new MODEL_DIR'
      )
    return None

  def wait(self) -> None:
    """Returns when the last save is complete on disk."""
    try:
      if self._stage is not None:
        self._stage.wait()
      self._manager.wait_until_finished()
    except (OSError, ValueError) as error:
      raise not_written(self.directory, None, error) from error

  def close(self) -> None:
    """Waits for the last save and closes Orbax's manager."""
    self.wait()
    self._manager.close()
    self.publish()

  def _common_steps(self) -> list[int]:
    """The steps that all hosts see; newer ones are set aside."""
    seen = [set(steps) for steps in multihost.gather(self.steps())]
    common, some = set.intersection(*seen), set.union(*seen)
    if some and not common:
      raise UserError(
        f'the hosts see different checkpoints in {self.directory}, none of '
        f'{sorted(some)} is seen by all: MODEL_DIR must be storage that all '
        'hosts share'
      )
    for step in sorted(some - common):
      if step > max(common):
        self._set_aside(step, Damage('some hosts do not see it'))
    return sorted(common)

  def _set_aside(self, step: int, error: Damage) -> None:
    path = step_path(self.directory, step)
    aside, again = path.parent / f'torn_{path.name}', 1
    if self._stage is not None:
      aside = aside.parent / self._stage.set_aside(step)
    while aside.exists():  # from a former run, or from a faster host
      again += 1
      aside = path.parent / f'torn_{path.name}_{again}'
    log.warning(
      'the checkpoint %s is damaged (%s): renamed to %s, using the one before',
      named(str(path)),
      reason(error),
      aside.name,
    )
    # Another host may be faster, or may be the only one that sees it.
    with contextlib.suppress(FileNotFoundError):
      path.rename(aside)
    multihost.wait_for_all(f'torn_{step}')
    self._manager.reload()


def _make(directory: epath.Path) -> None:
  try:
    directory.mkdir(parents=True, exist_ok=True)
  except FileExistsError:
    # If the disk fails to show the folder, it seems to be a file.
    if not directory.stat().is_directory:
      raise

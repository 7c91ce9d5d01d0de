"""Finds the checkpoints of a MODEL_DIR: checkpoint_<step>."""

import os
import re

from etils import epath

from mmicl_jax.checkpoints.faults import patiently
from mmicl_jax.checkpoints.staged import local_checkpoint
from mmicl_jax.errors import UserError
from mmicl_jax.runtime.remote import absolute_path, is_remote

PREFIX = 'checkpoint'


def step_path(directory: epath.Path, step: int) -> epath.Path:
  """The path of a step's checkpoint in a MODEL_DIR."""
  return directory / f'{PREFIX}_{step}'


def latest_step(model_dir: str | os.PathLike) -> int | None:
  """The step of a MODEL_DIR's newest checkpoint; None if it has none."""
  return max(steps_in(epath.Path(absolute_path(model_dir))), default=None)


def locate(path: str | os.PathLike) -> tuple[epath.Path, int]:
  """Returns (MODEL_DIR, step) of a MODEL_DIR's newest or a given checkpoint.

  path: a MODEL_DIR or a checkpoint_<step>. For a remote one the result is a
  local copy with only that checkpoint. Raises UserError if there is none.
  """
  where = absolute_path(path)
  if is_remote(path):
    where = local_checkpoint(where)
    if where is None:
      raise _none_in(path)
  directory = epath.Path(where)
  match = re.fullmatch(rf'{PREFIX}_(\d+)', directory.name)
  if match:
    if not directory.exists():
      raise UserError(f'there is no checkpoint at {directory}')
    return directory.parent, int(match[1])
  steps = steps_in(directory)
  if not steps:
    raise _none_in(directory)
  return directory, max(steps)


def _none_in(directory: str | os.PathLike) -> UserError:
  return UserError(
    f'there is no {PREFIX}_<step> in {os.fspath(directory)}: name a directory '
    'that training or conversion has written'
  )


def steps_in(directory: epath.Path) -> list[int]:
  """The steps of a MODEL_DIR's checkpoints, in any order."""
  return [
    int(match[1])
    for name in patiently(directory, lambda: _names(directory))
    if (match := re.fullmatch(rf'{PREFIX}_(\d+)', name))
  ]


def _names(directory: epath.Path) -> list[str]:
  # is_dir would take a folder on a failing disk for missing.
  try:
    return [path.name for path in directory.iterdir()]
  except (FileNotFoundError, NotADirectoryError):
    return []

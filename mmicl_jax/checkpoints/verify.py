"""Checks that a checkpoint is this model's, and that it is what was saved.

Before restoring, `check_same` compares its tree with the model's. Afterwards
`check_sums` compares checksums of its arrays with those that were saved.
"""

import json
from collections.abc import Mapping
from typing import Any

from etils import epath

from mmicl_jax.checkpoints import checksums
from mmicl_jax.checkpoints.faults import Damage
from mmicl_jax.checkpoints.tree import Tree
from mmicl_jax.errors import UserError
from mmicl_jax.models import trees
from mmicl_jax.runtime.files import write_json

SUMS = 'sums'  # the folder with the checksums of `state`


def check_same(path: epath.Path, saved: Tree, like: Tree) -> None:
  """Raises UserError that names the first parameter whose shapes differ.

  saved: the metadata of a checkpoint's arrays. like: a `state_tree` of
  jax.ShapeDtypeStruct; without 'state', only parameters are compared.
  """
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


def check_sums(tree: Tree, sums: Mapping[str, int] | None, saved: Tree) -> None:
  """Raises Damage if an array of a restored tree is not what was saved.

  sums: from `read_sums`; None compares nothing. saved: the metadata of all
  arrays of the checkpoint.
  """
  dtypes = {name: x.dtype for name, x in trees.flatten(saved).items()}
  if names := checksums.changed(tree, sums or {}, dtypes):
    raise Damage(f'{names[0]} has other bits than when it was saved')


def read_sums(path: epath.Path) -> dict[str, int] | None:
  """The checksums that were saved; None if T5X saved the checkpoint.

  Raises Damage or an OSError if they exist but cannot be read.
  """
  if not has_item(path, SUMS):
    return None
  values = json.loads((path / SUMS / 'metadata').read_text())
  try:
    return {name: int(x) for name, x in values.items()}
  except (ValueError, TypeError, AttributeError) as error:
    raise Damage(f'its sums are no numbers ({error})') from error


def write_sums(path: epath.Path, sums: Mapping[str, int]) -> None:
  """Writes the checksums of a checkpoint whose arrays are written already."""
  write_json(path / SUMS / 'metadata', dict(sums))


def has_item(path: epath.Path, name: str) -> bool:
  """Whether a checkpoint has the folder `name` beside `state`.

  Raises FileNotFoundError if the folder was saved but is missing now, and other
  OSErrors unchanged.
  """
  if _exists(path / name):
    return True
  items = _items(path)
  if name in items and SUMS in items:  # T5X saves no checksums
    raise FileNotFoundError(f'its {name} is gone')
  return False


def _exists(path: epath.Path) -> bool:
  # path.exists() would take a file on a failing disk for missing.
  try:
    path.stat()
  except (FileNotFoundError, NotADirectoryError):
    return False
  return True


def _items(path: epath.Path) -> Any:
  """The names of the folders that a checkpoint was saved with, if known."""
  try:
    text = (path / '_CHECKPOINT_METADATA').read_text()
    return json.loads(text)['item_handlers'] or ()
  except (FileNotFoundError, ValueError, KeyError, TypeError):
    return ()


def _shapes(tree: Tree) -> dict[str, tuple[int, ...]]:
  flat = trees.flatten(tree)
  return {name: tuple(x.shape) for name, x in flat.items()}

"""Is a checkpoint of this model, and what was saved?

Before it is restored, its tree is compared with the model's (`check_same`);
afterwards, the sums of its arrays' bits with those that were saved beside them
(`check_sums`, by checksums.py).
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

SUMS = 'sums'  # the folder with the checksums of `state`


def check_same(path: epath.Path, saved: Tree, like: Tree) -> None:
  """Raises UserError naming the first parameter that differs, both shapes.

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

  sums: of `read_sums`; without them nothing is compared. saved: the metadata
  of all arrays of the checkpoint.
  """
  dtypes = {name: x.dtype for name, x in trees.flatten(saved).items()}
  if names := checksums.changed(tree, sums or {}, dtypes):
    raise Damage(f'{names[0]} has other bits than when it was saved')


def read_sums(path: epath.Path) -> dict[str, int] | None:
  """The checksums that were saved; None in a checkpoint that T5X saved.

  Raises Damage or an OSError if there must be some that cannot be read.
  """
  if not has_item(path, SUMS):
    return None
  values = json.loads((path / SUMS / 'metadata').read_text())
  try:
    return {name: int(x) for name, x in values.items()}
  except (ValueError, TypeError, AttributeError) as error:
    raise Damage(f'its sums are no numbers ({error})') from error


def has_item(path: epath.Path, name: str) -> bool:
  """Whether a checkpoint has the folder `name` beside `state`.

  Raises FileNotFoundError if it was saved with one that is gone, and other
  OSErrors as they are.
  """
  if _exists(path / name):
    return True
  items = _items(path)
  if name in items and SUMS in items:  # T5X's has no sums
    raise FileNotFoundError(f'its {name} is gone')
  return False


def _exists(path: epath.Path) -> bool:
  # Not `path.exists()`: a disk that fails would look like an absent file.
  try:
    path.stat()
  except (FileNotFoundError, NotADirectoryError):
    return False
  return True


def _items(path: epath.Path) -> Any:
  """The names of the folders that a checkpoint was saved with, if it tells."""
  try:
    text = (path / '_CHECKPOINT_METADATA').read_text()
    return json.loads(text)['item_handlers'] or ()
  except (FileNotFoundError, ValueError, KeyError, TypeError):
    return ()


def _shapes(tree: Tree) -> dict[str, tuple[int, ...]]:
  flat = trees.flatten(tree)
  return {name: tuple(x.shape) for name, x in flat.items()}

"""Saves the data iterator's position in a checkpoint, a file per process."""

import dataclasses
import hashlib
import json
import re
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from mmicl_jax.checkpoints.faults import Damage


class IteratorStateHandler(ocp.CheckpointHandler):
  """Reads and writes process_<i>-of-<n>.json; the state has JSON's types.

  A second file holds a hash of the first, since a damaged digit would mostly
  still be a position in the data.
  """

  def save(self, directory: epath.Path, args: 'IteratorStateSave') -> None:
    """Writes the state of this process and its hash."""
    text = json.dumps(args.item)
    (directory / _name()).write_text(text)
    (directory / f'{_name()}.blake2b').write_text(_hash(text))

  def restore(self, directory: epath.Path, args: Any = None) -> Any:
    """Reads the state; raises Damage if the file is not what was saved."""
    text = (directory / _name()).read_text()
    try:
      saved = (directory / f'{_name()}.blake2b').read_text()
    except FileNotFoundError:  # former versions wrote no hashes
      saved = _hash(text)
    if saved != _hash(text):
      raise Damage(f'{_name()} has other bytes than when it was saved')
    return json.loads(text)

  @staticmethod
  def exists(directory: epath.Path, ours: bool = True) -> bool:
    """Whether a run of as many processes as this one saved its state there.

    ours: whether our trainer saved the checkpoint; T5X puts other files into
    that folder. Raises FileNotFoundError if our trainer's file is missing.
    """
    names = [path.name for path in directory.iterdir()]
    if _name() in names:
      return True
    counts = set(re.findall(r'process_\d+-of-(\d+)\.json', ' '.join(names)))
    if ours and not counts - {str(jax.process_count())}:
      raise FileNotFoundError(f'{_name()} is gone')
    return False


@ocp.args.register_with_handler(IteratorStateHandler, for_save=True)
@dataclasses.dataclass
class IteratorStateSave(ocp.args.CheckpointArgs):
  """Orbax's argument for saving; item: the state."""

  item: Any


# Orbax requires that a handler for saving has arguments for restoring, too.
@ocp.args.register_with_handler(IteratorStateHandler, for_restore=True)
@dataclasses.dataclass
class IteratorStateRestore(ocp.args.CheckpointArgs):
  """Orbax's argument for restoring, which needs nothing."""


def _hash(text: str) -> str:
  return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _name() -> str:
  return f'process_{jax.process_index()}-of-{jax.process_count()}.json'

"""The data iterator's position inside a checkpoint, one file a process."""

import dataclasses
import hashlib
import json
import re
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath


class IteratorStateHandler(ocp.CheckpointHandler):
  """Reads and writes process_<i>-of-<n>.json; the state is JSON values.

  A file beside it holds the hash of its bytes: most damaged digits would still
  be a place in the data.
  """

  def save(self, directory: epath.Path, args: 'IteratorStateSave') -> None:
    text = json.dumps(args.item)
    (directory / _name()).write_text(text)
    (directory / f'{_name()}.blake2b').write_text(_hash(text))

  def restore(
    self, directory: epath.Path, args: 'IteratorStateRestore | None' = None
  ) -> Any:
    """Raises ValueError if the file is not what was saved."""
    text = (directory / _name()).read_text()
    saved = directory / f'{_name()}.blake2b'
    if saved.exists() and saved.read_text() != _hash(text):
      raise ValueError(f'{_name()} has other bytes than when it was saved')
    return json.loads(text)

  @staticmethod
  def exists(directory: epath.Path) -> bool:
    """Whether this process left a state there; not if others were as many.

    Raises FileNotFoundError if it must have, for no other number of processes
    did.
    """
    if (directory / _name()).exists():
      return True
    names = ' '.join(path.name for path in directory.iterdir())
    counts = set(re.findall(r'process_\d+-of-(\d+)\.json', names))
    if not counts - {str(jax.process_count())}:
      raise FileNotFoundError(f'{_name()} is gone')
    return False


@ocp.args.register_with_handler(IteratorStateHandler, for_save=True)
@dataclasses.dataclass
class IteratorStateSave(ocp.args.CheckpointArgs):
  item: Any


@ocp.args.register_with_handler(IteratorStateHandler, for_restore=True)
@dataclasses.dataclass
class IteratorStateRestore(ocp.args.CheckpointArgs):
  pass


def _hash(text: str) -> str:
  return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _name() -> str:
  return f'process_{jax.process_index()}-of-{jax.process_count()}.json'

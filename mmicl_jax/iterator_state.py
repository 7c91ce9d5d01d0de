"""The data iterator's position inside a checkpoint, one file a process."""

import dataclasses
import json
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath


class IteratorStateHandler(ocp.CheckpointHandler):
  """Reads and writes process_<i>-of-<n>.json; the state is JSON values."""

  def save(self, directory: epath.Path, args: 'IteratorStateSave') -> None:
    (directory / _name()).write_text(json.dumps(args.item))

  def restore(
    self, directory: epath.Path, args: 'IteratorStateRestore | None' = None
  ) -> Any:
    return json.loads((directory / _name()).read_text())

  @staticmethod
  def exists(directory: epath.Path) -> bool:
    """Whether this process, among as many, left a state there."""
    return (directory / _name()).exists()


@ocp.args.register_with_handler(IteratorStateHandler, for_save=True)
@dataclasses.dataclass
class IteratorStateSave(ocp.args.CheckpointArgs):
  item: Any


@ocp.args.register_with_handler(IteratorStateHandler, for_restore=True)
@dataclasses.dataclass
class IteratorStateRestore(ocp.args.CheckpointArgs):
  pass


def _name() -> str:
  return f'process_{jax.process_index()}-of-{jax.process_count()}.json'

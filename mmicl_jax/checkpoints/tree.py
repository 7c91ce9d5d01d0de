"""The tree that a checkpoint holds: parameters, step, optimizer state.

It is {'target': parameters, 'state': {'step', 'param_states'}}. The optimizer's
state has T5X's names, so that each trainer can resume the other's run.
"""

from collections.abc import Mapping
from typing import Any

from flax import serialization, traverse_util

Tree = Mapping[str, Any]


def state_tree(params: Tree, step: Any, opt_state: Any = None) -> dict:
  """The tree to save; without an optimizer state it is one of weights.

  Optimizer states get the names that they have under T5X's
  OptaxWrapper(multi_transform({'train': ..., 'frozen': ...})), without its
  empty nodes.
  """
  state = {'step': step}
  if opt_state is not None:
    inner = _without_empty(serialization.to_state_dict(opt_state))
    state['param_states'] = {'inner_states': {'train': {'inner_state': inner}}}
  return {'target': dict(params), 'state': state}


def opt_state_of(tree: Tree, like: Any) -> Any:
  """The optimizer state of a saved tree, in the structure of `like`."""
  inner = tree['state']['param_states']['inner_states']['train']['inner_state']
  flat = traverse_util.flatten_dict(
    serialization.to_state_dict(like), keep_empty_nodes=True
  )
  flat |= traverse_util.flatten_dict(inner)
  return serialization.from_state_dict(like, traverse_util.unflatten_dict(flat))


def _without_empty(tree: Tree) -> dict:
  return traverse_util.unflatten_dict(traverse_util.flatten_dict(tree))

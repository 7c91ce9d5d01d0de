"""Turns trees of parameters into {'t5/lm_head/kernel': leaf}, and back."""

from collections.abc import Mapping
from typing import Any

from flax import traverse_util


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
  """The leaves of a tree by path; empty branches are lost."""
  flat: dict[str, Any] = traverse_util.flatten_dict(dict(tree), sep='/')
  return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
  """The tree that `flatten` gave these leaves of."""
  return traverse_util.unflatten_dict(dict(flat), sep='/')

"""Which parameters a stage trains: split, merge, and the ledger.

A parameter tree is a nested dict. A stage is a tuple of regular expressions; a
parameter trains if one of them is found in its path, whose parts are joined by
'/'. The gradient is taken of that half only; the other half is frozen.
"""

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import optax

from mmicl_jax.errors import UserError
from mmicl_jax.models import trees

Tree = Mapping[str, Any]
Profile = str | Sequence[str]

_T5_SELF = r'^t5/(encoder|decoder)/layers(_\d+)?/self_attention'
_T5_CROSS = r'^t5/decoder/layers(_\d+)?/cross_attention'

# Each expression must match something; otherwise a renamed module would be
# frozen and nobody would notice.
PROFILES: dict[str, tuple[str, ...]] = {
  # Stage 1: what stands between the frozen ViT and T5.
  'pretrain': ('^qformer/', '^query_tokens$', '^projector/'),
  # Stage 2 as the paper describes it and the published code intends it.
  'tune': (
    '^projector/',
    f'{_T5_SELF}/(query|value)/',
    f'{_T5_CROSS}/(query|value)/',
  ),
  # Stage 2 as the published code really runs. It sets the other requires_grad
  # flags on modules instead of their weights, where PyTorch ignores them.
  'tune_released': ('^projector/', f'{_T5_SELF}/query/'),
  # Stage 2 as the paper's figure draws it.
  'tune_figure': (
    '^projector/',
    f'{_T5_SELF}/(query|key)/',
    f'{_T5_CROSS}/(query|key)/',
  ),
  # Low-rank adapters instead of stage 2's kernels: see models/lora.py.
  'lora': ('^projector/', '/lora_[ab]$'),
  'all': ('',),
}


def patterns(profile: Profile) -> tuple[str, ...]:
  """The expressions of a profile, given by its name or as a sequence.

  Raises UserError for an unknown name or an expression that does not compile.
  """
  if isinstance(profile, str):
    if profile not in PROFILES:
      raise UserError(
        f'unknown profile {profile!r} of trainable parameters; choose one of '
        f'{", ".join(PROFILES)}, or give a tuple of regular expressions'
      )
    return PROFILES[profile]
  for pattern in profile:
    try:
      re.compile(pattern)
    except re.error as error:
      raise UserError(
        f'the trainable pattern {pattern!r} is no regular expression: {error}'
      ) from error
  return tuple(profile)


def split_params(params: Tree, profile: Profile) -> tuple[dict, dict]:
  """Splits a parameter tree into two nested dicts: (trainable, frozen).

  Neither has empty branches. Leaves may be arrays, shapes or flax's boxes; they
  are not changed. Raises UserError if an expression matches no parameter.
  """
  flat = trees.flatten(params)
  chosen: set[str] = set()
  for pattern in patterns(profile):
    hits = {path for path in flat if re.search(pattern, path)}
    if not hits:
      raise UserError(
        f'the trainable pattern {pattern!r} of {profile!r} matches no '
        f'parameter; the modules are {", ".join(sorted(params))}'
      )
    chosen |= hits
  if not chosen:
    raise UserError('no trainable pattern was given: name a profile')
  return (
    trees.unflatten({p: x for p, x in flat.items() if p in chosen}),
    trees.unflatten({p: x for p, x in flat.items() if p not in chosen}),
  )


def merge_params(trainable: Tree, frozen: Tree) -> dict:
  """Joins the two halves that `split_params` gives into one tree."""
  flat = trees.flatten(frozen)
  flat |= trees.flatten(trainable)
  return trees.unflatten(flat)


@dataclasses.dataclass(frozen=True)
class Entry:
  """One line of the ledger: a module's trainable or frozen parameters."""

  module: str
  trainable: bool
  parameters: int
  bytes: int
  optimizer_bytes: int


@dataclasses.dataclass(frozen=True)
class Ledger:
  """Which modules are trained, with their parameters and memory."""

  profile: str
  entries: tuple[Entry, ...]

  def total(self, trainable: bool) -> Entry:
    """The sum of all trainable entries, or of all frozen ones."""
    chosen = [e for e in self.entries if e.trainable is trainable]
    return Entry(
      'total',
      trainable,
      sum(e.parameters for e in chosen),
      sum(e.bytes for e in chosen),
      sum(e.optimizer_bytes for e in chosen),
    )

  def rows(self) -> list[dict[str, Any]]:
    """The rows of a table: one for each module, then the two totals."""
    return [
      {
        'module': e.module,
        'state': 'trainable' if e.trainable else 'frozen',
        'parameters': e.parameters,
        'weights': _mebibytes(e.bytes),
        'optimizer': _mebibytes(e.optimizer_bytes),
      }
      for e in (*self.entries, self.total(True), self.total(False))
    ]

  def to_json(self) -> str:
    """The ledger as JSON, with sizes in bytes."""
    return json.dumps(
      {
        'profile': self.profile,
        'modules': [dataclasses.asdict(e) for e in self.entries],
        'trainable': dataclasses.asdict(self.total(True)),
        'frozen': dataclasses.asdict(self.total(False)),
      },
      indent=2,
    )


def ledger_of(
  params: Tree,
  profile: Profile,
  optimizer: optax.GradientTransformation | None = None,
) -> Ledger:
  """Counts each module's parameters, their bytes and those of the optimizer.

  params: leaves may be arrays or shapes. The optimizer's bytes are those of its
  moments; its scalar counters do not count.
  """
  halves = split_params(nn.meta.unbox(params), profile)
  entries = []
  for module in sorted({_module(p) for half in halves for p in _paths(half)}):
    for trainable, half in zip((True, False), halves, strict=True):
      flat = trees.flatten(half)
      leaves = {p: x for p, x in flat.items() if _module(p) == module}
      if not leaves:
        continue
      moments = 0
      if trainable and optimizer is not None:
        state = jax.eval_shape(optimizer.init, leaves)
        moments = sum(_bytes(x) for x in jax.tree.leaves(state) if x.ndim)
      entries.append(
        Entry(
          module,
          trainable,
          sum(math.prod(x.shape) for x in leaves.values()),
          sum(map(_bytes, leaves.values())),
          moments,
        )
      )
  name = profile if isinstance(profile, str) else ' | '.join(profile)
  return Ledger(name, tuple(entries))


def _paths(tree: Tree) -> list[str]:
  return list(trees.flatten(tree))


def _module(path: str) -> str:
  """The module that a parameter is counted in; T5 has several."""
  parts = path.split('/')
  return '/'.join(parts[: 2 if parts[0] == 't5' else 1])


def _bytes(x: Any) -> int:
  return math.prod(x.shape) * jax.numpy.dtype(x.dtype).itemsize


def _mebibytes(n: int) -> str:
  return f'{n / 2**20:,.2f} MiB'

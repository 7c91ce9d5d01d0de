"""Scores candidates of one prompt, a group of them at a time."""

from typing import Any

import jax
import numpy as np

from mmicl_jax.decoding import loop as decoding
from mmicl_jax.decoding.loop import Memory
from mmicl_jax.errors import UserError
from mmicl_jax.models.mmicl import MMICL
from mmicl_jax.serve.jobs import RankJob, Rated
from mmicl_jax.serve.tickets import Ticket

GROUP = 8  # candidates that are scored at a time


class Scoring:
  """A RankJob whose prompt is read.

  lengths: to which candidates are padded. The short ones come first, so that
  they are not padded for the long ones' sake.
  """

  def __init__(
    self,
    model: MMICL,
    params: Any,
    ticket: Ticket,
    memory: Memory,
    lengths: tuple[int, ...],
  ):
    self.ticket = ticket
    self._model, self._params = model, params
    self._memory, self._lengths = memory, lengths
    assert isinstance(ticket.job, RankJob)
    self._candidates = ticket.job.candidates
    sizes = [len(candidate) for candidate in self._candidates]
    self._order = sorted(range(len(sizes)), key=sizes.__getitem__)
    self._found: dict[int, np.ndarray] = {}

  def step(self) -> bool:
    """Scores the next group; True if it was the last, which has been told."""
    own = self._order[len(self._found) :][:GROUP]
    length = padded_length(self._lengths, len(self._candidates[own[-1]]))
    targets = np.zeros((GROUP, length), np.int32)
    for row, i in zip(targets, own, strict=False):
      row[: len(self._candidates[i])] = self._candidates[i]
    found = np.asarray(
      _log_probs(self._model, self._params, self._memory, targets)
    )
    for log_probs, i in zip(found, own, strict=False):
      self._found[i] = log_probs[: len(self._candidates[i])]
    if len(self._found) < len(self._candidates):
      return False
    self.ticket.tell(
      Rated(tuple(self._found[i] for i in range(len(self._candidates))))
    )
    return True


def padded_length(lengths: tuple[int, ...], tokens: int) -> int:
  """The least of the lengths that has room; raises UserError if none has."""
  for length in sorted(lengths):
    if tokens <= length:
      return length
  raise UserError(
    f'a candidate has {tokens} tokens, but the server takes {max(lengths)}: '
    'give shorter candidates.'
  )


def warm_up_scores(
  model: MMICL, params: Any, memory: Memory, lengths: tuple[int, ...]
) -> None:
  """Compiles what candidates of prompts read as `memory` need."""
  for length in lengths:
    targets = np.zeros((GROUP, length), np.int32)
    _log_probs(model, params, memory, targets)


_log_probs = jax.jit(decoding.log_probs, static_argnums=0)

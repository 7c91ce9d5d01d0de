"""Beam search as transformers 4 did it; it finds the same token ids.

The published numbers of MMICL and its relatives come from that search. It
differs in how it scores beams that are cut at the greatest length, and in when
it stops. Source: BeamSearchScorer and BeamHypotheses of transformers 4.33.
"""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mmicl_jax.decoding.beam import (
  Beams,
  BeamSearch,
  Hypotheses,
  best_answers,
)
from mmicl_jax.decoding.options import DynamicOptions
from mmicl_jax.decoding.scores import Decoded


@dataclasses.dataclass(frozen=True)
class FormerBeamSearch(BeamSearch):
  """Counts the start token where a beam is cut and when it tests for the end.

  Its methods are those of strategy.Strategy.
  """

  start_counts: ClassVar[int] = 1

  def finish(self, state: Beams, dynamic: DynamicOptions) -> Decoded:
    """Makes the running beams of open examples compete as answers, too."""
    open_ = jnp.broadcast_to(state.open[:, None], state.running.scores.shape)
    cut = state.running._replace(finished=open_)
    answers = best_answers(state, cut, state.index, dynamic)
    return super().finish(state._replace(answers=answers), dynamic)

  def _are_answers(
    self,
    ended: Bool[Array, 'B M'],
    length: Int[Array, ''],
    dynamic: DynamicOptions,
  ) -> Bool[Array, 'B M']:
    return ended  # `finish` handles beams that are cut

  def _best(self, found: Hypotheses, running: Hypotheses) -> Float[Array, 'B']:
    del running
    return found.scores[:, 0]  # even if that candidate has just ended

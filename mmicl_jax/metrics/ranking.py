"""Ranks candidates by their scores; of equal scores the earlier ranks first."""

import heapq
from collections.abc import Sequence


def rank_of(place: int, scores: Sequence[float]) -> int:
  """The rank, from 1, of the candidate at a place."""
  own = scores[place]
  higher = sum(score > own for score in scores)
  return 1 + higher + sum(score == own for score in scores[:place])


def best_places(scores: Sequence[float], k: int) -> list[int]:
  """The places, from 0, of the k candidates that rank first, by rank."""
  return heapq.nlargest(k, range(len(scores)), key=scores.__getitem__)

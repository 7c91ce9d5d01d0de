"""Means over groups of items, such as accuracy by the type of the question."""

from collections.abc import Hashable, Iterable

from mmicl_jax.metrics.scorer import mean


def breakdown(
  prefix: str, scores: Iterable[tuple[Hashable, float]], unit: float = 1.0
) -> dict[str, float]:
  """{'PREFIX/GROUP': mean} from (group, score); groups in order of appearance.

  unit: what the means are multiplied with, 100 for percent.
  """
  return {
    f'{prefix}/{group}': unit * mean(members)
    for group, members in grouped(scores).items()
  }


def grouped(
  scores: Iterable[tuple[Hashable, float]],
) -> dict[Hashable, list[float]]:
  """The scores of each group."""
  groups: dict[Hashable, list[float]] = {}
  for group, score in scores:
    groups.setdefault(group, []).append(score)
  return groups

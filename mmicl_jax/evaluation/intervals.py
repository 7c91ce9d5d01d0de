"""How sure a number is: intervals by resampling, and paired tests.

Questions of one official item (a picture of MME, a dialog) are resampled
together, since they are not independent. All draws are seeded: the same
predictions give the same intervals.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from mmicl_jax.runtime import show

DRAWS = 1000
FLIPS = 10_000
LEAST = 10  # groups; fewer give no interval
_WORK = 2_000_000  # items that are scored again at most, for half samples


def of_mean(
  scores: Sequence[float], groups: Sequence[str]
) -> tuple[float, float] | None:
  """The 95 % interval of a mean of items.

  Wilson's, which is not empty where all are right, if each item is right or
  wrong and alone in its group; otherwise the bootstrap. None for fewer than
  LEAST groups.
  """
  alone = len(set(groups)) == len(groups) >= LEAST
  if alone and set(scores) <= {0.0, 1.0}:
    return show.wilson(int(sum(scores)), len(scores))
  return bootstrap(scores, groups)


def bootstrap(
  scores: Sequence[float], groups: Sequence[str], level: float = 0.95
) -> tuple[float, float] | None:
  """The interval of a mean of items, by resampling groups with replacement.

  None for fewer than LEAST groups.
  """
  sums, counts = _by_group(scores, groups)
  if len(sums) < LEAST:
    return None
  rng = np.random.default_rng(0)
  means = np.empty(DRAWS)
  for i in range(DRAWS):
    drawn = rng.integers(len(sums), size=len(sums))
    means[i] = sums[drawn].sum() / counts[drawn].sum()
  return _bounds(means, level)


def half_samples(
  ids: Sequence[str],
  groups: Mapping[str, str],
  strata: Mapping[str, str],
  metric: Callable[[Sequence[str]], float | None],
  level: float = 0.95,
) -> tuple[float, float] | None:
  """The interval of any metric, by scoring halves of the items again.

  A random half without replacement spreads around the whole as the whole does
  around the truth (Wu 1986: the jackknife that deletes half). Halves are drawn
  in each stratum, such as a subtask. None for fewer than LEAST groups, or if
  a half has no such metric.
  """
  members: dict[str, dict[str, list[str]]] = {}
  for one in ids:
    stratum = members.setdefault(strata[one], {})
    stratum.setdefault(groups[one], []).append(one)
  if sum(map(len, members.values())) < LEAST:
    return None
  rng = np.random.default_rng(0)
  found = []
  for _ in range(max(20, min(200, _WORK // max(len(ids), 1)))):
    chosen: set[str] = set()
    for stratum in members.values():
      names = list(stratum)
      odd = int(rng.integers(2)) if len(names) % 2 else 0
      for i in rng.permutation(len(names))[: len(names) // 2 + odd]:
        chosen.update(stratum[names[i]])
    value = metric([one for one in ids if one in chosen])
    if value is None:
      return None
    found.append(value)
  return _bounds(np.array(found), level)


@dataclasses.dataclass(frozen=True)
class PairedTest:
  """The difference of two runs on the same items: second minus first.

  difference: of the means of item scores. p: the share of ways to swap the two
  runs' answers, group by group, that differ as much (two-sided). better, worse:
  items that the second run has more or less of.
  """

  items: int
  difference: float
  interval: tuple[float, float] | None
  p: float
  better: int
  worse: int


def paired_test(
  first: Sequence[float], second: Sequence[float], groups: Sequence[str]
) -> PairedTest:
  """Compares two runs item by item."""
  difference = np.subtract(second, first)
  sums, _ = _by_group(difference, groups)
  rng = np.random.default_rng(0)
  observed = abs(sums.sum())
  # Swapping matters only where the runs differ.
  differing = sums[sums != 0]
  extreme = 0
  for _ in range(FLIPS if len(differing) else 0):
    signs = rng.integers(2, size=len(differing)) * 2 - 1
    extreme += abs((signs * differing).sum()) >= observed - 1e-12
  p = (1 + extreme) / (1 + FLIPS) if len(differing) else 1.0
  return PairedTest(
    len(difference),
    float(difference.mean()),
    bootstrap(list(difference), groups),
    p,
    int((difference > 0).sum()),
    int((difference < 0).sum()),
  )


def _by_group(
  scores: Sequence[float] | np.ndarray, groups: Sequence[str]
) -> tuple[Float[np.ndarray, 'G'], Float[np.ndarray, 'G']]:
  """The sum of each group's scores, and their number."""
  _, places = np.unique(
    np.array(groups, object).astype(str), return_inverse=True
  )
  sums = np.bincount(places, weights=np.asarray(scores, float))
  return sums, np.bincount(places).astype(float)


def _bounds(
  values: Float[np.ndarray, 'R'], level: float
) -> tuple[float, float]:
  rest = (1 - level) / 2
  low, high = np.quantile(values, [rest, 1 - rest])
  return float(low), float(high)

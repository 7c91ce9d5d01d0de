"""What a scorer is: it reads a benchmark's annotations and scores answers.

To add one: a file with `_read(folder)`, which finds the annotation files with
metrics/files.py and gives Annotations; `_score(annotations, predictions,
mode)`, which gives a Scored; and `SCORERS`, a tuple of Scorer. Its name goes
into metrics/table.py, a small official folder into
tests/helpers/small_benchmarks.py, and its quirks into docs/evaluation.md.
metrics/mme.py is the model to follow.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Prediction = str | list[float]  # an answer, or the scores of candidates
TEXT = ('output',)
RANKED = ('scores',)
EITHER = ('output', 'scores')


@dataclass(frozen=True)
class Annotations:
  """What a folder of annotations holds.

  ids: of all items, in the official order, no two the same. data: whatever the
  scorer needs besides. candidates: for ranking, how many scores an item may
  have; usually one number, such as (4,). It is empty if an optional file that
  lists the candidates is not there.
  """

  ids: Sequence[str]
  data: Any
  candidates: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Scored:
  """What a scorer finds.

  metrics: finite and not rounded, the headline first; one that has no item is
  absent. per_item: {'id', 'score', 'parsed', ...} for each scored item, in the
  official order, where score is the item's share of the headline, 0..1; a
  benchmark whose headline no item has a share of leaves this empty. notes: what
  was undefined or left out, in sentences.
  """

  metrics: dict[str, float]
  per_item: list[dict[str, Any]]
  notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Scorer:
  """One benchmark.

  modes: each mode's name, and which kinds of predictions it takes (TEXT, RANKED
  or EITHER); the first is the default. read: raises UserError if the folder's
  files are not as they should be. score: gets a prediction for each id that
  counts, in the official order; all ids, or fewer with --allow_partial, and at
  least one. All of them are of one kind.
  """

  name: str
  modes: Mapping[str, tuple[str, ...]]
  read: Callable[[Path], Annotations]
  score: Callable[[Annotations, Mapping[str, Any], str], Scored]


def mean(values: Sequence[float]) -> float:
  """The mean of at least one number, summed from left to right."""
  return sum(values) / len(values)


def best_of(scores: Sequence[float]) -> int:
  """The place of the highest score; of equal ones, the first."""
  return max(range(len(scores)), key=scores.__getitem__)

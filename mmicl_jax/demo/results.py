"""What a run of the demo found, as plain data: results.json.

The page and the plots are drawn from it alone, so they can be drawn again
without training.
"""

import dataclasses
import json
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mmicl_jax.demo.data import save_picture
from mmicl_jax.demo.tasks import Item
from mmicl_jax.errors import UserError
from mmicl_jax.runtime import files, show


@dataclass(frozen=True)
class Point:
  """One step of a training curve; accuracy (0 to 1) if it was measured."""

  step: int
  loss: float
  accuracy: float | None = None


@dataclass(frozen=True)
class PhaseResult:
  """One phase of training: what was trained, for how long, and its curve."""

  name: str
  profile: str
  note: str
  steps: int
  seconds: float
  examples_per_second: float
  curve: tuple[Point, ...]


@dataclass(frozen=True)
class Score:
  """How many answers on held-out images were right.

  chance: the accuracy of guessing. ceiling: that of a perfect reader of the
  prompt. ways: between how many words the demonstrations decide; None if the
  task has none.
  """

  name: str
  items: int
  correct: int
  chance: float
  ceiling: float = 1.0
  shots: int | None = None
  ways: int | None = None

  @property
  def accuracy(self) -> float:
    """The share of right answers, 0 to 1."""
    return self.correct / self.items if self.items else 0.0

  @property
  def interval(self) -> tuple[float, float]:
    """The 95 % interval of the accuracy, 0 to 1, by Wilson's formula."""
    return show.wilson(self.correct, self.items)


@dataclass(frozen=True)
class LedgerRow:
  """How many of a module's parameters train in one phase, and their bytes."""

  phase: str
  module: str
  parameters: int
  trainable: int
  bytes: int
  optimizer_bytes: int


@dataclass(frozen=True)
class Sample:
  """One prompt as the model read it; image paths are relative to the page.

  carried: by how much the right answer's log-probability falls without each
  demonstration, where that was looked at.
  """

  task: str
  prompt: str
  images: tuple[str, ...]
  answer: str
  target: str
  shots: int = 0
  carried: tuple[float | None, ...] = ()

  @property
  def correct(self) -> bool:
    """Whether answer and target are equal, up to spaces at their ends."""
    return self.answer.strip() == self.target.strip()

  @classmethod
  def of(
    cls,
    item: Item,
    answer: str,
    folder: str,
    carried: tuple[float | None, ...] = (),
  ) -> 'Sample':
    """The sample of an item; its images are saved under `folder`."""
    images = tuple(save_picture(p, folder) for p in item.pictures)
    example = item.example
    return cls(
      item.task,
      example.inputs,
      images,
      answer,
      example.targets,
      item.shots,
      carried,
    )


@dataclass(frozen=True)
class Results:
  """Everything the page shows; seconds are wall-clock, memory is the peak.

  seeds: by the name of a row, the accuracies of other seeds' models. weighed:
  prompts that say what each demonstration carried. unseen: images of classes
  that training never shows.
  """

  seed: int
  device: str
  seconds: float
  memory_bytes: int
  parameters: int
  shots: tuple[Score, ...]
  phases: tuple[PhaseResult, ...]
  tasks: tuple[Score, ...] = ()
  ledger: tuple[LedgerRow, ...] = ()
  samples: tuple[Sample, ...] = ()
  ask_command: str = ''
  ask_answer: str = ''
  export: str = ''
  versions: dict[str, str] = field(default_factory=dict)
  digits: tuple[Score, ...] = ()
  seeds: dict[str, tuple[float, ...]] = field(default_factory=dict)
  weighed: tuple[Sample, ...] = ()
  unseen: tuple[str, ...] = ()
  preset: str = 'default'
  ablation: str | None = None

  @property
  def headline(self) -> Score:
    """The score of two words with the most demonstrations up to four."""
    few = [s for s in self.shots if s.ways in (None, 2) and (s.shots or 0) <= 4]
    return max(few or self.shots, key=lambda score: score.shots or 0)

  def shot_table(self) -> list[dict[str, Any]]:
    """Rows for `show.table`, which the demo prints at its end."""
    rows = []
    for score in (*self.shots, *self.digits, *self.tasks):
      low, high = score.interval
      row = {
        'classes': 'digits' if score in self.digits else 'unseen letters',
        'task': 'invented words' if score.ways else score.name,
        'words': score.ways,
        'shots': score.shots,
        'items': score.items,
        'right': show.percent(score.accuracy),
        '95 % interval': f'{100 * low:.1f} to {100 * high:.1f} %',
        'chance': show.percent(score.chance, 0),
        'best possible': show.percent(score.ceiling, 0),
      }
      if self.seeds:
        row['median of seeds'] = median_of(self.of_seeds(score))
      rows.append(row)
    return rows

  def of_seeds(self, score: Score) -> tuple[float, ...]:
    """The accuracies of all seeds' models in a row, this one's first."""
    return (score.accuracy, *self.seeds.get(score.name, ()))

  def save(self, folder: str) -> str:
    """Writes FOLDER/results.json and returns its path."""
    path = os.path.join(folder, 'results.json')
    files.write_json(path, dataclasses.asdict(self))
    return path

  @classmethod
  def load(cls, path: str) -> 'Results':
    """Reads results.json; raises UserError if it has another form."""
    try:
      with open(path, encoding='utf-8') as file:
        raw = json.load(file)
      return cls(
        **{
          **raw,
          'shots': _all(Score, raw['shots']),
          'seeds': {k: tuple(v) for k, v in raw.get('seeds', {}).items()},
          'digits': _all(Score, raw.get('digits', [])),
          'tasks': _all(Score, raw['tasks']),
          'ledger': _all(LedgerRow, raw['ledger']),
          'samples': _samples(raw['samples']),
          'weighed': _samples(raw.get('weighed', [])),
          'unseen': tuple(raw.get('unseen', [])),
          'phases': tuple(
            PhaseResult(**{**p, 'curve': _all(Point, p['curve'])})
            for p in raw['phases']
          ),
        }
      )
    except (ValueError, KeyError, TypeError) as error:
      raise UserError(
        f'{path} is not a results.json of this version ({error}); run '
        '`mmicl demo` again to write one.'
      ) from None


def _all(kind: type, rows: list[dict[str, Any]]) -> tuple:
  return tuple(kind(**row) for row in rows)


def _samples(rows: list[dict[str, Any]]) -> tuple[Sample, ...]:
  return tuple(
    Sample(
      **{
        **row,
        'images': tuple(row['images']),
        'carried': tuple(row.get('carried', [])),
      }
    )
    for row in rows
  )


def median_of(shares: Sequence[float]) -> str:
  """The median of shares with the lowest and the highest, in per cent."""
  middle, low, high = (
    100 * x for x in (statistics.median(shares), min(shares), max(shares))
  )
  if len(shares) == 1:
    return f'{middle:.1f}'
  return f'{middle:.1f} ({low:.1f} to {high:.1f})'

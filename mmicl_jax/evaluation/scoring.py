"""Scores of a task's variants, in all modes, from its folder alone."""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmicl_jax.errors import UserError
from mmicl_jax.evaluation import intervals
from mmicl_jax.evaluation.annotations import FOLDER as ANNOTATIONS
from mmicl_jax.evaluation.predictions import PREDICTIONS
from mmicl_jax.evaluation.questions import (
  ASKED,
  Question,
  Variant,
  read_questions,
)
from mmicl_jax.evaluation.task_folder import TaskFolder
from mmicl_jax.metrics.predictions import read_predictions
from mmicl_jax.metrics.scorer import Annotations, Scored, Scorer
from mmicl_jax.metrics.table import scorer_of


@dataclasses.dataclass(frozen=True)
class VariantScores:
  """One way of asking, scored.

  modes: the metrics and notes of each mode that takes such answers. headline:
  the first metric of the task's mode; None without one. interval: of the
  headline, at 95 %. per_item: of the task's mode, by id. shown_shots: the mean
  number of demonstrations that were asked for and found. cut: items whose
  prompt was too long and lost demonstrations or words.
  """

  variant: Variant
  items: int
  coverage: float
  modes: Mapping[str, Scored]
  headline: tuple[str, float] | None
  interval: tuple[float, float] | None
  per_item: Mapping[str, Mapping[str, Any]]
  groups: Mapping[str, str]
  shown_shots: float
  cut: int
  model: str


@dataclasses.dataclass(frozen=True)
class TaskScores:
  """A task with the scores of its variants; left_out: modes, and why."""

  task: TaskFolder
  variants: tuple[VariantScores, ...]
  left_out: Mapping[str, str]

  @property
  def main(self) -> VariantScores:
    return self.variants[0]


def score_task(task: TaskFolder) -> TaskScores:
  """Scores every variant; raises UserError as `mmicl score` does."""
  if task.arguments['shard'] is not None:
    i, count = task.arguments['shard']
    raise UserError(
      f'{task.folder}: shard {i}/{count}: put the shards together with '
      'mmicl merge'
    )
  scorer = scorer_of(task.benchmark.scorer)
  annotations = scorer.read(task.folder / ANNOTATIONS)
  variants = tuple(
    _variant(task, scorer, annotations, variant) for variant in task.variants
  )
  had = variants[0].modes
  left = {
    mode: f'takes {" or ".join(kinds)} only'
    for mode, kinds in scorer.modes.items()
    if mode not in had
  }
  return TaskScores(task, variants, left)


def _variant(
  task: TaskFolder, scorer: Scorer, annotations: Annotations, variant: Variant
) -> VariantScores:
  place = task.place(variant)
  path = place / PREDICTIONS
  partial = bool(task.arguments['partial'])
  first, cut = {}, 0
  for line in read_lines(place):
    first = first or line
    cut += 'lost' in line
  kind = 'scores' if 'scores' in first else 'output'
  modes: dict[str, Scored] = {}
  predictions: Mapping[str, Any] = {}
  for mode, kinds in scorer.modes.items():
    if kind not in kinds:
      continue
    if not predictions:
      predictions = read_predictions(path, annotations, kinds, partial)
    modes[mode] = scorer.score(annotations, predictions, mode)
  own = task.benchmark.mode
  if own not in modes:
    raise UserError(
      f'{task.folder}: mode {own} of {scorer.name} takes no '
      f'{kind}: change "mode" or "give" in the declaration'
    )
  asked = {q.id: q for q in read_questions(place / ASKED)}
  main = modes[own]
  headline = next(iter(main.metrics.items()), None)
  return VariantScores(
    variant,
    len(predictions),
    len(predictions) / len(annotations.ids),
    modes,
    headline,
    headline
    and _interval(scorer, annotations, predictions, own, main, headline, asked),
    {item['id']: item for item in main.per_item},
    {name: question.group for name, question in asked.items()},
    sum(len(asked[name].shots) for name in predictions) / len(predictions),
    cut,
    first.get('model', ''),
  )


def _interval(
  scorer: Scorer,
  annotations: Annotations,
  predictions: Mapping[str, Any],
  mode: str,
  scored: Scored,
  headline: tuple[str, float],
  asked: Mapping[str, Question],
) -> tuple[float, float] | None:
  """Of a mean of items by the bootstrap, of anything else by half samples."""
  name, value = headline
  # A group's name may be that of another split's: MME names pictures alike.
  groups = {k: f'{asked[k].split}/{asked[k].group}' for k in predictions}
  if scored.per_item:
    scores = [float(item['score']) for item in scored.per_item]
    mean = sum(scores) / len(scores)
    for unit in (1.0, 100.0):
      if math.isclose(mean * unit, value, rel_tol=1e-9, abs_tol=1e-9):
        own = [groups[item['id']] for item in scored.per_item]
        found = intervals.of_mean(scores, own)
        return found and (found[0] * unit, found[1] * unit)

  def metric(ids: Sequence[str]) -> float | None:
    chosen = {one: predictions[one] for one in ids}
    try:
      return scorer.score(annotations, chosen, mode).metrics.get(name)
    except UserError:  # a half may have one class only
      return None

  strata = {k: asked[k].split for k in predictions}
  return intervals.half_samples(list(predictions), groups, strata, metric)


def read_lines(place: Path) -> Iterator[dict[str, Any]]:
  """The lines of a variant's predictions."""
  with open(place / PREDICTIONS, encoding='utf-8') as file:
    for line in file:
      yield json.loads(line)

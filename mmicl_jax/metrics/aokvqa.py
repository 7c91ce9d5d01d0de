"""A-OKVQA: a choice of four, or own words; nothing is normalised."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmicl_jax.metrics.files import (
  id_of,
  json_file,
  one_file,
  place_of,
  texts_of,
  unique_ids,
  value_of,
)
from mmicl_jax.metrics.scorer import (
  EITHER,
  TEXT,
  Annotations,
  Scored,
  Scorer,
  best_of,
  mean,
)


def _rows(folder: Path) -> tuple[list[str], list[tuple[str, Any]]]:
  path = one_file(folder, 'aokvqa_v1p0_*.json')
  records = json_file(path, list)
  rows = [(f'{path}, [{i}]', record) for i, record in enumerate(records)]
  names = (id_of(*row, 'question_id') for row in rows)
  return unique_ids(path, names, 'question_id'), rows


@dataclass(frozen=True)
class _Choice:
  choices: list[str]
  right: int


def _read_choices(folder: Path) -> Annotations:
  ids, rows = _rows(folder)
  data = dict(zip(ids, map(_choice, rows), strict=True))
  candidates = {name: (len(one.choices),) for name, one in data.items()}
  return Annotations(ids, data, candidates)


def _choice(row: tuple[str, Any]) -> _Choice:
  where, record = row
  choices = texts_of(where, record, 'choices')
  right = place_of(where, record, 'correct_choice_idx', len(choices))
  return _Choice(choices, right)


def _score_choices(
  annotations: Annotations,
  predictions: Mapping[str, str | list[float]],
  mode: str,
) -> Scored:
  """A text is compared as it is, also if it is none of the choices."""
  del mode
  per_item = []
  for name, prediction in predictions.items():
    one: _Choice = annotations.data[name]
    if isinstance(prediction, str):
      text = prediction
    else:
      text = one.choices[best_of(prediction)]
    hit = float(text == one.choices[one.right])
    parsed = text if text in one.choices else None
    per_item.append({'id': name, 'score': hit, 'parsed': parsed})
  accuracy = 100 * mean([item['score'] for item in per_item])
  return Scored({'accuracy': accuracy}, per_item)


@dataclass(frozen=True)
class _Direct:
  answers: list[str]
  difficult: bool


def _read_direct(folder: Path) -> Annotations:
  ids, rows = _rows(folder)
  return Annotations(ids, dict(zip(ids, map(_direct, rows), strict=True)))


def _direct(row: tuple[str, Any]) -> _Direct:
  where, record = row
  return _Direct(
    texts_of(where, record, 'direct_answers'),
    value_of(where, record, 'difficult_direct_answer', bool),
  )


def _score_direct(
  annotations: Annotations, predictions: Mapping[str, str], mode: str
) -> Scored:
  """min(matches / 3, 1); LAVIS counts the difficult questions too."""
  per_item = []
  for name, output in predictions.items():
    one: _Direct = annotations.data[name]
    if mode == 'lavis' or not one.difficult:
      value = min(1.0, one.answers.count(output) / 3)
      per_item.append({'id': name, 'score': value, 'parsed': output})
  notes = []
  left_out = len(predictions) - len(per_item)
  if left_out:
    notes.append(f'{left_out} difficult_direct_answer questions are left out')
  scores = [item['score'] for item in per_item]
  metrics = {'accuracy': 100 * mean(scores)} if scores else {}
  return Scored(metrics, per_item, notes)


SCORERS = (
  Scorer('aokvqa_mc', {'official': EITHER}, _read_choices, _score_choices),
  Scorer(
    'aokvqa_da',
    {'official': TEXT, 'lavis': TEXT},
    _read_direct,
    _score_direct,
  ),
)

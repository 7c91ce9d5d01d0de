"""VizWiz: what blind people asked about photos, and what cannot be answered."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmicl_jax.errors import UserError
from mmicl_jax.metrics.contractions import VIZWIZ_CONTRACTIONS
from mmicl_jax.metrics.files import (
  json_file,
  one_file,
  text_of_each,
  unique_ids,
  value_of,
)
from mmicl_jax.metrics.scorer import (
  RANKED,
  TEXT,
  Annotations,
  Scored,
  Scorer,
  mean,
)
from mmicl_jax.metrics.vqa_accuracy import by_position
from mmicl_jax.metrics.vqa_text import (
  evalai_normal,
  official_punctuation,
  one_line,
  words_and_digits,
)


@dataclass(frozen=True)
class _Photo:
  answer_type: str
  answers: tuple[str, ...]


def _rows(folder: Path) -> tuple[list[str], list[tuple[str, Any]]]:
  """The names of the images, and (where, record) of each."""
  path = one_file(folder, 'val.json', 'test.json')
  records = json_file(path, list)
  rows = [(f'{path}, [{i}]', record) for i, record in enumerate(records)]
  names = (value_of(*row, 'image', str) for row in rows)
  return unique_ids(path, names, 'image'), rows


def _read(folder: Path) -> Annotations:
  ids, rows = _rows(folder)
  return Annotations(ids, dict(zip(ids, map(_photo, rows), strict=True)))


def _photo(row: tuple[str, Any]) -> _Photo:
  where, record = row
  answers = value_of(where, record, 'answers', list)
  return _Photo(
    value_of(where, record, 'answer_type', str),
    tuple(text_of_each(where, answers, 'answer')),
  )


@functools.lru_cache(1 << 16)
def _official(text: str) -> str:
  """VQA's form, but with the curly apostrophes of VizWiz's own table."""
  return words_and_digits(
    official_punctuation(one_line(text)), VIZWIZ_CONTRACTIONS
  )


def _score(
  annotations: Annotations, predictions: Mapping[str, str], mode: str
) -> Scored:
  """The official program normalises the prediction only."""
  per_item = []
  groups: dict[str, list[float]] = {'accuracy': []}
  for name, output in predictions.items():
    photo: _Photo = annotations.data[name]
    answers: list[str] | tuple[str, ...] = photo.answers
    if mode == 'official':
      parsed = _official(output)
    else:
      parsed = evalai_normal(output)
      answers = [evalai_normal(answer) for answer in answers]
    value = by_position(len(answers), answers.count(parsed))
    per_item.append({'id': name, 'score': value, 'parsed': parsed})
    groups['accuracy'].append(value)
    if mode == 'official':
      groups.setdefault(f'answer_type/{photo.answer_type}', []).append(value)
  metrics = {group: 100 * mean(values) for group, values in groups.items()}
  return Scored(metrics, per_item)


def _read_answerable(folder: Path) -> Annotations:
  ids, rows = _rows(folder)
  data = dict(zip(ids, map(_answerable, rows), strict=True))
  return Annotations(ids, data, dict.fromkeys(ids, (1,)))


def _answerable(row: tuple[str, Any]) -> bool:
  where, record = row
  value = value_of(where, record, 'answerable', int)
  if value not in (0, 1):
    raise UserError(
      f"{where}: 'answerable' is neither 0 nor 1: give the official file"
    )
  return value == 1


def _score_answerable(
  annotations: Annotations, predictions: Mapping[str, list[float]], mode: str
) -> Scored:
  """Unanswerable questions are to be found, by 1 - score.

  Average precision is the mean, over all of them, of the precision among those
  that rank at least as high; this is each one's share, and answerable ones have
  none.
  """
  del mode
  scores = {name: 1 - value for name, [value] in predictions.items()}
  wanted = {name for name in scores if not annotations.data[name]}
  found = {name for name, value in scores.items() if value > 0.5}
  shares = _precisions(scores, wanted)
  per_item = [
    {
      'id': name,
      'score': shares[name] if name in wanted else 0.0,
      'parsed': 'unanswerable' if name in found else 'answerable',
    }
    for name in scores
  ]
  total = len(wanted) + len(found)
  metrics = {
    'average_precision': 100
    * mean([shares[name] for name in scores if name in wanted] or [0.0]),
    'f1': 100 * (2 * len(wanted & found) / total if total else 0.0),
  }
  notes = []
  if not wanted:
    notes.append('no question is unanswerable: average precision and F1 are 0')
  outside = sum(not 0 <= value <= 1 for value in scores.values())
  if outside:
    notes.append(f'{outside} scores are not in 0..1: F1 needs probabilities')
  return Scored(metrics, per_item, notes)


def _precisions(
  scores: Mapping[str, float], wanted: set[str]
) -> dict[str, float]:
  """For each item the share of wanted ones among scores that are not lower."""
  ranked = sorted(scores, key=lambda name: -scores[name])
  precisions: dict[str, float] = {}
  hits = start = 0
  for end, name in enumerate(ranked, 1):
    hits += name in wanted
    if end == len(ranked) or scores[ranked[end]] < scores[name]:
      precisions |= dict.fromkeys(ranked[start:end], hits / end)
      start = end
  return precisions


SCORERS = (
  Scorer('vizwiz', {'official': TEXT, 'lmms-eval': TEXT}, _read, _score),
  Scorer(
    'vizwiz_answerability',
    {'official': RANKED},
    _read_answerable,
    _score_answerable,
  ),
)

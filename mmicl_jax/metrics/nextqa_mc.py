"""NExT-QA with five choices: why, when and what happens in a video."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mmicl_jax.errors import UserError
from mmicl_jax.metrics.breakdown import breakdown
from mmicl_jax.metrics.files import column_rows, one_file, unique_ids
from mmicl_jax.metrics.scorer import (
  EITHER,
  Annotations,
  Prediction,
  Scored,
  Scorer,
  best_of,
  mean,
)

_TYPES = ('CW', 'CH', 'TN', 'TC', 'DC', 'DL', 'DO')
_CHOICES = ('a0', 'a1', 'a2', 'a3', 'a4')
_PLACES = ('0', '1', '2', '3', '4')


@dataclass(frozen=True)
class _Question:
  answer: int
  kind: str  # one of _TYPES


def _read(folder: Path) -> Annotations:
  """One CSV; an id is the video and the question's number, joined by _."""
  path = one_file(folder, '*.csv')
  rows = column_rows(path, ('video', 'qid', 'answer', 'type', *_CHOICES))
  ids = unique_ids(path, [f'{row["video"]}_{row["qid"]}' for _, row in rows])
  made = [_question(where, row) for where, row in rows]
  return Annotations(
    ids, dict(zip(ids, made, strict=True)), dict.fromkeys(ids, (5,))
  )


def _question(where: str, row: Mapping[str, str]) -> _Question:
  """TP, what was before, counts as TN, what came next: officially so."""
  kind = 'TN' if row['type'] == 'TP' else row['type']
  if kind not in _TYPES:
    raise UserError(
      f'{where}: the type {row["type"]!r} is not one of TP, '
      f'{", ".join(_TYPES)}: give the official file'
    )
  if row['answer'] not in _PLACES:
    raise UserError(
      f'{where}: the answer {row["answer"]!r} is not 0 to 4: give the official '
      'file'
    )
  return _Question(int(row['answer']), kind)


def _place(prediction: Prediction) -> int | None:
  """The choice's place, from a digit alone or from five scores."""
  if not isinstance(prediction, str):
    return best_of(prediction)
  return int(prediction) if prediction in _PLACES else None


def _score(
  annotations: Annotations, predictions: Mapping[str, Prediction], mode: str
) -> Scored:
  del mode
  hits = {
    name: float(_place(prediction) == annotations.data[name].answer)
    for name, prediction in predictions.items()
  }
  kinds = [(annotations.data[name].kind, hit) for name, hit in hits.items()]
  metrics = {'accuracy': 100 * mean(list(hits.values()))}
  metrics |= breakdown('type', kinds, 100.0)
  metrics |= breakdown('group', ((kind[0], hit) for kind, hit in kinds), 100.0)
  return Scored(metrics, [{'id': k, 'score': hit} for k, hit in hits.items()])


SCORERS = (Scorer('nextqa_mc', {'official': EITHER}, _read, _score),)

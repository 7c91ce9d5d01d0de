"""Video QA with one-word answers: MSVD-QA, MSRVTT-QA and iVQA.

The files are those of just-ask: a CSV, and vocab.json, which numbers the
answers that its model can give. An answer outside that vocabulary can never be
right.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mmicl_jax.errors import UserError
from mmicl_jax.metrics.breakdown import breakdown
from mmicl_jax.metrics.files import (
  column_rows,
  json_file,
  one_file,
  optional_file,
  unique_ids,
  value_of,
)
from mmicl_jax.metrics.ranking import best_places
from mmicl_jax.metrics.scorer import (
  EITHER,
  Annotations,
  Prediction,
  Scored,
  Scorer,
  mean,
)

_TYPES = ('what', 'how', 'color', 'where', 'who', 'when')
_FIVE = tuple(f'answer{n}' for n in range(1, 6))


@dataclass(frozen=True)
class _Question:
  credit: Mapping[str, float]  # of each answer that earns any
  kind: str | None  # one of _TYPES; iVQA has none


@dataclass(frozen=True)
class _Set:
  questions: Mapping[str, _Question]
  vocabulary: list[str] | None


def _read(folder: Path, ivqa: bool) -> Annotations:
  """One CSV; ids are its column `id`, and in iVQA the row from 0."""
  path = one_file(folder, '*.csv')
  vocabulary = _vocabulary(folder)
  needed = _FIVE if ivqa else ('answer', 'id', 'type')
  rows = column_rows(path, needed)
  if ivqa:
    ids = [str(number) for number in range(len(rows))]
    made = [_ivqa_question(row) for _, row in rows]
  else:
    ids = unique_ids(path, [row['id'] for _, row in rows])
    made = [_question(where, row) for where, row in rows]
  if vocabulary is not None:
    known = set(vocabulary)
    made = [_with_credit_in(known, one) for one in made]
  questions = dict(zip(ids, made, strict=True))
  counts = {} if vocabulary is None else dict.fromkeys(ids, (len(vocabulary),))
  return Annotations(ids, _Set(questions, vocabulary), counts)


def _vocabulary(folder: Path) -> list[str] | None:
  """The answers of vocab.json, {answer: number}, by number."""
  path = optional_file(folder, 'vocab.json')
  if path is None:
    return None
  numbers = json_file(path)
  found = {value_of(str(path), numbers, answer, int) for answer in numbers}
  if found != set(range(len(numbers))):
    raise UserError(
      f'{path} does not number its answers 0, 1, 2 ..: give the official file'
    )
  return sorted(numbers, key=numbers.__getitem__)


def _question(where: str, row: Mapping[str, str]) -> _Question:
  if row['type'] not in map(str, range(len(_TYPES))):
    raise UserError(
      f'{where}: the type is {row["type"]!r} instead of 0 to '
      f'{len(_TYPES) - 1}: give the official file'
    )
  return _Question({row['answer']: 1.0}, _TYPES[int(row['type'])])


def _ivqa_question(row: Mapping[str, str]) -> _Question:
  """Half a point for each of the five people who gave the answer, up to 1."""
  given = [row[name] for name in _FIVE if row[name]]
  return _Question({one: min(given.count(one) / 2, 1.0) for one in given}, None)


def _with_credit_in(known: set[str], question: _Question) -> _Question:
  credit = {k: v for k, v in question.credit.items() if k in known}
  return _Question(credit, question.kind)


def _score(
  annotations: Annotations, predictions: Mapping[str, Prediction], mode: str
) -> Scored:
  """Accuracy of the answer, or of the first and the best of ten ranked ones."""
  del mode
  questions = annotations.data.questions
  credits = {}  # of each item: its answer's, or those of its ten best
  for name, prediction in predictions.items():
    answers = _answers(prediction, annotations.data.vocabulary)
    credits[name] = [questions[name].credit.get(one, 0.0) for one in answers]
  scores = {name: of_ten[0] for name, of_ten in credits.items()}
  metrics = {'accuracy': mean(list(scores.values()))}
  if not isinstance(next(iter(predictions.values())), str):
    metrics['accuracy_at_10'] = mean([max(one) for one in credits.values()])
  metrics |= breakdown(
    'type',
    (
      (questions[name].kind, score)
      for name, score in scores.items()
      if questions[name].kind is not None
    ),
  )
  return Scored(metrics, [{'id': k, 'score': v} for k, v in scores.items()])


def _answers(prediction: Prediction, vocabulary: list[str] | None) -> list[str]:
  if isinstance(prediction, str):
    return [prediction]
  assert vocabulary is not None  # or else no number of scores is right
  return [vocabulary[place] for place in best_places(prediction, 10)]


SCORERS = tuple(
  Scorer(
    name, {'official': EITHER}, partial(_read, ivqa=name == 'ivqa'), _score
  )
  for name in ('msvd_qa', 'msrvtt_qa', 'ivqa')
)

"""ScienceQA: questions from school, some with a picture, with choices."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmicl_jax.errors import UserError
from mmicl_jax.metrics.breakdown import breakdown
from mmicl_jax.metrics.files import (
  json_file,
  one_file,
  place_of,
  unique_ids,
  value_of,
)
from mmicl_jax.metrics.scorer import (
  EITHER,
  TEXT,
  Annotations,
  Prediction,
  Scored,
  Scorer,
  best_of,
  mean,
)

_SUBJECTS = {
  'natural science': 'natural',
  'social science': 'social',
  'language science': 'language',
}
_GRADES = {
  f'grade{n}': 'grade_1_6' if n <= 6 else 'grade_7_12' for n in range(1, 13)
}
_GROUPS = (
  *_SUBJECTS.values(),
  *('has_text', 'has_image', 'no_context', 'grade_1_6', 'grade_7_12'),
)


@dataclass(frozen=True)
class _Problem:
  answer: int
  choices: int
  groups: tuple[str, ...]  # the names in _GROUPS that it belongs to
  topic: str


def _read(folder: Path) -> Annotations:
  """problems.json, and pid_splits.json, whose "test" says which count."""
  path = one_file(folder, 'problems.json')
  problems = json_file(path)
  splits = one_file(folder, 'pid_splits.json')
  test = value_of(str(splits), json_file(splits), 'test', list)
  ids = unique_ids(splits, map(str, test))
  found = {}
  for name in ids:
    if name not in problems:
      raise UserError(
        f'{splits} names {name!r}, which {path} does not have: give both files '
        'of one release'
      )
    found[name] = _problem(f'{path}, problem {name}', problems[name])
  counts = {name: (problem.choices,) for name, problem in found.items()}
  return Annotations(ids, found, counts)


def _problem(where: str, row: Any) -> _Problem:
  choices = len(value_of(where, row, 'choices', list))
  answer = place_of(where, row, 'answer', choices)
  hint = bool(value_of(where, row, 'hint'))
  image = bool(value_of(where, row, 'image'))
  held = {'has_text': hint, 'has_image': image}
  held['no_context'] = not hint and not image
  subject = _SUBJECTS.get(value_of(where, row, 'subject', str))
  grade = _GRADES.get(value_of(where, row, 'grade', str))
  held |= {name: True for name in (subject, grade) if name is not None}
  groups = tuple(name for name in _GROUPS if held.get(name))
  return _Problem(answer, choices, groups, value_of(where, row, 'topic', str))


def _index(prediction: Prediction) -> int | None:
  """The place of the choice, as Python's int() reads it; None: no number."""
  if not isinstance(prediction, str):
    return best_of(prediction)
  try:
    return int(prediction)
  except ValueError:
    return None


def _names_letter(output: str, answer: int) -> bool:
  """The letter alone, of any case, or first of all a capital and a dot."""
  letter = chr(ord('a') + answer)
  text = output.strip()
  if text.lower() == letter:
    return True
  return text[1:2] == '.' and text[0].isupper() and text[0].lower() == letter


def _score(
  annotations: Annotations, predictions: Mapping[str, Any], mode: str
) -> Scored:
  hits = {}
  for name, prediction in predictions.items():
    answer = annotations.data[name].answer
    if mode == 'lmms-eval':
      hits[name] = float(_names_letter(prediction, answer))
    else:
      hits[name] = float(_index(prediction) == answer)
  metrics = {'accuracy': 100 * mean(list(hits.values()))}
  problems = {name: annotations.data[name] for name in hits}
  for group in ('has_image',) if mode == 'lmms-eval' else _GROUPS:
    members = [hit for k, hit in hits.items() if group in problems[k].groups]
    if members:
      metrics[group] = 100 * mean(members)
  notes = []
  if mode == 'official':
    lacking = [group for group in _GROUPS if group not in metrics]
    if lacking:
      notes.append(
        'there are no questions of, and the official program gives -1 for: '
        + ', '.join(lacking)
      )
    by_topic = ((problems[name].topic, hit) for name, hit in hits.items())
    metrics |= breakdown('topic', by_topic, 100.0)
  items = [{'id': name, 'score': hit} for name, hit in hits.items()]
  return Scored(metrics, items, notes)


SCORERS = (
  Scorer('scienceqa', {'official': EITHER, 'lmms-eval': TEXT}, _read, _score),
)

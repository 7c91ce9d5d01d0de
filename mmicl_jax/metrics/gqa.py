"""GQA: questions made from scene graphs, which entail one another."""

import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmicl_jax.errors import UserError
from mmicl_jax.metrics.breakdown import breakdown
from mmicl_jax.metrics.files import (
  json_file,
  one_file,
  optional_file,
  texts_of,
  value_of,
)
from mmicl_jax.metrics.scorer import TEXT, Annotations, Scored, Scorer, mean
from mmicl_jax.metrics.vqa_text import official_normal

# Steps of the question's program that the official program does not count.
_NO_STEPS = ('exist', 'query: name', 'choose name')
# What a question about something in common is checked against, whatever
# choices.json says of it.
_COMMON = ('color', 'material', 'shape')


@dataclass(frozen=True)
class _Question:
  answer: str
  balanced: bool
  words: int
  steps: int
  structural: str
  semantic: str
  group: str | None
  entailed: tuple[str, ...]  # without itself
  # The valid and the plausible answers; None: there is no choices.json.
  choices: tuple[Sequence[str], Sequence[str]] | None = None


def _read(folder: Path) -> Annotations:
  """*questions.json and, if there, *choices.json; the data is by id."""
  path = one_file(folder, '*questions.json')
  choices_path = optional_file(folder, '*choices.json')
  choices = None if choices_path is None else json_file(choices_path)
  questions = {
    name: _question(
      f'{path}, question {name}', name, row, choices_path, choices
    )
    for name, row in json_file(path).items()
  }
  if not questions:
    raise UserError(f'{path} has no questions: give the official file')
  return Annotations(list(questions), questions)


def _question(
  where: str,
  name: str,
  row: Any,
  choices_path: Path | None,
  choices: Mapping[str, Any] | None,
) -> _Question:
  types = value_of(where, row, 'types', dict)
  balanced = value_of(where, row, 'isBalanced', bool)
  own = None
  if balanced and choices is not None:
    if 'Common' in value_of(where, types, 'detailed', str):
      own = _COMMON, _COMMON
    else:
      found = value_of(str(choices_path), choices, name, dict)
      at = f'{choices_path}, question {name}'
      own = _texts(at, found, 'valid'), _texts(at, found, 'plausible')
  others = value_of(where, row, 'entailed', list)
  group = value_of(where, value_of(where, row, 'groups', dict), 'global')
  return _Question(
    answer=value_of(where, row, 'answer', str),
    balanced=balanced,
    words=len(value_of(where, row, 'question', str).split()),
    steps=_steps(where, value_of(where, row, 'semantic', list)),
    structural=value_of(where, types, 'structural', str),
    semantic=value_of(where, types, 'semantic', str),
    group=None if group is None else str(group),
    entailed=tuple(str(other) for other in others if other != name),
    choices=own,
  )


def _texts(where: str, record: Any, name: str) -> list[str]:
  """A list of texts, which may be empty."""
  values = value_of(where, record, name, list)
  return texts_of(where, record, name) if values else values


def _steps(where: str, program: Sequence[Any]) -> int:
  lines = [
    f'{value_of(where, one, "operation")}: {value_of(where, one, "argument")}'
    for one in program
  ]
  return sum(not any(word in line for word in _NO_STEPS) for line in lines)


def _score(
  annotations: Annotations, predictions: Mapping[str, str], mode: str
) -> Scored:
  questions = annotations.data
  if mode == 'official':
    return _official(questions, predictions)
  normal = {'lmms-eval': _without_punctuation, 'lavis': official_normal}[mode]
  hits = {
    name: float(normal(output) == normal(questions[name].answer))
    for name, output in predictions.items()
  }
  metrics = {'accuracy': 100 * mean(list(hits.values()))}
  return Scored(metrics, [{'id': k, 'score': hit} for k, hit in hits.items()])


def _without_punctuation(text: str) -> str:
  return text.lower().translate(str.maketrans('', '', string.punctuation))


def _official(
  questions: Mapping[str, _Question], predictions: Mapping[str, str]
) -> Scored:
  """Equal strings, case and all, of the balanced questions alone."""
  scored = {k: questions[k] for k in predictions if questions[k].balanced}
  if not scored:
    raise UserError(
      'none of the questions with a prediction is balanced (isBalanced): the '
      'official accuracy is over balanced questions; predict some'
    )
  hits = {k: float(predictions[k] == one.answer) for k, one in scored.items()}
  metrics = {'accuracy': 100 * mean(list(hits.values()))}
  for name, is_open in (('binary', False), ('open', True)):
    members = [
      hits[k] for k, q in scored.items() if (q.structural == 'query') == is_open
    ]
    if members:
      metrics[name] = 100 * mean(members)
  notes: list[str] = []
  metrics |= _consistency(questions, predictions, hits, notes)
  metrics |= _in_choices(scored, predictions)
  metrics |= _distribution(scored, predictions, notes)
  for key in ('structural', 'semantic', 'words', 'steps'):
    pairs = ((getattr(scored[name], key), hit) for name, hit in hits.items())
    metrics |= breakdown(key, pairs, 100.0)
  per_item = [{'id': name, 'score': hit} for name, hit in hits.items()]
  return Scored(metrics, per_item, notes)


def _consistency(
  questions: Mapping[str, _Question],
  predictions: Mapping[str, str],
  hits: Mapping[str, float],
  notes: list[str],
) -> dict[str, float]:
  """Mean over right questions of the accuracy on what they entail, in percent.

  Officially 0 if none is right. A question is left out whose entailed ones lack
  a prediction.
  """
  lacking = next(
    (e for k in hits for e in questions[k].entailed if e not in questions), None
  )
  if lacking is not None:
    notes.append(
      f'no consistency: the entailed question {lacking} is not in the file of '
      'questions'
    )
    return {}
  whole = [
    (hit, questions[name].entailed)
    for name, hit in hits.items()
    if questions[name].entailed
    and all(e in predictions for e in questions[name].entailed)
  ]
  if not whole:
    notes.append('no consistency: no question entails others with predictions')
    return {}
  shares = [
    mean([float(predictions[e] == questions[e].answer) for e in entailed])
    for hit, entailed in whole
    if hit
  ]
  return {'consistency': 100 * mean(shares) if shares else 0.0}


def _in_choices(
  scored: Mapping[str, _Question], predictions: Mapping[str, str]
) -> dict[str, float]:
  """How many answers are among the valid, and among the plausible ones."""
  valid, plausible = [], []
  for name, question in scored.items():
    if question.choices is None:
      return {}
    valid.append(float(predictions[name] in question.choices[0]))
    plausible.append(float(predictions[name] in question.choices[1]))
  return {'validity': 100 * mean(valid), 'plausibility': 100 * mean(plausible)}


def _distribution(
  scored: Mapping[str, _Question],
  predictions: Mapping[str, str],
  notes: list[str],
) -> dict[str, float]:
  """Chi-square / 100 of predicted against true answers, over the groups.

  A group's statistic counts as often as the group has questions.
  """
  gold: dict[str, Counter[str]] = {}
  predicted: dict[str, Counter[str]] = {}
  for name, question in scored.items():
    if question.group is not None:
      gold.setdefault(question.group, Counter())[question.answer] += 1
      told = predicted.setdefault(question.group, Counter())
      told[predictions[name]] += 1
  if not gold:
    notes.append('no distribution: no question is in a group')
    return {}
  total = weight = 0.0
  for group, counts in gold.items():
    statistic = sum(
      (predicted[group][answer] - count) ** 2 / count
      for answer, count in counts.items()
    )
    total += statistic * counts.total()
    weight += counts.total()
  return {'distribution': total / weight / 100}


_MODES = ('official', 'lmms-eval', 'lavis')
SCORERS = (Scorer('gqa', dict.fromkeys(_MODES, TEXT), _read, _score),)

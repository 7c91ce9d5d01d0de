"""MME: questions in pairs with yes or no as the answer, in fourteen tasks."""

import collections
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmicl_jax.errors import UserError
from mmicl_jax.metrics.files import one_file, text_lines, unique_ids
from mmicl_jax.metrics.scorer import TEXT, Annotations, Scored, Scorer, mean
from mmicl_jax.metrics.yes_no import either_word

PERCEPTION = (
  *('existence', 'count', 'position', 'color', 'posters', 'celebrity'),
  *('scene', 'landmark', 'artwork', 'OCR'),
)
COGNITION = (
  *('commonsense_reasoning', 'numerical_calculation', 'text_translation'),
  'code_reasoning',
)


@dataclass(frozen=True)
class _Question:
  task: str
  image: str
  label: str  # yes or no


def _read(folder: Path) -> Annotations:
  """TASK.txt: image, question and label, separated by tabs; pairs of lines."""
  questions: dict[str, _Question] = {}
  for task in (*PERCEPTION, *COGNITION):
    path = one_file(folder, f'{task}.txt')
    rows = [_row(path, number, line) for number, line in text_lines(path)]
    names = []
    seen: dict[str, int] = {}
    for image, label in rows:
      which = seen[image] = seen.get(image, -1) + 1
      names.append(f'{task}/{image}/{which}')
      questions[names[-1]] = _Question(task, image, label)
    unique_ids(path, names)
    for image, which in seen.items():
      if which != 1:
        raise UserError(
          f'{path} has {which + 1} lines for {image} instead of two: give the '
          'official file'
        )
  return Annotations(list(questions), questions)


def _row(path: Path, number: int, line: str) -> tuple[str, str]:
  """The image and the label of a line."""
  cells = line.split('\t')
  if len(cells) != 3 or cells[2].strip().lower() not in ('yes', 'no'):
    raise UserError(
      f'{path}, line {number} is not an image, a question, and Yes or No, '
      'separated by tabs: give the official file'
    )
  return cells[0], cells[2].strip().lower()


def _official(output: str) -> str:
  """'yes', 'no' or 'other': by the first four characters, yes before no.

  Nothing is stripped, so 'North' is no and 'There is no dog' is other.
  """
  beginning = output.lower()[:4]
  return next((word for word in ('yes', 'no') if word in beginning), 'other')


def _lmms_eval(output: str) -> str:
  text = output.lower().strip().replace('.', '')
  return {'y': 'yes', 'n': 'no'}.get(text) or _official(text)


_PARSERS = {
  'official': _official,
  'lmms-eval': _lmms_eval,
  'vlmevalkit': either_word,
}


def _score(
  annotations: Annotations, predictions: Mapping[str, str], mode: str
) -> Scored:
  """A task's score is 100 acc + 100 acc_plus: of lines, and of their pairs.

  An image that lacks one of its two answers is left out: the official program
  reads lines two by two and has no number for one.
  """
  parse = _PARSERS[mode]
  right: dict[str, dict[str, list[float]]] = {}
  per_item: list[dict[str, Any]] = []
  understood = set()
  questions = {name: annotations.data[name] for name in predictions}
  answered = collections.Counter((q.task, q.image) for q in questions.values())
  for name, question in questions.items():
    if answered[question.task, question.image] < 2:
      continue
    output = predictions[name]
    parsed = parse(output)
    if parsed.lower() in ('yes', 'no'):
      understood.add(question.task)
    hit = float(parsed.lower() == question.label)
    images = right.setdefault(question.task, {})
    images.setdefault(question.image, []).append(hit)
    per_item.append({'id': name, 'score': hit, 'parsed': parsed})
  metrics: dict[str, float] = {}
  tasks: dict[str, float] = {}
  for task, images in right.items():
    acc = mean([hit for hits in images.values() for hit in hits])
    pairs = mean([min(hits) for hits in images.values()])
    tasks[task] = 100 * acc + 100 * pairs
    metrics[f'task/{task}/acc'] = acc
    metrics[f'task/{task}/acc_plus'] = pairs
    metrics[f'task/{task}/score'] = tasks[task]
  notes = []
  unclear = [task for task in right if task not in understood]
  if unclear and mode == 'official':
    notes.append(
      'no answer is yes or no, on which the official program fails with a '
      f'current scikit-learn; the score is 0: {", ".join(unclear)}'
    )
  sums = {}
  for name, members in (('perception', PERCEPTION), ('cognition', COGNITION)):
    scores = [tasks[task] for task in members if task in tasks]
    if scores:
      sums[name] = sum(scores)
    if len(scores) < len(members):
      lacking = ', '.join(task for task in members if task not in tasks)
      notes.append(f'{name} lacks tasks without a whole pair: {lacking}')
  return Scored(sums | metrics, per_item, notes)


SCORERS = (Scorer('mme', dict.fromkeys(_PARSERS, TEXT), _read, _score),)

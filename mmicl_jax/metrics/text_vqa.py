"""TextVQA and ST-VQA: answers that are read in the picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmicl_jax.errors import UserError
from mmicl_jax.metrics.edit_distance import edit_distance
from mmicl_jax.metrics.files import (
  id_of,
  json_file,
  one_file,
  texts_of,
  unique_ids,
  value_of,
)
from mmicl_jax.metrics.scorer import TEXT, Annotations, Scored, Scorer, mean
from mmicl_jax.metrics.vqa_accuracy import by_position
from mmicl_jax.metrics.vqa_text import evalai_normal, vlmevalkit_normal


def _read(path: Path) -> Annotations:
  """data[]: question_id and answers."""
  rows = value_of(str(path), json_file(path), 'data', list)
  where = [f'{path}, data[{i}]' for i in range(len(rows))]
  ids = unique_ids(path, map(_question_id, where, rows), 'question_id')
  answers = [
    texts_of(at, row, 'answers') for at, row in zip(where, rows, strict=True)
  ]
  return Annotations(ids, dict(zip(ids, answers, strict=True)))


def _question_id(where: str, row: Any) -> str:
  return id_of(where, row, 'question_id')


def _read_textvqa(folder: Path) -> Annotations:
  path = one_file(folder, 'TextVQA_*.json')
  annotations = _read(path)
  for name, answers in annotations.data.items():
    if len(answers) != 10:
      raise UserError(
        f'{path}: the question_id {name!r} has {len(answers)} answers instead '
        'of ten: give the official file'
      )
  return annotations


def _score_textvqa(
  annotations: Annotations, predictions: Mapping[str, str], mode: str
) -> Scored:
  """mmf and lmms-eval have the same processor; VLMEvalKit has VQA's."""
  normal = vlmevalkit_normal if mode == 'vlmevalkit' else evalai_normal
  per_item = []
  for name, output in predictions.items():
    parsed = normal(output)
    answers = [normal(answer) for answer in annotations.data[name]]
    value = by_position(len(answers), answers.count(parsed))
    per_item.append({'id': name, 'score': value, 'parsed': parsed})
  return Scored(
    {'accuracy': 100 * mean([item['score'] for item in per_item])}, per_item
  )


def _read_stvqa(folder: Path) -> Annotations:
  return _read(one_file(folder, '*task_3.json'))


def _stripped(text: str) -> str:
  return text.lower().strip()


def _similarity(output: str, answer: str) -> float:
  """mmf's ANLS of one answer; two empty texts, on which it fails, are equal."""
  a, b = _stripped(output), _stripped(answer)
  longer = max(len(a), len(b))
  value = 1 - edit_distance(a, b) / longer if longer else 1.0
  return value if value >= 0.5 else 0.0


def _one_blank(text: str) -> str:
  return ' '.join(text.lower().split())


def harness_similarity(output: str, answer: str) -> float:
  """Distances of texts with single blanks, by the length of the raw texts."""
  distance = edit_distance(_one_blank(output), _one_blank(answer))
  # Capitals, because a letter such as 'ß' becomes two.
  longer = max(len(output.upper()), len(answer.upper()))
  value = 1 - (distance / longer if longer else 0.0)
  return value if value >= 0.5 else 0.0


def _score_stvqa(
  annotations: Annotations, predictions: Mapping[str, str], mode: str
) -> Scored:
  official = mode == 'official'
  similarity = _similarity if official else harness_similarity
  parse = _stripped if official else _one_blank
  per_item: list[dict[str, Any]] = []
  empty = []
  for name, output in predictions.items():
    answers = annotations.data[name]
    item: dict[str, Any] = {
      'id': name,
      'score': max(similarity(output, answer) for answer in answers),
      'parsed': parse(output),
    }
    if official:
      normal = evalai_normal(output)
      item['accuracy'] = float(normal in map(evalai_normal, answers))
      if not item['parsed'] and '' in map(_stripped, answers):
        empty.append(name)
    per_item.append(item)
  metrics = {'anls': mean([item['score'] for item in per_item])}
  if official:
    metrics['accuracy'] = mean([item['accuracy'] for item in per_item])
  notes = []
  if empty:
    notes.append(
      'an empty prediction against an empty answer has ANLS 1, where the '
      f'official program fails ({len(empty)} items, the first is {empty[0]!r})'
    )
  return Scored(metrics, per_item, notes)


_MODES = {'official': TEXT, 'lmms-eval': TEXT, 'vlmevalkit': TEXT}
SCORERS = (
  Scorer('textvqa', _MODES, _read_textvqa, _score_textvqa),
  Scorer('stvqa', _MODES, _read_stvqa, _score_stvqa),
)

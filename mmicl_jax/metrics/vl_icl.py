"""VL-ICL Bench: in-context tasks whose answers are texts."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmicl_jax.errors import UserError
from mmicl_jax.metrics.files import id_of, json_file, unique_ids, value_of
from mmicl_jax.metrics.scorer import TEXT, Annotations, Scored, Scorer, mean

TASKS = (
  *('open_mi', 'matching_mi', 'operator_induction', 'clevr', 'textocr'),
  'operator_induction_interleaved',
)


def _read(folder: Path) -> Annotations:
  """TASK/query.json of one task or more; other folders are left alone."""
  data: dict[str, tuple[str, str]] = {}
  for task in TASKS:
    path = folder / task / 'query.json'
    if not path.is_file():
      continue
    records = json_file(path, list)
    rows = [(f'{path}, [{i}]', record) for i, record in enumerate(records)]
    names = unique_ids(path, (id_of(*row, 'id') for row in rows))
    for name, row in zip(names, rows, strict=True):
      data[f'{task}/{name}'] = task, str(value_of(*row, 'answer', str, float))
  if not data:
    raise UserError(
      f'{folder} has no TASK/query.json: give the folder with one of '
      f'{", ".join(TASKS)}'
    )
  return Annotations(list(data), data)


def _first_line(output: str) -> str:
  """Up to the first newline, or else the first period, unless it is first."""
  text = output.strip()
  end = text.find('\n')
  if end <= 0:
    end = text.find('.')
  return text[:end] if end > 0 else text


def _understood(task: str, output: str) -> str:
  text = _first_line(output)
  if task.startswith('operator_induction'):
    match = re.search(r'\d+', text)
    return match[0] if match else ''
  if task == 'matching_mi':
    return 'yes' if 'yes' in text.lower() else 'no'
  return text


def _score(
  annotations: Annotations, predictions: Mapping[str, str], mode: str
) -> Scored:
  del mode
  tasks: dict[str, list[float]] = {}
  per_item: list[dict[str, Any]] = []
  for name, output in predictions.items():
    task, answer = annotations.data[name]
    parsed = _understood(task, output)
    hit = float(parsed.lower() == answer.lower())
    tasks.setdefault(task, []).append(hit)
    per_item.append({'id': name, 'score': hit, 'parsed': parsed})
  return Scored(
    {f'{task}/accuracy': mean(hits) for task, hits in tasks.items()}, per_item
  )


SCORERS = (Scorer('vl_icl', {'official': TEXT}, _read, _score),)

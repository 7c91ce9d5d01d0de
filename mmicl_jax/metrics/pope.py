"""POPE: is there such an object in the image? In three subsets."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmicl_jax.errors import UserError
from mmicl_jax.metrics.files import (
  id_of,
  json_lines,
  matching_files,
  unique_ids,
  value_of,
)
from mmicl_jax.metrics.scorer import TEXT, Annotations, Scored, Scorer, mean
from mmicl_jax.metrics.yes_no import either_word


def _read(folder: Path) -> Annotations:
  """Files such as coco_pope_random.json, which are JSON Lines."""
  labels: dict[str, tuple[str, str]] = {}
  origin: dict[str, Path] = {}
  for path in matching_files(folder, '*pope_*.json'):
    subset = path.stem.rpartition('pope_')[2]
    if subset in origin:
      raise UserError(
        f'{path} and {origin[subset].name} are both of the subset {subset}: '
        'leave one of them there'
      )
    origin[subset] = path
    rows = json_lines(path)
    names = unique_ids(
      path, (id_of(*row, 'question_id') for row in rows), 'question_id'
    )
    for name, (where, row) in zip(names, rows, strict=True):
      label = value_of(where, row, 'label', str).strip().lower()
      if label not in ('yes', 'no'):
        raise UserError(
          f'{where}: the label is neither yes nor no: give the official file'
        )
      labels[f'{subset}/{name}'] = (subset, label)
  return Annotations(list(labels), labels)


def _official(output: str) -> str:
  """Everything is yes unless No, not or no stands between single blanks."""
  words = output.partition('.')[0].replace(',', '').split(' ')
  return 'no' if {'No', 'not', 'no'} & set(words) else 'yes'


def _lmms_eval(output: str) -> str:
  return output.lower().strip()


_PARSERS = {
  'official': _official,
  'lmms-eval': _lmms_eval,
  'vlmevalkit': either_word,
}
_Row = tuple[str, str]  # what was understood in lower case, and the label


def _measures(rows: Sequence[_Row], mode: str) -> tuple[dict[str, float], bool]:
  """The metrics of a subset, and whether all of them are defined."""
  hits = rows.count(('yes', 'yes'))
  said_yes = sum(said == 'yes' for said, _ in rows)
  is_yes = sum(label == 'yes' for _, label in rows)
  if mode == 'lmms-eval':  # counts a miss only if the answer is exactly no
    recalled = hits + rows.count(('no', 'yes'))
  else:
    recalled = is_yes
  precision = hits / said_yes if said_yes else 0.0
  recall = hits / recalled if recalled else 0.0
  both = precision + recall
  measures = {
    'accuracy': mean([float(said == label) for said, label in rows]),
    'precision': precision,
    'recall': recall,
    'f1': 2 * precision * recall / both if both else 0.0,
  }
  if mode != 'vlmevalkit':
    # lmms-eval counts the labels, not what was said.
    ratio = is_yes if mode == 'lmms-eval' else said_yes
    measures['yes_ratio'] = ratio / len(rows)
  return measures, bool(hits)


def _score(
  annotations: Annotations, predictions: Mapping[str, str], mode: str
) -> Scored:
  subsets: dict[str, list[_Row]] = {}
  per_item = []
  for name, output in predictions.items():
    subset, label = annotations.data[name]
    parsed = _PARSERS[mode](output)
    said = parsed.lower()
    subsets.setdefault(subset, []).append((said, label))
    per_item.append(
      {'id': name, 'score': float(said == label), 'parsed': parsed}
    )
  metrics: dict[str, float] = {}
  notes = []
  if mode == 'vlmevalkit':
    rows = [row for rows in subsets.values() for row in rows]
    metrics, _ = _measures(rows, mode)
  for subset, rows in subsets.items():
    measures, defined = _measures(rows, mode)
    metrics |= {f'{subset}/{name}': value for name, value in measures.items()}
    if not defined:
      notes.append(
        f'{subset}: no right answer is yes, so precision, recall or F1 divides '
        'by zero; they are 0'
      )
  return Scored(metrics, per_item, notes)


SCORERS = (Scorer('pope', dict.fromkeys(_PARSERS, TEXT), _read, _score),)

"""VSR: does a caption name the spatial relation of two objects rightly?"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmicl_jax.errors import UserError
from mmicl_jax.metrics.breakdown import breakdown
from mmicl_jax.metrics.files import (
  json_lines,
  one_file,
  optional_file,
  place_of,
  text_lines,
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
from mmicl_jax.metrics.yes_no import either_word

_LABELS = {'0': 0, '1': 1, 'false': 0, 'true': 1}
_WORDS = ('No', 'Yes')  # of VLMEvalKit, by label


@dataclass(frozen=True)
class _Caption:
  label: int  # 1: the caption is true
  relation: str
  category: str | None


def _read(folder: Path) -> Annotations:
  """One file of JSON Lines; an item's id is its row, from 0."""
  rows = json_lines(one_file(folder, '*.jsonl'))
  relations = [value_of(at, row, 'relation', str) for at, row in rows]
  categories = _categories(folder, relations)
  captions = {}
  for number, (where, row) in enumerate(rows):
    relation = relations[number]
    label = place_of(where, row, 'label', 2)
    captions[str(number)] = _Caption(label, relation, categories.get(relation))
  ids = list(captions)
  return Annotations(ids, captions, dict.fromkeys(ids, (2,)))


def _categories(folder: Path, relations: Iterable[str]) -> dict[str, str]:
  """The category of each relation; of two the later counts, as officially."""
  path = optional_file(folder, 'rel_meta_category_dict.txt')
  if path is None:
    return {}
  categories = {}
  for number, line in text_lines(path):
    category, colon, members = line.strip().partition(': ')
    if not colon:
      raise UserError(
        f'{path}, line {number} is not "Category: relation, relation": give '
        'the official file'
      )
    for relation in members.split(','):
      categories[relation.strip()] = category.strip()
  if categories.keys().isdisjoint(relations):
    raise UserError(
      f'{path} names no relation of the captions: give the official file'
    )
  return categories


def _official(prediction: Prediction) -> int | None:
  if not isinstance(prediction, str):
    return best_of(prediction)
  return _LABELS.get(prediction.lower().removesuffix('.'))


def _score(
  annotations: Annotations, predictions: Mapping[str, Any], mode: str
) -> Scored:
  captions = {name: annotations.data[name] for name in predictions}
  if mode == 'vlmevalkit':
    return _yes_or_no(captions, predictions)
  hits = {
    name: float(_official(predictions[name]) == caption.label)
    for name, caption in captions.items()
  }
  metrics = {'accuracy': mean(list(hits.values()))}
  metrics |= breakdown(
    'relation', ((captions[name].relation, hit) for name, hit in hits.items())
  )
  metrics |= breakdown(
    'category',
    (
      (captions[name].category, hit)
      for name, hit in hits.items()
      if captions[name].category is not None
    ),
  )
  return Scored(metrics, [{'id': k, 'score': hit} for k, hit in hits.items()])


def _yes_or_no(
  captions: Mapping[str, _Caption], predictions: Mapping[str, str]
) -> Scored:
  """As VLMEvalKit: what is neither yes nor no is wrong, and counts as not yes.

  A ratio without a denominator is 0 there.
  """
  parsed = {name: either_word(output) for name, output in predictions.items()}
  per_item = []
  for name, word in parsed.items():
    hit = float(word == _WORDS[captions[name].label])
    per_item.append({'id': name, 'score': hit, 'parsed': word})
  said = sum(word == 'Yes' for word in parsed.values())
  true = sum(caption.label for caption in captions.values())
  both = sum(
    word == 'Yes' and captions[name].label == 1 for name, word in parsed.items()
  )
  precision = both / said if said else 0.0
  recall = both / true if true else 0.0
  total = precision + recall
  metrics = {
    'accuracy': mean([item['score'] for item in per_item]),
    'precision': precision,
    'recall': recall,
    'f1': 2 * precision * recall / total if total else 0.0,
  }
  return Scored(metrics, per_item)


SCORERS = (
  Scorer('vsr', {'official': EITHER, 'vlmevalkit': TEXT}, _read, _score),
)

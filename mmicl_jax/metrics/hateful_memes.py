"""Hateful Memes: how well does a score part hateful memes from others?"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

from mmicl_jax.errors import UserError
from mmicl_jax.metrics.files import (
  id_of,
  json_lines,
  one_file,
  place_of,
  unique_ids,
)
from mmicl_jax.metrics.scorer import RANKED, Annotations, Scored, Scorer, mean

_TWO_SCORES = (
  'roc_auc ranks by the difference of the two scores; the official program has '
  'the mean of both columns of a float32 softmax, which makes and breaks ties'
)


def _read(folder: Path) -> Annotations:
  """One file of JSON Lines; the data is the label of each id, 1: hateful."""
  path = one_file(folder, '*.jsonl')
  rows = json_lines(path)
  ids = unique_ids(path, [id_of(at, row, 'id') for at, row in rows])
  labels = [place_of(at, row, 'label', 2) for at, row in rows]
  return Annotations(
    ids, dict(zip(ids, labels, strict=True)), dict.fromkeys(ids, (1, 2))
  )


def _score(
  annotations: Annotations, predictions: Mapping[str, list[float]], mode: str
) -> Scored:
  """One score is a probability; of two the difference says how hateful.

  An item's share of the area under the curve: the part of the other class from
  which it is told apart, a tie counting one half. Their mean is the area.
  """
  del mode
  first = next(iter(predictions))
  count = len(predictions[first])
  for name, scores in predictions.items():
    if len(scores) != count:
      raise UserError(
        f'{name!r} has {len(scores)} scores and {first!r} has {count}: give '
        'one score for every item, or two for every item'
      )
  levels = {name: _level(scores) for name, scores in predictions.items()}
  sides = [
    sorted(level for k, level in levels.items() if annotations.data[k] == side)
    for side in (0, 1)
  ]
  for side, kind in zip(sides, ('not hateful', 'hateful'), strict=True):
    if not side:
      raise UserError(
        f'no item that is predicted is {kind}: without both classes there is '
        'no area under the curve; predict items of both'
      )
  per_item = []
  for name, level in levels.items():
    label = annotations.data[name]
    other = sides[1 - label]
    below = bisect_left(other, level)
    apart = below if label else len(other) - bisect_right(other, level)
    ties = bisect_right(other, level) - below
    per_item.append({'id': name, 'score': (apart + ties / 2) / len(other)})
  shares = [item['score'] for item in per_item]
  hateful = [
    x for x, k in zip(shares, levels, strict=True) if annotations.data[k]
  ]
  hits = [
    float(_is_hateful(scores) == annotations.data[name])
    for name, scores in predictions.items()
  ]
  metrics = {'roc_auc': mean(hateful), 'accuracy': mean(hits)}
  return Scored(metrics, per_item, [_TWO_SCORES] if count == 2 else [])


def _level(scores: list[float]) -> Decimal:
  """What items are ranked by.

  The difference is taken in decimal digits, for floats would part equal
  differences: 0.3 - 0.2 is not 0.2 - 0.1.
  """
  if len(scores) == 1:
    return Decimal(repr(scores[0]))
  return Decimal(repr(scores[1])) - Decimal(repr(scores[0]))


def _is_hateful(scores: list[float]) -> bool:
  return scores[0] >= 0.5 if len(scores) == 1 else scores[1] > scores[0]


SCORERS = (Scorer('hateful_memes', {'official': RANKED}, _read, _score),)

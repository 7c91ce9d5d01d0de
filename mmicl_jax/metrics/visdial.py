"""Visual Dialog: rank a hundred answers to each question of a dialog."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmicl_jax.errors import UserError
from mmicl_jax.metrics.files import (
  id_of,
  json_file,
  matching_files,
  optional_file,
  place_of,
  unique_ids,
  value_of,
)
from mmicl_jax.metrics.ranking import best_places, rank_of
from mmicl_jax.metrics.scorer import RANKED, Annotations, Scored, Scorer, mean

_DENSE = '*dense_annotations.json'


@dataclass(frozen=True)
class _Round:
  options: int
  right: int  # the place of the answer that was given
  relevance: tuple[float, ...] | None = None  # of each option, if asked for


def _read(folder: Path) -> Annotations:
  """visdial_1.0_*.json and, if there, the file of dense annotations."""
  path = _dialogs_file(folder)
  data = value_of(str(path), json_file(path), 'data')
  dialogs = value_of(f'{path}, data', data, 'dialogs', list)
  pairs = [pair for one in dialogs for pair in _rounds(path, one)]
  ids = unique_ids(path, [name for name, _ in pairs])
  rounds = dict(pairs)
  dense = optional_file(folder, _DENSE)
  if dense is not None:
    rounds |= _with_relevance(dense, rounds)
  counts = {name: (one.options,) for name, one in rounds.items()}
  return Annotations(ids, rounds, counts)


def _dialogs_file(folder: Path) -> Path:
  """The file whose name does not say that it holds dense annotations."""
  pattern = 'visdial_1.0_*.json'
  found = [
    path for path in matching_files(folder, pattern) if not path.match(_DENSE)
  ]
  if len(found) != 1:
    raise UserError(
      f'{folder} has {len(found)} files {pattern} besides {_DENSE}: leave one '
      'file of dialogs there'
    )
  return found[0]


def _rounds(path: Path, dialog: Any) -> list[tuple[str, _Round]]:
  """(IMAGE/ROUND, round) of a dialog, rounds from 1."""
  image = id_of(f'{path}, a dialog', dialog, 'image_id')
  where = f'{path}, the dialog of image {image}'
  found = []
  for number, row in enumerate(value_of(where, dialog, 'dialog', list), 1):
    at = f'{where}, round {number}'
    options = len(value_of(at, row, 'answer_options', list))
    right = place_of(at, row, 'gt_index', options)
    found.append((f'{image}/{number}', _Round(options, right)))
  return found


def _with_relevance(
  path: Path, rounds: Mapping[str, _Round]
) -> dict[str, _Round]:
  """The rounds that the file of dense annotations names, with relevance."""
  found: dict[str, _Round] = {}
  for number, row in enumerate(json_file(path, list)):
    at = f'{path}, entry {number}'
    image = id_of(at, row, 'image_id')
    name = f'{image}/{value_of(at, row, "round_id", int)}'
    if name not in rounds or name in found:
      what = 'stands twice' if name in found else 'is not in the dialogs'
      raise UserError(f'{at}: round {name} {what}: give files of one split')
    values = value_of(at, row, 'gt_relevance', list)
    old = rounds[name]
    if len(values) != old.options or not all(
      type(value) in (int, float) and value >= 0 for value in values
    ):
      raise UserError(
        f'{at}: gt_relevance is not {old.options} numbers from 0, one for each '
        'option: give the official file'
      )
    found[name] = _Round(old.options, old.right, tuple(map(float, values)))
  return found


def _ndcg(scores: Sequence[float], relevance: Sequence[float]) -> float | None:
  """Gain of the first k by score over the best gain; None without relevance.

  k: how many options have any relevance.
  """
  k = sum(value > 0 for value in relevance)
  if not k:
    return None
  gained = [relevance[place] for place in best_places(scores, k)]
  return _gain(gained) / _gain(sorted(relevance, reverse=True))


def _gain(values: Sequence[float]) -> float:
  return sum(x / math.log2(place + 2) for place, x in enumerate(values))


def _score(
  annotations: Annotations, predictions: Mapping[str, list[float]], mode: str
) -> Scored:
  del mode
  per_item: list[dict[str, Any]] = []
  undefined = []
  for name, scores in predictions.items():
    asked = annotations.data[name]
    rank = rank_of(asked.right, scores)
    item = {'id': name, 'score': 1 / rank, 'rank': rank}
    if asked.relevance is not None:
      ndcg = _ndcg(scores, asked.relevance)
      if ndcg is None:
        undefined.append(name)
      else:
        item['ndcg'] = ndcg
    per_item.append(item)
  dense = [item['ndcg'] for item in per_item if 'ndcg' in item]
  metrics = {'ndcg': mean(dense)} if dense else {}
  ranks = [item['rank'] for item in per_item]
  for k in (1, 5, 10):
    metrics[f'r@{k}'] = mean([float(rank <= k) for rank in ranks])
  metrics |= {
    'mean': mean([float(rank) for rank in ranks]),
    'mrr': mean([i['score'] for i in per_item]),
  }
  notes = []
  if len(dense) == 1:
    notes.append('ndcg is of one dialog, on which the official program fails')
  if undefined:
    notes.append(
      f'ndcg leaves out {len(undefined)} rounds without a relevant option, the '
      f'first is {undefined[0]}'
    )
  return Scored(metrics, per_item, notes)


SCORERS = (Scorer('visdial', {'official': RANKED}, _read, _score),)

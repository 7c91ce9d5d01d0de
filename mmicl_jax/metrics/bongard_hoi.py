"""Bongard-HOI: does a picture show what six others show, and six others not?"""

from collections.abc import Mapping
from pathlib import Path

from mmicl_jax.metrics.breakdown import grouped
from mmicl_jax.metrics.files import (
  id_of,
  json_lines,
  one_file,
  place_of,
  unique_ids,
  value_of,
)
from mmicl_jax.metrics.scorer import (
  RANKED,
  Annotations,
  Scored,
  Scorer,
  best_of,
  mean,
)


def _read(folder: Path) -> Annotations:
  """queries.jsonl, a format of ours: {"split", "id", "label"}, label 0 or 1."""
  path = one_file(folder, 'queries.jsonl')
  rows = json_lines(path)
  splits = [value_of(where, row, 'split', str) for where, row in rows]
  labels = [place_of(where, row, 'label', 2) for where, row in rows]
  ids = unique_ids(
    path,
    [
      f'{split}/{id_of(where, row, "id")}'
      for split, (where, row) in zip(splits, rows, strict=True)
    ],
  )
  queries = dict(zip(ids, zip(splits, labels, strict=True), strict=True))
  return Annotations(ids, queries, dict.fromkeys(ids, (2,)))


def _score(
  annotations: Annotations, predictions: Mapping[str, list[float]], mode: str
) -> Scored:
  """Accuracy is the mean of the splits' accuracies, whatever their sizes."""
  del mode
  hits = {
    name: float(best_of(scores) == annotations.data[name][1])
    for name, scores in predictions.items()
  }
  groups = grouped(
    (annotations.data[name][0], hit) for name, hit in hits.items()
  )
  splits = {split: mean(members) for split, members in groups.items()}
  metrics = {'accuracy': mean(list(splits.values()))}
  metrics |= {f'{split}/accuracy': value for split, value in splits.items()}
  return Scored(metrics, [{'id': k, 'score': hit} for k, hit in hits.items()])


SCORERS = (Scorer('bongard_hoi', {'official': RANKED}, _read, _score),)

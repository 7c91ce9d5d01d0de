"""RAVEN: which of the candidates completes a matrix of figures?

Neither Kosmos-1's fifty items nor a scorer of them are public, so the file of
annotations is a format of ours.
"""

from collections.abc import Mapping
from pathlib import Path

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
  """items.jsonl: {"id", "label", "candidates"}.

  label: the place of the right candidate, from 0. candidates: how many there
  are, six in Kosmos-1's test and eight in RAVEN's own.
  """
  path = one_file(folder, 'items.jsonl')
  rows = json_lines(path)
  ids = unique_ids(path, [id_of(at, row, 'id') for at, row in rows])
  labels, counts = {}, {}
  for name, (where, row) in zip(ids, rows, strict=True):
    count = value_of(where, row, 'candidates', int)
    labels[name] = place_of(where, row, 'label', count)
    counts[name] = (count,)
  return Annotations(ids, labels, counts)


def _score(
  annotations: Annotations, predictions: Mapping[str, list[float]], mode: str
) -> Scored:
  """Right if the label's score is the highest, or the first of the highest."""
  del mode
  hits = {
    name: float(best_of(scores) == annotations.data[name])
    for name, scores in predictions.items()
  }
  items = [{'id': name, 'score': hit} for name, hit in hits.items()]
  return Scored({'accuracy': mean(list(hits.values()))}, items)


SCORERS = (Scorer('raven', {'official': RANKED}, _read, _score),)

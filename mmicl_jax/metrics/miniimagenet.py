"""miniImageNet: which of the episode's few classes does a picture show?

No file of episodes is official, so the file of annotations is a format of ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mmicl_jax.metrics.files import (
  id_of,
  json_lines,
  one_file,
  place_of,
  texts_of,
  unique_ids,
)
from mmicl_jax.metrics.scorer import (
  EITHER,
  Annotations,
  Prediction,
  Scored,
  Scorer,
  best_of,
  mean,
)


@dataclass(frozen=True)
class _Episode:
  names: tuple[str, ...]
  label: int


def _read(folder: Path) -> Annotations:
  """episodes.jsonl: {"id", "names", "label"}; the label is a place in names."""
  path = one_file(folder, 'episodes.jsonl')
  rows = json_lines(path)
  ids = unique_ids(path, [id_of(at, row, 'id') for at, row in rows])
  made = [_episode(where, row) for where, row in rows]
  counts = {
    name: (len(one.names),) for name, one in zip(ids, made, strict=True)
  }
  return Annotations(ids, dict(zip(ids, made, strict=True)), counts)


def _episode(where: str, row: Mapping[str, object]) -> _Episode:
  names = texts_of(where, row, 'names')
  return _Episode(tuple(names), place_of(where, row, 'label', len(names)))


def _is_right(prediction: Prediction, episode: _Episode) -> bool:
  """The class's name, of any case and without blanks around it, or scores."""
  if not isinstance(prediction, str):
    return best_of(prediction) == episode.label
  name = episode.names[episode.label]
  return prediction.strip().lower() == name.strip().lower()


def _score(
  annotations: Annotations, predictions: Mapping[str, Prediction], mode: str
) -> Scored:
  del mode
  hits = {
    name: float(_is_right(prediction, annotations.data[name]))
    for name, prediction in predictions.items()
  }
  items = [{'id': name, 'score': hit} for name, hit in hits.items()]
  return Scored({'accuracy': mean(list(hits.values()))}, items)


SCORERS = (Scorer('miniimagenet', {'official': EITHER}, _read, _score),)

"""NLVR2: is a sentence true of two images?"""

from collections.abc import Mapping
from pathlib import Path

from mmicl_jax.errors import UserError
from mmicl_jax.metrics.breakdown import grouped
from mmicl_jax.metrics.files import (
  json_lines,
  one_file,
  unique_ids,
  value_of,
)
from mmicl_jax.metrics.scorer import TEXT, Annotations, Scored, Scorer, mean


def _read(folder: Path) -> Annotations:
  """JSON Lines of the release; the data is the label of each identifier."""
  path = one_file(folder, '*.json', '*.jsonl')
  rows = json_lines(path)
  names = [value_of(at, row, 'identifier', str) for at, row in rows]
  ids = unique_ids(path, names, 'identifier')
  labels = {}
  for name, (where, row) in zip(ids, rows, strict=True):
    if name.count('-') < 2:
      raise UserError(
        f'{where}: the identifier {name!r} is not like test1-0-1-0: give the '
        'official file'
      )
    labels[name] = value_of(where, row, 'label', str).lower()
    if labels[name] not in ('true', 'false'):
      raise UserError(
        f'{where}: the label of {name!r} is neither True nor False: give the '
        'official file'
      )
  return Annotations(ids, labels)


def _answer(output: str) -> str:
  """What the official program finds in its file of `identifier,prediction`.

  It strips the end of a line and takes the second cell; a blank before the
  answer stays.
  """
  return output.rstrip().split(',')[0].lower()


def _sentence(identifier: str) -> str:
  """An identifier with its third field blanked: test1-0--0."""
  fields = identifier.split('-')
  return '-'.join([*fields[:2], '', *fields[3:]])


def _score(
  annotations: Annotations, predictions: Mapping[str, str], mode: str
) -> Scored:
  """Consistency: of the sentences, those with every pair of images right."""
  del mode
  hits = {
    name: float(_answer(output) == annotations.data[name])
    for name, output in predictions.items()
  }
  metrics = {'accuracy': mean(list(hits.values()))}
  sizes = grouped((_sentence(name), 1.0) for name in annotations.ids)
  whole = [
    min(members)
    for key, members in grouped(
      (_sentence(name), hit) for name, hit in hits.items()
    ).items()
    if len(members) == len(sizes[key])
  ]
  notes = []
  if whole:
    metrics['consistency'] = mean(whole)
  else:
    notes.append('consistency: no sentence has all of its predictions')
  items = [{'id': name, 'score': hit} for name, hit in hits.items()]
  return Scored(metrics, items, notes)


SCORERS = (Scorer('nlvr2', {'official': TEXT}, _read, _score),)

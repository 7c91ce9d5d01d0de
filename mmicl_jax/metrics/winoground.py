"""Winoground: two captions and two images, each of which has its partner."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmicl_jax.metrics.files import (
  id_of,
  json_lines,
  one_file,
  unique_ids,
  value_of,
)
from mmicl_jax.metrics.scorer import RANKED, Annotations, Scored, Scorer, mean


def _read(folder: Path) -> Annotations:
  """examples.jsonl; the data is the collapsed tag of each id."""
  path = one_file(folder, 'examples.jsonl')
  rows = json_lines(path)
  ids = unique_ids(path, [id_of(at, row, 'id') for at, row in rows])
  tags = [value_of(at, row, 'collapsed_tag', str) for at, row in rows]
  return Annotations(
    ids, dict(zip(ids, tags, strict=True)), dict.fromkeys(ids, (4,))
  )


def _score(
  annotations: Annotations, predictions: Mapping[str, list[float]], mode: str
) -> Scored:
  """Text: the right caption of each image. Image: the other way. Ties fail."""
  del mode
  per_item: list[dict[str, Any]] = []
  for name, scores in predictions.items():
    c0_i0, c0_i1, c1_i0, c1_i1 = scores
    text = c0_i0 > c1_i0 and c1_i1 > c0_i1
    image = c0_i0 > c0_i1 and c1_i1 > c1_i0
    per_item.append(
      {
        'id': name,
        'score': float(text and image),
        'text': float(text),
        'image': float(image),
      }
    )
  metrics = _means(per_item, '')
  for tag in dict.fromkeys(annotations.data[item['id']] for item in per_item):
    members = [one for one in per_item if annotations.data[one['id']] == tag]
    metrics |= _means(members, f'tag/{tag}/')
  return Scored(metrics, per_item)


def _means(items: list[dict[str, Any]], prefix: str) -> dict[str, float]:
  keys = {'group': 'score', 'text': 'text', 'image': 'image'}
  return {
    prefix + name: mean([item[key] for item in items])
    for name, key in keys.items()
  }


SCORERS = (Scorer('winoground', {'official': RANKED}, _read, _score),)

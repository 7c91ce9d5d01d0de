"""Counts the records, images and words of a file, for `mmicl data stats`."""

import collections
from collections.abc import Iterable, Sequence
from typing import Any

from mmicl_jax.context.text import collapse
from mmicl_jax.data.records import Record
from mmicl_jax.errors import UserError

_PERCENTILES = (0, 50, 90, 99, 100)


def summarise(path: str, records: Iterable[Record]) -> dict[str, Any]:
  """Counts the records, datasets, images and lengths of a MIC file.

  Raises UserError if there is no record.
  """
  datasets: collections.Counter[str] = collections.Counter()
  images: collections.Counter[int] = collections.Counter()
  lengths: dict[str, list[int]] = {
    'input characters': [],
    'input words': [],
    'output words': [],
  }
  for record in records:
    inputs = collapse(record.inputs)
    datasets[record.dataset or ''] += 1
    images[len(record.images)] += 1
    lengths['input characters'].append(len(inputs))
    lengths['input words'].append(len(inputs.split()))
    lengths['output words'].append(len(record.targets.split()))
  if not images:
    raise UserError(f'{path}: no records in it; write one JSON object a line.')
  return {
    'file': path,
    'records': images.total(),
    'images': sum(n * count for n, count in images.items()),
    'datasets': dict(datasets.most_common()),
    'images_per_record': {str(n): images[n] for n in sorted(images)},
    'percentiles': {
      name: {str(p): _percentile(sorted(values), p) for p in _PERCENTILES}
      for name, values in lengths.items()
      if values
    },
  }


def _percentile(ordered: Sequence[int], p: int) -> int:
  """The smallest value that at least p % of the values do not exceed."""
  return ordered[max(-(-p * len(ordered) // 100), 1) - 1]

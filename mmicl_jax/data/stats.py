"""Counts the records, images and words of a file, for `mmicl data stats`."""

import collections
from collections.abc import Iterable, Sequence
from typing import Any

from mmicl_jax.context.text import IMAGE, collapse
from mmicl_jax.data.records import Record
from mmicl_jax.errors import UserError
from mmicl_jax.tokenizer import Tokenizer

_PERCENTILES = (0, 50, 90, 99, 100)
_ANSWERS = 20  # the commonest that are listed
QUERIES = 32  # tokens that the prompt holds for each image


def summarise(
  path: str,
  records: Iterable[Record],
  tokenizer: Tokenizer | None = None,
  lengths_given: Sequence[int] = (),
) -> dict[str, Any]:
  """Counts the records, datasets, images and lengths of MIC records.

  tokenizer: also counts tokens, end token and 32 an image included.
  lengths_given: (of the prompt, of the answer), in tokens: how much of the
  data they cut, and how much of the rows is padding. Raises UserError if there
  is no record.
  """
  answers: collections.Counter[str] = collections.Counter()
  datasets: collections.Counter[str] = collections.Counter()
  images: collections.Counter[int] = collections.Counter()
  lengths: dict[str, list[int]] = {
    'input characters': [],
    'input words': [],
    'output words': [],
  }
  if tokenizer is not None:
    lengths |= {'input tokens': [], 'output tokens': []}
  for record in records:
    inputs = collapse(record.inputs)
    datasets[record.dataset or ''] += 1
    images[len(record.images)] += 1
    lengths['input characters'].append(len(inputs))
    lengths['input words'].append(len(inputs.split()))
    lengths['output words'].append(len(record.targets.split()))
    answers[record.targets] += 1
    if tokenizer is not None:
      ids = tokenizer.encode(inputs.replace(IMAGE, IMAGE * QUERIES))
      lengths['input tokens'].append(len(ids) + 1)
      lengths['output tokens'].append(len(tokenizer.encode(record.targets)) + 1)
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
    'answers': {
      'different': len(answers),
      'commonest': dict(answers.most_common(_ANSWERS)),
    },
    'at_lengths': {
      name: _at_length(lengths[name], length)
      for name, length in zip(
        ('input tokens', 'output tokens'), lengths_given, strict=False
      )
    },
  }


def _at_length(tokens: Sequence[int], length: int) -> dict[str, Any]:
  """The share of rows that are cut, of tokens lost, of places of padding."""
  kept = sum(min(n, length) for n in tokens)
  return {
    'length': length,
    'cut': sum(n > length for n in tokens) / len(tokens),
    'lost': 1 - kept / sum(tokens),
    'padding': 1 - kept / (length * len(tokens)),
  }


def _percentile(ordered: Sequence[int], p: int) -> int:
  """The smallest value that at least p % of the values do not exceed."""
  return ordered[max(-(-p * len(ordered) // 100), 1) - 1]

"""BLEU with several references, as pycocoevalcap has it.

Its precisions are smoothed by 1e-15 over 1e-9, and of the references' lengths
the closest one counts; of two as close, the shorter.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mmicl_jax.metrics.ngrams import LONGEST_NGRAM, Captions

_TINY = 1e-15
_SMALL = 1e-9


@dataclass(frozen=True)
class _Counts:
  length: int
  closest: int  # length of a reference
  right: Sequence[int]  # for each n, as many as a reference has
  of: Sequence[int]


def bleu(captions: Captions) -> tuple[list[float], list[list[float]]]:
  """BLEU-1 to BLEU-4 of the whole set, and the same for each image."""
  counts = _counts(captions)
  whole = _Counts(
    sum(one.length for one in counts),
    sum(one.closest for one in counts),
    _columns(one.right for one in counts),
    _columns(one.of for one in counts),
  )
  return _scores(whole), [_scores(one) for one in counts]


def _counts(captions: Captions) -> list[_Counts]:
  images = captions.num_images
  right = np.zeros((images, LONGEST_NGRAM), np.int64)
  for n, ngrams in enumerate(captions.ngrams):
    both = ngrams.prediction >= 0
    most = np.zeros(len(ngrams.count), np.int64)
    np.maximum.at(most, ngrams.prediction[both], ngrams.count[both])
    own = ngrams.text < images
    clipped = np.minimum(most, ngrams.count)[own]
    right[:, n] = np.bincount(ngrams.text[own], clipped, minlength=images)
  lengths = captions.length.tolist()
  closest: list[tuple[int, int]] = [(2**62, 0)] * images
  for image, length in zip(
    captions.image[images:].tolist(), lengths[images:], strict=True
  ):
    found = (abs(length - lengths[image]), length)
    closest[image] = min(closest[image], found)
  return [
    _Counts(
      lengths[i],
      closest[i][1],
      right[i].tolist(),
      [max(0, lengths[i] - n) for n in range(LONGEST_NGRAM)],
    )
    for i in range(images)
  ]


def _columns(rows: Iterable[Sequence[int]]) -> list[int]:
  return list(map(sum, zip(*rows, strict=True)))


def _scores(counts: _Counts) -> list[float]:
  product, scores = 1.0, []
  for n, (right, of) in enumerate(zip(counts.right, counts.of, strict=True), 1):
    product *= (right + _TINY) / (of + _SMALL)
    scores.append(product ** (1 / n))
  ratio = (counts.length + _TINY) / (counts.closest + _SMALL)
  penalty = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
  return [score * penalty for score in scores]

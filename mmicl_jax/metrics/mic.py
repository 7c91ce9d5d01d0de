"""The published MMICL code's own metrics, on records of its MIC data set.

An answer is right if it equals the label or one of the two contains the other:
an empty one is in all. CIDEr and BLEU are of the raw texts, split at blanks.
They are not comparable with benchmarks' official numbers.
"""

from collections.abc import Mapping
from pathlib import Path

from mmicl_jax.metrics.bleu import bleu
from mmicl_jax.metrics.cider import cider
from mmicl_jax.metrics.files import json_lines, one_file, value_of
from mmicl_jax.metrics.ngrams import count_captions
from mmicl_jax.metrics.scorer import TEXT, Annotations, Scored, Scorer, mean


def _read(folder: Path) -> Annotations:
  """Records with "output_text"; their numbers are the ids."""
  rows = json_lines(one_file(folder, '*.jsonl'))
  labels = {
    str(i): value_of(where, row, 'output_text', str)
    for i, (where, row) in enumerate(rows)
  }
  return Annotations(list(labels), labels)


def _score(
  annotations: Annotations, predictions: Mapping[str, str], mode: str
) -> Scored:
  labels = [annotations.data[name] for name in predictions]
  hits = [
    float(output in label or label in output)
    for output, label in zip(predictions.values(), labels, strict=True)
  ]
  counted = count_captions(
    [output.split() for output in predictions.values()],
    [[label.split()] for label in labels],
  )
  ciders = cider(counted).tolist()
  metrics = {'accuracy': mean(hits), 'cider': mean(ciders)}
  metrics |= {f'bleu_{n}': value for n, value in enumerate(bleu(counted)[0], 1)}
  items = zip(predictions, hits, ciders, strict=True)
  return Scored(
    metrics,
    [{'id': name, 'score': hit, 'cider': one} for name, hit, one in items],
    ['cider is of one record, for which it is always 0.'] * (len(hits) == 1),
  )


# `mic` is a benchmark and the name of its mode.
SCORERS = (Scorer('mic', {'official': TEXT, 'mic': TEXT}, _read, _score),)

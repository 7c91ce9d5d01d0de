"""What a small official folder of a benchmark is, and how it is written."""

import json
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Small:
  """best: the metrics that perfect answers reach, the headline among them.

  answers: a text for each id, scores: numbers for each id; whichever of the
  two the benchmark takes. Metrics that a mode lacks may stand in best.
  """

  best: Mapping[str, float]
  answers: Mapping[str, str] | None = None
  scores: Mapping[str, list[float]] | None = None


def write_lines(path, rows):
  """Writes rows as JSON Lines, also for files of predictions."""
  text = ''.join(f'{json.dumps(row)}\n' for row in rows)
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text, encoding='utf-8')


def write_json(path, value):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(value), encoding='utf-8')

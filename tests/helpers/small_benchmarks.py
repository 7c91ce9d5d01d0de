"""A few items of each benchmark in its official files, and perfect answers.

To add one: a function that writes the files into an empty folder and gives a
Small, and its name in SMALL. tests/metrics/every_scorer_test.py does the rest.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from mmicl_jax.metrics import mme


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


def _mme(folder, mode):
  answers = {}
  for task in (*mme.PERCEPTION, *mme.COGNITION):
    lines = []
    for image in ('1.jpg', '图 2.png'):
      for which, label in enumerate(('Yes', 'No')):
        lines.append(f'{image}\tIs it {which}?\t{label}')
        answers[f'{task}/{image}/{which}'] = label
    (folder / f'{task}.txt').write_text('\n'.join(lines), encoding='utf-8')
  return Small({'perception': 2000, 'cognition': 800}, answers)


# Each gets an empty folder and the mode, on which answers may depend.
SMALL = {'mme': _mme}

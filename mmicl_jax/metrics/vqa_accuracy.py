"""VQA's accuracy: with each answer left out in turn, min(matches / 3, 1)."""

import functools
from collections.abc import Sequence


@functools.cache
def by_position(answers: int, matches: int) -> float:
  """The mean over all answers, where exactly the one is left out.

  answers: how many there are; matches: how many equal the prediction.
  """
  left_in = min(1.0, matches / 3)
  left_out = min(1.0, (matches - 1) / 3)
  return ((answers - matches) * left_in + matches * left_out) / answers


def by_record(
  prediction: str, answers: Sequence[str], records: Sequence[object]
) -> float:
  """The same, where all answers whose records are equal are left out at once.

  records: whatever else is known of each answer. Without answer_id several are
  equal, and the accuracy falls.
  """
  match = [
    record
    for answer, record in zip(answers, records, strict=True)
    if answer == prediction
  ]
  total = (len(answers) - len(match)) * min(1.0, len(match) / 3)
  for record in match:
    total += min(1.0, (len(match) - match.count(record)) / 3)
  return total / len(answers)

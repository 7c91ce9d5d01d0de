"""Decides which checkpoints of a run stay: the newest, and the best rated one.

A checkpoint is saved first and rated later, by the metrics of an evaluation,
which get their own file in it. So an evaluation that fails or is interrupted
loses no trained steps.
"""

import json
import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from etils import epath

from mmicl_jax.checkpoints.faults import Damage, patiently
from mmicl_jax.checkpoints.steps import step_path
from mmicl_jax.errors import UserError
from mmicl_jax.runtime.files import write_json

log = logging.getLogger(__name__)

# The metrics that can choose the best checkpoint, and whether more is better.
# Those of benchmarks, 'eval/TASK/METRIC', can too; more is better of all but
# GQA's distance of distributions and Visual Dialog's mean rank.
BEST = {'eval/loss': False, 'eval/accuracy': True}
_TASK = re.compile('eval/[^/]+/.')
_LESS = ('/distribution', '/mean')


def of_task(metric: str) -> bool:
  """Whether a metric is of a benchmark, as 'eval/mme/perception'."""
  return _TASK.match(metric) is not None


class KeptCheckpoints:
  """The rule for which checkpoints stay; Orbax asks it after each save.

  keep: how many of the newest stay; None keeps all. best_by: a metric of BEST,
  or of a benchmark; the rated checkpoint that is best by it stays, too, the
  newest if several are equal. Raises UserError for another metric.
  """

  def __init__(self, keep: int | None, best_by: str | None):
    if best_by is not None and best_by not in BEST and not of_task(best_by):
      raise UserError(
        f'BEST_BY is {best_by!r}: choose {" or ".join(BEST)}, a metric of '
        "EVAL_TASKS such as 'eval/mme/perception', or None"
      )
    self._keep, self._best_by = keep, best_by
    self._ratings: dict[int, float] = {}

  def read(self, directory: epath.Path, steps: Iterable[int]) -> None:
    """Reads the ratings of the checkpoints in a MODEL_DIR."""
    if self._best_by is None:
      return
    for step in steps:
      path = _metrics(directory, step)
      try:
        self._note(step, patiently(path, lambda path=path: _read(path)))
      except Damage as error:
        log.warning('%s is damaged (%s): not counted as best', path, error)

  def write(
    self, directory: epath.Path, step: int, metrics: Mapping[str, float]
  ) -> None:
    """Writes the metrics of an evaluation into its checkpoint.

    Values that are not finite are left out, since JSON does not have them.
    Raises UserError if the file cannot be written.
    """
    finite = {name: x for name, x in metrics.items() if math.isfinite(x)}
    write_json(_metrics(directory, step), finite)

  def rate(self, step: int, metrics: Mapping[str, float]) -> None:
    """Rates a checkpoint by the metrics of its evaluation."""
    self._note(step, metrics)

  def best(self, steps: Sequence[int]) -> int | None:
    """The best of these steps; None if none of them was rated."""
    rated = [step for step in sorted(steps) if step in self._ratings]
    if self._best_by is None or not rated:
      return None
    more = BEST.get(self._best_by, not self._best_by.endswith(_LESS))
    sign = 1 if more else -1
    return max(rated, key=lambda step: (sign * self._ratings[step], step))

  def stay(self, steps: Sequence[int]) -> set[int]:
    """The steps whose checkpoints stay."""
    newest = set(sorted(steps)[-self._keep :] if self._keep else steps)
    best = self.best(steps)
    return newest if best is None else newest | {best}

  def should_preserve(
    self, checkpoints: Sequence[Any], *, context: Any
  ) -> list[bool]:
    """`stay` in the form of Orbax's PreservationPolicy."""
    del context
    stay = self.stay([info.step for info in checkpoints])
    return [info.step in stay for info in checkpoints]

  def _note(self, step: int, metrics: Mapping[str, Any]) -> None:
    value = metrics.get(self._best_by or '')
    # Former versions wrote NaN, which is no rating.
    if isinstance(value, int | float) and math.isfinite(value):
      self._ratings[step] = float(value)


def _metrics(directory: epath.Path, step: int) -> epath.Path:
  """The file of a checkpoint's metrics, which Orbax uses, too."""
  return step_path(directory, step) / 'metrics' / 'metrics'


def _read(path: epath.Path) -> dict[str, Any]:
  try:
    found = json.loads(path.read_text())
  except (FileNotFoundError, NotADirectoryError):
    return {}  # it was not evaluated
  return found if isinstance(found, dict) else {}

"""Do two runs differ? Item by item, on the items that both have answered."""

import math
from pathlib import Path
from typing import Any

from mmicl_jax.errors import UserError
from mmicl_jax.evaluation import intervals
from mmicl_jax.evaluation.scoring import VariantScores, score_task
from mmicl_jax.evaluation.task_folder import tasks_in


def compare_runs(first: Path, second: Path) -> list[dict[str, Any]]:
  """A row for each task and variant of both runs: B minus A.

  The test is of the item scores (0..1) of the task's own mode. Raises UserError
  if the runs share nothing that has item scores.
  """
  runs = [
    {task.benchmark.name: score_task(task) for task in tasks_in(out)}
    for out in (first, second)
  ]
  rows = []
  for name in runs[0]:
    if name not in runs[1]:
      continue
    others = {one.variant: one for one in runs[1][name].variants}
    for one in runs[0][name].variants:
      if one.variant in others:
        rows += _row(name, one, others[one.variant])
  if not rows:
    raise UserError(
      f'{first} and {second} share no task, way of asking and items with '
      'scores: compare runs of the same --task, --shots, --prompts and --seeds'
    )
  return rows


def _row(
  name: str, first: VariantScores, second: VariantScores
) -> list[dict[str, Any]]:
  shared = [x for x in first.per_item if x in second.per_item]
  if not shared:
    return []
  found = intervals.paired_test(
    [float(first.per_item[x]['score']) for x in shared],
    [float(second.per_item[x]['score']) for x in shared],
    [first.groups[x] for x in shared],
  )
  metric, ours = first.headline or ('', math.nan)
  _, theirs = second.headline or ('', math.nan)
  interval = found.interval
  return [
    {
      'task': name,
      'asked': first.variant.label,
      'metric': metric,
      'A': ours,
      'B': theirs,
      'items of both': found.items,
      'mean of items, B - A': found.difference,
      '95 % interval': ''
      if interval is None
      else f'{interval[0]:+.4f} to {interval[1]:+.4f}',
      'p': found.p,
      'B better': found.better,
      'A better': found.worse,
    }
  ]

"""What a run found, as plain data: report.json, and what is drawn from it."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from mmicl_jax.evaluation.scoring import TaskScores, VariantScores


def summary(scores: Sequence[TaskScores]) -> dict[str, Any]:
  """All tasks of a run, as the report tells them."""
  return {'format': 1, 'tasks': [_task(one) for one in scores]}


def _task(scores: TaskScores) -> dict[str, Any]:
  task, benchmark, main = scores.task, scores.task.benchmark, scores.main
  metrics = main.modes[benchmark.mode].metrics
  variants = [_variant(one) for one in scores.variants]
  return {
    'task': benchmark.name,
    'title': benchmark.title,
    'scorer': benchmark.scorer,
    'mode': benchmark.mode,
    'answered_by': _answered_by(scores),
    'model': main.model,
    'items': main.items,
    'coverage': main.coverage,
    'splits': task.arguments['splits'],
    'limit': task.arguments['limit'],
    'shot_source': task.arguments['shot_source'],
    'decoding': dict(benchmark.decoding),
    'prompt_source': benchmark.prompt_source,
    'forms': dict(task.forms),
    'notes': list(benchmark.notes),
    'headline': _headline(main),
    'metrics': metrics,
    'published': [
      {
        'model': one.model,
        'metric': one.metric,
        'value': one.value,
        'ours': metrics.get(one.metric),
        'setting': one.setting,
        'source': one.source,
      }
      for one in benchmark.published
    ],
    'modes': {
      mode: {'metrics': scored.metrics, 'notes': scored.notes}
      for mode, scored in main.modes.items()
    },
    'modes_left_out': dict(scores.left_out),
    'variants': variants,
    'spread': _spreads(variants),
    'shot_curve': _shot_curve(scores.variants),
  }


def _answered_by(scores: TaskScores) -> str:
  benchmark = scores.task.benchmark
  used = (
    benchmark.answering_of(split) for split in scores.task.arguments['splits']
  )
  return ' and '.join(dict.fromkeys(one.by for one in used))


def _headline(scores: VariantScores) -> dict[str, Any] | None:
  if scores.headline is None:
    return None
  name, value = scores.headline
  interval = None if scores.interval is None else list(scores.interval)
  return {'metric': name, 'value': value, 'interval': interval}


def _variant(scores: VariantScores) -> dict[str, Any]:
  return {
    'shots': scores.variant.shots,
    'prompt': scores.variant.prompt,
    'seed': scores.variant.seed,
    'shown_shots': scores.shown_shots,
    'cut': scores.cut,
    'items': scores.items,
    'coverage': scores.coverage,
    'headline': _headline(scores),
    'modes': {mode: one.metrics for mode, one in scores.modes.items()},
  }


def _value(scores: VariantScores) -> float | None:
  return None if scores.headline is None else scores.headline[1]


def _spreads(variants: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
  """Over prompts and over seeds, with all else as in the first variant.

  variants: as `_variant` tells them.
  """
  found = []
  first = variants[0]
  for name in ('prompt', 'seed'):
    others = [x for x in ('shots', 'prompt', 'seed') if x != name]
    alike = [one for one in variants if all(one[x] == first[x] for x in others)]
    heads = [one['headline'] for one in alike]
    values = [head['value'] for head in heads if head is not None]
    if len(values) > 1:
      found.append({'over': f'{name}s', **_spread(values)})
  return found


def _spread(values: Sequence[float]) -> dict[str, Any]:
  return {
    'number': len(values),
    'mean': statistics.fmean(values),
    'deviation': statistics.stdev(values) if len(values) > 1 else 0.0,
    'least': min(values),
    'most': max(values),
  }


def _shot_curve(variants: Sequence[VariantScores]) -> list[dict[str, Any]]:
  """The headline by the number of demonstrations, over prompts and seeds."""
  by_shots: dict[int, list[VariantScores]] = {}
  for one in variants:
    by_shots.setdefault(one.variant.shots, []).append(one)
  curve = []
  for shots, own in sorted(by_shots.items()):
    values = [x for x in map(_value, own) if x is not None]
    if values:
      interval = own[0].interval if len(own) == 1 else None
      curve.append(
        {
          'shots': shots,
          'shown_shots': statistics.fmean(x.shown_shots for x in own),
          'interval': None if interval is None else list(interval),
          **_spread(values),
        }
      )
  return curve if len(curve) > 1 else []


def main_rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
  """A row for each task and number of shots: for the terminal and Markdown.

  Of the prompts and seeds with so many shots it tells the first, and the spread
  over the others. Published numbers stand in a task's first row.
  """
  rows = []
  for task in found['tasks']:
    by_shots: dict[int, list[Mapping[str, Any]]] = {}
    for one in task['variants']:
      by_shots.setdefault(one['shots'], []).append(one)
    for i, own in enumerate(by_shots.values()):
      rows.append(_row(task, own, beside=not i))
  return rows


def _row(
  task: Mapping[str, Any], variants: Sequence[Mapping[str, Any]], beside: bool
) -> dict[str, Any]:
  """A row of one number of shots; beside: with what was published."""
  first = variants[0]
  head = first['headline'] or {'metric': '', 'value': None, 'interval': None}
  interval = head['interval']
  published = _first_of_each(task, head['metric']) if beside else {}
  return {
    'task': task['task'],
    'value': head['value'],
    '95 % interval': ''
    if interval is None
    else f'{number(interval[0])} to {number(interval[1])}',
    'metric': head['metric'],
    'items': first['items'],
    'shots': first['shots'],
    'spread': '; '.join(
      f'{number(x["least"])} to {number(x["most"])} over {x["number"]} '
      f'{x["over"]}'
      for x in _spreads(variants)
    ),
    'published': '; '.join(
      f'{model} {number(value)}' for model, value in published.items()
    ),
  }


def _first_of_each(task: Mapping[str, Any], metric: str) -> dict[str, float]:
  """Each model's first published value of a metric."""
  found: dict[str, float] = {}
  for one in task['published']:
    if one['metric'] == metric:
      found.setdefault(one['model'], one['value'])
  return found


def number(value: float | int | None) -> str:
  """A metric as people read it: 1381.74, 67.9, 0.455."""
  if value is None:
    return ''
  return f'{value:.2f}' if abs(value) >= 2 else f'{value:.3f}'

"""The report of a run, as JSON, Markdown and a page, from its folder alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmicl_jax.evaluation.scoring import TaskScores, score_task
from mmicl_jax.evaluation.summary import main_rows, number, summary
from mmicl_jax.evaluation.task_folder import tasks_in
from mmicl_jax.evaluation.wrong import wrong_answers
from mmicl_jax.runtime import files, page, show

JSON, MARKDOWN, PAGE = 'report.json', 'report.md', 'report.html'
_BREAKDOWN = 40  # bars at most


def write_report(out: Path) -> dict[str, Any]:
  """Scores all tasks in a run's folder and writes the three files.

  Returns what report.json holds. Raises UserError as scoring does.
  """
  scores = [score_task(task) for task in tasks_in(out)]
  found = summary(scores)
  files.write_json(out / JSON, found)
  files.write_text(out / MARKDOWN, report_text(found))
  files.write_text(out / PAGE, _html(found, scores, out))
  return found


def report_text(found: Mapping[str, Any]) -> str:
  """The report as a text for an issue or a paper's appendix."""
  parts = ['# Evaluation\n', show.markdown(_shown(main_rows(found))), '']
  for task in found['tasks']:
    parts += [f'\n## {task["title"]}\n', f'{_about(task)}\n']
    rows = [
      {'mode': mode, 'metric': name, 'value': number(value)}
      for mode, one in task['modes'].items()
      for name, value in _whole(one['metrics'])
    ]
    parts.append(show.markdown(rows) + '\n')
    if task['published']:
      parts.append(show.markdown(_shown(task['published'])) + '\n')
    if len(task['variants']) > 1:
      parts.append(show.markdown(variant_rows(task)) + '\n')
    notes = [*task['notes'], *task['modes'][task['mode']]['notes']]
    parts += [f'- {note}' for note in notes]
  return '\n'.join(parts).rstrip() + '\n'


def variant_rows(task: Mapping[str, Any]) -> list[dict[str, Any]]:
  """A row for each way in which a task was asked."""
  rows = []
  for one in task['variants']:
    head = one['headline'] or {'value': None, 'interval': None}
    interval = head['interval']
    rows.append(
      {
        'shots': one['shots'],
        'prompt': one['prompt'],
        'seed': one['seed'],
        'value': number(head['value']),
        '95 % interval': ''
        if interval is None
        else f'{number(interval[0])} to {number(interval[1])}',
        'shots shown': f'{one["shown_shots"]:.1f}',
        'prompts cut': one['cut'],
      }
    )
  return rows


def _about(task: Mapping[str, Any]) -> str:
  """How a task was asked, in a sentence or two."""
  cut = task['variants'][0]['cut']
  decoding = ', '.join(f'{k} {v}' for k, v in task['decoding'].items())
  return (
    f'{task["items"]:,} items of {", ".join(task["splits"])}, answered by '
    f'{task["answered_by"]}{f" ({decoding})" if decoding else ""}; '
    f'{task["mode"]} scorer; model {task["model"]}. Prompt: '
    f'{task["prompt_source"] or "of the declaration"}.'
    + f' {cut:,} prompts were too long and lost a part.'
    * (cut > 0)
  )


def _shown(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
  """Rows with metrics as people read them."""
  return [
    {k: number(v) if isinstance(v, float) else v for k, v in row.items()}
    for row in rows
  ]


def _html(
  found: Mapping[str, Any], scores: Sequence[TaskScores], out: Path
) -> str:
  tasks = []
  for task, scored in zip(found['tasks'], scores, strict=True):
    tasks.append(
      {
        **task,
        'about': _about(task),
        'beside': _beside(task),
        'modes': {
          mode: {**one, 'shown': _whole(one['metrics'])}
          for mode, one in task['modes'].items()
        },
        'categories': _categories(task),
        'curve': _curve(task['shot_curve']),
        'variant_rows': variant_rows(task),
        'wrong': wrong_answers(scored, out),
      }
    )
  return page.render(
    'evaluation/page.html.j2',
    tasks=tasks,
    rows=_shown(main_rows(found)),
    number=number,
  )


def _whole(metrics: Mapping[str, float]) -> list[tuple[str, float]]:
  """The first metrics that are no breakdown, or else simply the first."""
  whole = [(k, v) for k, v in metrics.items() if '/' not in k]
  return (whole or list(metrics.items()))[:3]


def _beside(task: Mapping[str, Any]) -> dict[str, Any]:
  """Published numbers: a row for each metric, a column for each model."""
  published = task['published']
  sources = list(dict.fromkeys(one['source'] for one in published))
  columns = list(
    dict.fromkeys((x['model'], x['setting'], x['source']) for x in published)
  )
  values = {
    (x['metric'], x['model'], x['setting'], x['source']): x['value']
    for x in published
  }
  return {
    'sources': sources,
    'columns': [
      {'model': m, 'setting': s, 'source': sources.index(source) + 1}
      for m, s, source in columns
    ],
    'rows': [
      {
        'metric': metric,
        'ours': task['metrics'].get(metric),
        'values': [values.get((metric, *column)) for column in columns],
      }
      for metric in dict.fromkeys(one['metric'] for one in published)
    ],
  }


def _categories(task: Mapping[str, Any]) -> list[dict[str, Any]]:
  """Bars of the metrics 'kind/name[/what]', by kind and what."""
  groups: dict[str, list[tuple[str, float]]] = {}
  for name, value in task['metrics'].items():
    kind, *rest = name.split('/')
    if rest:
      what = '/'.join([kind, *rest[1:]]) if len(rest) > 1 else kind
      groups.setdefault(what, []).append((rest[0], value))
  shown = []
  for what, bars in groups.items():
    if len(bars) < 2:
      continue
    most = max(max(abs(v) for _, v in bars), 1e-9)
    # Shares and percentages are drawn on their whole scale.
    most = 1.0 if most <= 1 else 100.0 if most <= 100 else most
    shown.append(
      {
        'name': what,
        'bars': [
          {'name': n, 'value': v, 'width': 100 * max(v, 0) / most}
          for n, v in bars[:_BREAKDOWN]
        ],
        'more': max(len(bars) - _BREAKDOWN, 0),
      }
    )
  return shown


def _curve(points: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
  """An SVG's points of the shot curve, in a box of 600 by 240."""
  if not points:
    return None
  ends = []
  for point in points:
    low, high = point['interval'] or (point['least'], point['most'])
    ends.append((low, high))
  bottom, top = min(low for low, _ in ends), max(high for _, high in ends)
  pad = (top - bottom or abs(top) or 1.0) * 0.12
  bottom, top = bottom - pad, top + pad
  last = max(point['shots'] for point in points) or 1

  def place(shots: int, value: float) -> tuple[float, float]:
    x = 40 + 500 * shots / last
    return round(x, 1), round(210 - 190 * (value - bottom) / (top - bottom), 1)

  drawn = []
  for point, (low, high) in zip(points, ends, strict=True):
    x, y = place(point['shots'], point['mean'])
    drawn.append(
      {
        'x': x,
        'y': y,
        'low': place(0, low)[1],
        'high': place(0, high)[1],
        'shots': point['shots'],
        'label': number(point['mean']),
      }
    )
  return {
    'points': drawn,
    'line': ' '.join(f'{p["x"]},{p["y"]}' for p in drawn),
    'whole': all(point['interval'] for point in points),
  }

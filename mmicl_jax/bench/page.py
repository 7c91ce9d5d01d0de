"""`mmicl bench all`: a page of all that was measured in one go.

The page tells the machine, the date and the command, compares what was asked
with what was reached, draws the ratios with their spread, and has every table.
Its numbers lie beside it as JSON.
"""

import dataclasses
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmicl_jax.runtime import show

PACKAGES = ('jax', 'flax', 'torch', 'transformers')
# No row of bfloat16 may be slower than that of transformers.
IN_BFLOAT16 = 1.0
INK, GRID, MET, MISSED = '#1d2433', '#e6e8ee', '#0f766e', '#b45309'
TITLES = {
  'generate': 'Answers',
  'train': 'A training step',
  'features': 'A training step on cached features',
  'serve': 'The server',
}
NOTES = {
  'generate': (
    'One random model, of which both sides have the weights; 128 tokens of '
    'text. `generate` starts from encoded images, `questions` are six on the '
    'same images with 8 new tokens each, images included. transformers as it '
    'comes: `generate` on PyTorch, eager.'
  ),
  'train': (
    'Ours beside transformers with AdamW of PyTorch: same weights, batch, '
    'trainable set and clipping; frozen towers without gradients; no dropout.'
  ),
  'features': 'Our step on cached features beside our step on images.',
  'serve': (
    'Over loopback: slots, batches and one call after the other of this '
    'package, and transformers behind the same HTTP layer.'
  ),
}


@dataclasses.dataclass(frozen=True)
class BenchPart:
  """One benchmark's rows and its Markdown table."""

  name: str
  rows: Sequence[dict[str, Any]]
  table: str


def benchmark_page(
  parts: Sequence[BenchPart],
  *,
  machine: str,
  versions: str,
  date: str,
  command: str,
  plot: str,
) -> str:
  """The page as Markdown; plot: the path of the picture, from the page."""
  lines = [
    '# How fast',
    '',
    f'Written by one command on {date}, on {machine}; {versions}:',
    '',
    f'```sh\n{command}\n```',
    '',
    'Sides take turns, each in a process of its own on the same cores; each '
    'turn begins with a run that is not timed. Seconds are median (least to '
    'most). Ratios are theirs / ours, of medians and of minima.',
    '',
    f'![ratios of each case, with the spread over rounds]({plot})',
    '',
  ]
  if asked := targets(parts):
    met = sum(row['met'] == 'yes' for row in asked)
    lines += [
      '## Asked and reached',
      '',
      f'{met} of {len(asked)} targets are met, by minima:',
      '',
      show.markdown(asked),
      '',
    ]
  for part in parts:
    lines += [f'## {TITLES[part.name]}', '', NOTES[part.name], '']
    lines += [part.table, '']
  return '\n'.join(lines).rstrip() + '\n'


def targets(parts: Sequence[BenchPart]) -> list[dict[str, str]]:
  """Each row that has a target: what was asked, and what was reached."""
  found = []
  for row in (row for part in parts for row in part.rows):
    asked = [(row['case'], row.get('target'), row.get('ratio_of_minima'))]
    if row.get('ratio_in_bfloat16'):
      case = f'{row["case"]}, bfloat16'
      asked.append((case, IN_BFLOAT16, row['ratio_in_bfloat16']))
    found += [
      {
        'size': row['size'],
        'case': case,
        'asked': f'{target:.1f}x',
        'reached': f'{ratio:.2f}x',
        'met': 'yes' if ratio >= target else '**no**',
      }
      for case, target, ratio in asked
      if target
    ]
  return found


def ratio_span(
  ours: Sequence[float], theirs: Sequence[float]
) -> tuple[float, float, float]:
  """The ratio of medians, and the least and the most of a round's ratios."""
  each = np.array(theirs) / np.array(ours)
  middle = float(np.median(theirs) / np.median(ours))
  return middle, float(each.min()), float(each.max())


def ratio_plot(parts: Sequence[BenchPart]) -> bytes:
  """An SVG of every ratio, with its spread over rounds and its target."""
  from matplotlib import rc_context
  from matplotlib.figure import Figure

  found = [(p.name, row) for p in parts for row in p.rows if 'seconds' in row]
  figure = Figure(figsize=(9, 1.4 + 0.44 * len(found)), layout='constrained')
  axes = figure.add_subplot()
  most = 1.0
  for y, (_, row) in enumerate(found):
    target = row.get('target') or 1.0
    ours, theirs, *others = row['seconds'].values()
    colour = MET if row['ratio_of_minima'] >= target else MISSED
    span = ratio_span(ours, theirs)
    _draw_span(axes, float(y), span, colour, colour)
    axes.plot([target] * 2, [y - 0.25, y + 0.2], color=INK, lw=1.6)
    most = max(most, target, *span)
    if len(others) == 2:
      colour = MET if row['ratio_in_bfloat16'] >= IN_BFLOAT16 else MISSED
      span = ratio_span(*others)
      _draw_span(axes, y + 0.36, span, colour, 'white')
      most = max(most, *span)
  axes.axvline(1, color='#9aa1b2', lw=1, zorder=0)
  names = [
    f'{row["size"]}: {"cached, " * (part == "features")}{row["case"]}'
    for part, row in found
  ]
  axes.set_yticks(range(len(found)), names)
  axes.set_ylim(len(found) - 0.3, -0.6)
  axes.set_xlim(0, 1.15 * most)
  axes.set_xlabel(
    'times as fast as the other side: median, and the spread over rounds\n'
    '(the upright bar is what was asked, or 1; hollow: both in bfloat16)',
    color=INK,
  )
  axes.grid(axis='x', color=GRID)
  axes.set_axisbelow(True)
  axes.tick_params(length=0, colors=INK)
  for side in ('top', 'right', 'left', 'bottom'):
    axes.spines[side].set_visible(False)
  buffer = io.BytesIO()
  # The same numbers give the same bytes.
  with rc_context({'svg.hashsalt': 'mmicl', 'svg.fonttype': 'none'}):
    figure.savefig(buffer, format='svg', metadata={'Date': None})
  return buffer.getvalue()


def _draw_span(
  axes: Any,
  y: float,
  span: tuple[float, float, float],
  colour: str,
  face: str,
) -> None:
  ratio, low, high = span
  axes.plot([low, high], [y, y], color=colour, lw=2, solid_capstyle='round')
  axes.plot(ratio, y, 'o', color=face, ms=6, mec=colour, mew=1.4)
  axes.annotate(
    f'{ratio:.2f}x', (max(ratio, high), y), (8, 0), va='center',
    textcoords='offset points', color=colour, size=9,
  )  # fmt: skip

"""The demo's plots: functions from results to PNG bytes.

Each phase has one colour. Labels stand at the lines instead of in a legend,
and are large enough to be read on a phone.
"""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from mmicl_jax.demo.results import PhaseResult, Results, Score

INK, FAINT, GRID = '#1d2433', '#6b7280', '#e6e8ee'
PHASE_COLOURS = ('#64748b', '#8b5cf6', '#c2660c', '#0f766e')
ACCENT = PHASE_COLOURS[-1]
# Student's t at 97.5 % for 1, 2, ... degrees of freedom; for more, the last.
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


def all_plots(results: Results) -> dict[str, bytes]:
  """Draws every plot that the results have data for: name -> PNG bytes."""
  plots = {'shots': shot_curve(results.shots, results.seeds)}
  if results.digits:
    plots['digits'] = shot_curve(results.digits, results.seeds)
  if any(phase.curve for phase in results.phases):
    plots['loss'] = loss_curve(results.phases)
  if any(p.accuracy is not None for x in results.phases for p in x.curve):
    plots['accuracy'] = accuracy_curve(results.phases)
  if results.tasks:
    plots['tasks'] = task_bars(results.tasks)
  return plots


def shot_curve(
  scores: Sequence[Score], seeds: Mapping[str, Sequence[float]] | None = None
) -> bytes:
  """Accuracy by demonstrations of each word: interval, chance and ceiling.

  There is a line for each number of words to choose from. seeds: by the name
  of a score, the accuracies of other seeds' models; then a line is the mean,
  its 95 % interval that of the mean of all seeds, and each seed is a dot.
  """
  figure, axes = _figure(6.4, 4.1)
  groups = dict.fromkeys(score.ways for score in scores)
  colours = [ACCENT, *(c for c in PHASE_COLOURS if c != ACCENT)]
  far = 0.0
  for ways, colour in zip(groups, colours, strict=False):
    found = [score for score in scores if score.ways == ways]
    far = max(far, _line(axes, found, ways, colour, seeds or {}))
  axes.set(xlim=(-0.4, far + 1.1), ylim=(-4, 109), xticks=range(int(far) + 1))
  several = groups.keys() - {None}
  axes.set_xlabel(
    'demonstrations of each word' if several else 'demonstrations'
  )
  _percent_axis(axes)
  return _png(figure)


def _line(
  axes,
  scores: Sequence[Score],
  ways: int | None,
  colour: str,
  seeds: Mapping[str, Sequence[float]],
) -> float:
  """Draws the scores of one number of words; returns the last place."""
  scores = sorted(scores, key=lambda score: score.shots or 0)
  x = np.array([(score.shots or 0) / (ways or 1) for score in scores])
  of_seeds = [[s.accuracy, *seeds.get(s.name, ())] for s in scores]
  y = np.array([100 * np.mean(shares) for shares in of_seeds])
  bounds = 100 * np.array(
    [
      score.interval if len(shares) == 1 else mean_interval(shares)
      for score, shares in zip(scores, of_seeds, strict=True)
    ]
  )
  for at, shares in zip(x, of_seeds, strict=True):
    if len(shares) > 1:
      axes.plot(
        [at] * len(shares), [100 * share for share in shares], 'o', ms=4,
        color=colour, alpha=0.45, mew=0, zorder=5,
      )  # fmt: skip
  for at, score in zip(x, scores, strict=True):
    for level, style in ((score.chance, '-'), (score.ceiling, ':')):
      axes.plot(
        [at - 0.15, at + 0.15], [100 * level] * 2, color=colour, lw=1.6,
        ls=style, alpha=0.5,
      )  # fmt: skip
  axes.plot(x, y, color=colour, lw=2.4, zorder=3)
  errors = np.stack([y - bounds[:, 0], bounds[:, 1] - y])
  axes.errorbar(
    x, y, np.maximum(errors, 0), fmt='o', ms=8, color=colour, mec='white',
    mew=1.4, elinewidth=1.6, zorder=4,
  )  # fmt: skip
  axes.annotate(
    f'{y[-1]:.1f} %' + (f'\n{ways} words' if ways else ''),
    (x[-1], y[-1]), (9, -8), textcoords='offset points', ha='left',
    va='center', color=colour, weight='bold', size=11,
  )  # fmt: skip
  return float(x[-1])


def mean_interval(shares: Sequence[float]) -> tuple[float, float]:
  """The 95 % interval of the mean of several shares, by Student's t."""
  count, mean = len(shares), float(np.mean(shares))
  error = float(np.std(shares, ddof=1)) / np.sqrt(count)
  half = _STUDENT[min(count - 1, len(_STUDENT)) - 1] * error
  return max(0.0, mean - half), min(1.0, mean + half)


def loss_curve(phases: Sequence[PhaseResult]) -> bytes:
  """The training loss of all phases in turn, raw and smoothed."""
  figure, axes = _figure(6.4, 3.4)
  spans, end = _laid_out(phases)
  for phase, colour, start in spans:
    steps = np.array([p.step for p in phase.curve], float) + start
    loss = np.array([p.loss for p in phase.curve])
    axes.plot(steps, loss, color=colour, lw=0.8, alpha=0.3)
    axes.plot(steps, _smooth(loss), color=colour, lw=2.2)
  axes.set(xlim=(0, end), ylim=(0, None))
  axes.set_ylabel('loss per token')
  _phase_labels(axes, spans, end)
  return _png(figure)


def accuracy_curve(phases: Sequence[PhaseResult]) -> bytes:
  """The held-out accuracy measured during training, of all phases in turn."""
  figure, axes = _figure(6.4, 3.4)
  spans, end = _laid_out(phases)
  for phase, colour, start in spans:
    points = [p for p in phase.curve if p.accuracy is not None]
    steps = [p.step + start for p in points]
    shares = [100 * (p.accuracy or 0) for p in points]
    axes.plot(steps, shares, 'o-', color=colour, lw=2.2, ms=4)
  axes.axhline(50, color=FAINT, lw=1, ls=(0, (4, 3)), zorder=1)
  axes.annotate('guessing', (end, 50), (-2, 5), textcoords='offset points',
                ha='right', color=FAINT, size=10)  # fmt: skip
  axes.set(xlim=(0, 1.01 * end), ylim=(0, 104))  # the last dot is whole
  _percent_axis(axes)
  _phase_labels(axes, spans, end)
  return _png(figure)


def task_bars(scores: Sequence[Score]) -> bytes:
  """One bar for each task, with a tick at what guessing would reach."""
  figure, axes = _figure(6.4, 0.9 + 0.36 * len(scores))
  order = sorted(scores, key=lambda score: score.accuracy)
  for row, score in enumerate(order):
    value = 100 * score.accuracy
    axes.barh(row, value, color=ACCENT, alpha=0.85, height=0.62)
    axes.plot([100 * score.chance] * 2, [row - 0.31, row + 0.31], color=INK)
    axes.annotate(f'{value:.0f} %', (value, row), (5, 0), va='center',
                  textcoords='offset points', color=INK, size=10)  # fmt: skip
  axes.set(xlim=(0, 112), yticks=range(len(order)), ylim=(-0.6, len(order)))
  axes.set_yticklabels([score.name for score in order], color=INK)
  axes.set_xticks([0, 50, 100], ['0', '50', '100 %'])
  axes.grid(False)
  axes.tick_params(length=0)
  axes.spines['bottom'].set_visible(False)
  axes.annotate('│ guessing', (1, 1), xycoords='axes fraction', ha='right',
                va='top', color=INK, size=10)  # fmt: skip
  return _png(figure)


def _figure(width: float, height: float):
  figure = Figure(figsize=(width, height), layout='constrained')
  axes = figure.subplots()
  axes.grid(axis='y', color=GRID, lw=1)
  axes.set_axisbelow(True)
  for side in ('top', 'right', 'left'):
    axes.spines[side].set_visible(False)
  axes.spines['bottom'].set_color(FAINT)
  axes.tick_params(colors=FAINT, labelsize=11, length=3)
  axes.tick_params(axis='y', length=0)
  axes.xaxis.label.set(color=INK, size=11.5)
  axes.yaxis.label.set(color=INK, size=11.5)
  return figure, axes


def _percent_axis(axes) -> None:
  axes.set_yticks([0, 25, 50, 75, 100], ['0', '25', '50', '75', '100 %'])


def _laid_out(phases: Sequence[PhaseResult]):
  """The phases with curves as (phase, colour, first step), and all steps."""
  spans, start = [], 0
  for i, phase in enumerate(phases):
    if phase.curve:
      colour = PHASE_COLOURS[i % len(PHASE_COLOURS)]
      spans.append((phase, colour, start))
    start += phase.steps
  return spans, start


def _phase_labels(axes, spans, end: int) -> None:
  for phase, colour, start in spans:
    if start:
      axes.axvline(start, color=GRID, lw=1.2)
    # A short phase keeps its label inside the plot.
    middle = (start + phase.steps / 2) / max(end, 1)
    axes.annotate(
      phase.name, (min(max(middle, 0.08), 0.92), 1.02),
      xycoords='axes fraction', ha='center', va='bottom',
      color=colour, weight='bold', size=10.5,
    )  # fmt: skip
  axes.set_xlabel('steps')


def _smooth(values: np.ndarray) -> np.ndarray:
  """Running mean over a twentieth of the curve, shorter at both ends."""
  half = max(1, len(values) // 40)
  return np.array(
    [values[max(0, i - half) : i + half + 1].mean() for i in range(len(values))]
  )


def _png(figure: Figure) -> bytes:
  buffer = io.BytesIO()
  # No version inside the file: the same results give the same bytes.
  figure.savefig(buffer, format='png', dpi=200, metadata={'Software': None})
  return buffer.getvalue()

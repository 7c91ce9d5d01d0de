"""Puts several runs of the demo side by side: ablations, presets, seeds."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mmicl_jax.demo.results import Results, Score, median_of
from mmicl_jax.demo.tasks import SEVERAL, words_task
from mmicl_jax.errors import UserError

# Of each run: (words, demonstrations of each), then means of other tasks.
_ROWS = ((2, 1), (2, 2), (5, 1), (5, 3))


def compare_demos(folders: Sequence[Path]) -> list[dict[str, Any]]:
  """A row for each preset and ablation, in the order of the folders.

  A cell is the median over the runs, with the lowest and the highest, in per
  cent. Runs of several seeds are read from their folders. Raises UserError for
  a folder that has no results, and if two runs differ in nothing.
  """
  groups: dict[tuple[str, str | None], dict[int, Results]] = {}
  for folder in folders:
    path = folder / 'results.json'
    if not path.is_file():
      raise UserError(f'{path} does not exist: name a folder of mmicl demo')
    for one in (path, *sorted(folder.glob('seed_*/results.json'))):
      found = Results.load(str(one))
      runs = groups.setdefault((found.preset, found.ablation), {})
      if found.seed in runs:
        raise UserError(
          f'{one} has the preset, ablation and seed of another run: name each '
          'run once'
        )
      runs[found.seed] = found
  return [
    _row(preset, ablation, list(runs.values()))
    for (preset, ablation), runs in groups.items()
  ]


def _row(
  preset: str, ablation: str | None, runs: Sequence[Results]
) -> dict[str, Any]:
  cells = {}
  for ways, each in _ROWS:
    name = words_task(ways, each)
    about = f'{ways} words, {each} each'
    cells[about] = median_of([_mean(run.shots, [name]) for run in runs])
  name = words_task(2, 2)
  cells['digits, 2 words, 2 each'] = median_of(
    [_mean(run.digits, [f'digits_{name}']) for run in runs]
  )
  cells['several images'] = median_of(
    [_mean(run.tasks, SEVERAL) for run in runs]
  )
  cells['composition'] = median_of(
    [_mean(run.tasks, ['composition']) for run in runs]
  )
  return {
    'ablation': ablation or 'none',
    'preset': preset,
    'seeds': len(runs),
    **cells,
  }


def _mean(scores: Sequence[Score], names: Iterable[str]) -> float:
  chosen = [score.accuracy for score in scores if score.name in set(names)]
  if not chosen:
    raise UserError(
      f'a run has no score of {", ".join(names)}: it is of another version'
    )
  return sum(chosen) / len(chosen)

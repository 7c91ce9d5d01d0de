"""The demo's page: one HTML file without scripts that needs no network."""

import os
import re
from typing import Any

from mmicl_jax.demo import plots
from mmicl_jax.demo.results import LedgerRow, Results, Sample
from mmicl_jax.runtime import files, page

_FULL = 4.0  # a demonstration that carried so much has the full colour
_SLOT = re.compile(r'(<image\d+>)?图')


def write_page(results: Results, folder: str) -> str:
  """Writes FOLDER/index.html and FOLDER/plots/*.png; returns the page's path.

  The samples' images are read from `folder` and embedded in the page.
  """
  images = plots.all_plots(results)
  for name, png in images.items():
    path = os.path.join(folder, 'plots', f'{name}.png')
    files.write_bytes(path, png)
  path = os.path.join(folder, 'index.html')
  files.write_text(path, render_page(results, images, folder))
  return path


def render_page(results: Results, images: dict[str, bytes], folder: str) -> str:
  """Returns the page's HTML. images: the plots, name -> PNG bytes."""
  return page.render(
    'demo/page.html.j2',
    r=results,
    plots={name: page.data_uri(png) for name, png in images.items()},
    samples=[_card(sample, folder) for sample in results.samples],
    weighed=[_card(sample, folder) for sample in results.weighed],
    unseen=[_uri(image, folder) for image in results.unseen],
    ledger=_ledger(results.ledger),
    tasks=sorted(results.tasks, key=lambda score: -score.accuracy),
    colours=plots.PHASE_COLOURS,
  )


def _card(sample: Sample, folder: str) -> dict[str, Any]:
  """A sample whose prompt is cut into lines, and each into texts and images."""
  waiting = iter([_uri(image, folder) for image in sample.images])
  carried = iter(sample.carried)
  lines = []
  for line in filter(str.strip, sample.prompt.splitlines()):
    pieces, end = [], 0
    for slot in _SLOT.finditer(line):
      pieces.append({'text': line[end : slot.start()]})
      pieces.append({'name': slot[1] or '', 'image': next(waiting, '')})
      end = slot.end()
    pieces.append({'text': line[end:]})
    lines.append({'pieces': pieces, **_weight(next(carried, None))})
  return {'sample': sample, 'title': _title(sample), 'lines': lines}


def _uri(image: str, folder: str) -> str:
  with open(os.path.join(folder, image), 'rb') as file:
    return page.data_uri(file.read())


def _weight(carried: float | None) -> dict[str, str]:
  """How a demonstration is coloured that carried so much; {} for none."""
  if carried is None:
    return {}
  return {
    'carried': f'{carried:+.2f}'.replace('-', '−'),
    'colour': 'good' if carried >= 0 else 'bad',
    'strength': f'{min(abs(carried) / _FULL, 1):.2f}',
  }


def _title(sample: Sample) -> str:
  if '_words_' in sample.task:
    plural = '' if sample.shots == 1 else 's'
    ways = re.search(r'_(\d+)_words_', sample.task)
    many = f'{ways[1]} ' if ways else ''
    return f'{many}invented words, {sample.shots} demonstration{plural}'
  return sample.task.replace('_', ' ')


def _ledger(rows: tuple[LedgerRow, ...]) -> dict[str, Any]:
  """A table of modules (rows) and phases (columns): how much of each trains."""
  phases = list(dict.fromkeys(row.phase for row in rows))
  modules = list(dict.fromkeys(row.module for row in rows))
  cells = {(row.module, row.phase): row for row in rows}
  totals = {
    phase: LedgerRow(
      phase,
      'all',
      *(
        sum(getattr(row, key) for row in rows if row.phase == phase)
        for key in ('parameters', 'trainable', 'bytes', 'optimizer_bytes')
      ),
    )
    for phase in phases
  }
  sizes = {row.module: row.parameters for row in rows}
  return {
    'phases': phases,
    'modules': modules,
    'cells': cells,
    'totals': totals,
    'sizes': sizes,
  }

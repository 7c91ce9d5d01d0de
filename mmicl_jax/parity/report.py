"""The parity report: how far two models' values differ at each place.

`compare` turns two traces into rows; `ParityReport` shows them as a table, as
JSON and as a page. A place passes if its largest difference, divided by the
largest magnitude there, is within its tolerance.
"""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from mmicl_jax.parity.probes import Trace
from mmicl_jax.runtime import files, page
from mmicl_jax.runtime.show import table

TOLERANCE = 1e-5  # of logits and of every layer, relative to the largest value
LOGITS_ABSOLUTE = 1e-4
LOSS_TOLERANCE = 1e-6
GRADIENT_TOLERANCE = 1e-4
BEAM_MARGIN = 1e-4  # beams whose scores are closer may swap places


@dataclasses.dataclass(frozen=True)
class ParityRow:
  """One place: its largest absolute and relative difference, and a verdict."""

  place: str
  absolute: float
  relative: float
  tolerance: float
  ok: bool


def compare(
  ours: Trace,
  theirs: Trace,
  sets: Mapping[str, set[str]],
  tolerance: float = TOLERANCE,
) -> list[ParityRow]:
  """Compares two traces and returns one row for each place.

  sets: the name of each trainable set and its parameters' PyTorch names.
  """
  rows = []
  for name in ours.values:
    a, b = ours.values[name], theirs.values[name]
    if name == 'logits':  # a grown vocabulary has more rows here
      a = a[..., : b.shape[-1]]
    limit = LOSS_TOLERANCE if name == 'loss' else tolerance
    row = difference(name, a, b, limit)
    if name == 'logits' and not row.absolute < LOGITS_ABSOLUTE:
      row = dataclasses.replace(row, ok=False)
    rows.append(row)
  for name, members in sets.items():
    rows.append(_gradient_row(name, ours, theirs, members))
  rows.append(_tokens_row('greedy tokens', ours, theirs))
  rows.append(_tokens_row('beam tokens', ours, theirs))
  return rows


def difference(
  place: str, ours: np.ndarray, theirs: np.ndarray, tolerance: float
) -> ParityRow:
  """Compares two arrays. Unequal shapes and NaN fail; they raise no error."""
  if ours.shape != theirs.shape:
    return ParityRow(
      f'{place} (shapes differ)', np.inf, np.inf, tolerance, False
    )
  a, b = ours.astype(np.float64), theirs.astype(np.float64)
  absolute = float(np.abs(a - b).max(initial=0))
  scale = float(np.abs(b).max(initial=0))
  relative = absolute / scale if scale else absolute
  return ParityRow(
    place, absolute, relative, tolerance, bool(relative <= tolerance)
  )


def _gradient_row(
  name: str, ours: Trace, theirs: Trace, members: set[str]
) -> ParityRow:
  """The parameter of a set whose gradients differ most: |a - b| / |b|."""
  largest = max(
    (float(np.linalg.norm(theirs.gradients[m])) for m in members), default=0.0
  )
  worst = ParityRow('', 0.0, -1.0, GRADIENT_TOLERANCE, True)
  for member in sorted(members):
    a, b = ours.gradients[member], theirs.gradients[member]
    distance, size = float(np.linalg.norm(a - b)), float(np.linalg.norm(b))
    # Some true gradients are zero (those of the keys' biases, since softmax
    # ignores a shift), so both are mere rounding: scale by the whole set.
    relative = distance / max(size, 1e-3 * largest, 1e-30)
    if not relative <= worst.relative:
      ok = relative <= GRADIENT_TOLERANCE
      place = f'gradients of {name}: {member}'
      worst = ParityRow(place, distance, relative, GRADIENT_TOLERANCE, ok)
  return worst


def _tokens_row(place: str, ours: Trace, theirs: Trace) -> ParityRow:
  """Number and share of rows whose tokens differ; near ties do not count."""
  name = place.split()[0]
  other = [
    a != b
    for a, b in zip(ours.generated[name], theirs.generated[name], strict=True)
  ]
  if name == 'beam':
    other = [
      differs and abs(scores[0] - scores[1]) > BEAM_MARGIN
      for differs, scores in zip(other, theirs.scores, strict=True)
    ]
  count = sum(other)
  return ParityRow(place, float(count), count / len(other), 0.0, count == 0)


@dataclasses.dataclass(frozen=True)
class ParityReport:
  """All rows, the facts about the run, and the notes of the conversion."""

  rows: tuple[ParityRow, ...]
  facts: dict[str, Any]
  notes: tuple[str, ...]

  @property
  def ok(self) -> bool:
    """Whether every place is within its tolerance."""
    return all(row.ok for row in self.rows)

  @property
  def verdict(self) -> str:
    """One sentence: whether the models agree, and where they first do not."""
    bad = [row.place for row in self.rows if not row.ok]
    if not bad:
      return f'the models agree in all {len(self.rows)} places'
    return (
      f'the models differ in {len(bad)} of {len(self.rows)} places; the first '
      f'is: {bad[0]}'
    )

  def text(self) -> str:
    """The report for a terminal: facts, notes, table and verdict."""
    lines = [f'{name}: {value}' for name, value in self.facts.items()]
    lines += [f'note: {note}' for note in self.notes]
    return '\n'.join([*lines, '', table(self._cells()), '', self.verdict])

  def write_json(self, path: str | os.PathLike) -> None:
    """Writes `to_dict` as a JSON file."""
    files.write_json(path, self.to_dict())

  def to_dict(self) -> dict[str, Any]:
    """The report as JSON's types; None stands for NaN and infinity."""
    return {
      'ok': self.ok,
      'verdict': self.verdict,
      'facts': self.facts,
      'notes': list(self.notes),
      'rows': [
        {
          k: None if isinstance(v, float) and not np.isfinite(v) else v
          for k, v in dataclasses.asdict(row).items()
        }
        for row in self.rows
      ],
    }

  def write_html(self, path: str | os.PathLike) -> None:
    """Writes an HTML page without scripts; it marks rows over tolerance."""
    files.write_text(
      path,
      page.render('parity/page.html.j2', report=self, cells=self._cells()),
    )

  def _cells(self) -> list[dict[str, Any]]:
    return [
      {
        'place': row.place,
        'largest difference': row.absolute,
        'relative': row.relative,
        'tolerance': row.tolerance,
        '': 'ok' if row.ok else 'OVER',
      }
      for row in self.rows
    ]

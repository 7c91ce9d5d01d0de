"""What results are shown with: tables, intervals, JSON on the terminal."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from mmicl_jax.errors import UserError


def print_json(value: Any, indent: int | None = 1) -> None:
  """Prints JSON that every reader takes, whatever the terminal can show.

  Raises UserError for NaN and infinities, which JSON does not have.
  """
  utf8 = (sys.stdout.encoding or '').lower().replace('-', '') == 'utf8'
  try:
    text = json.dumps(
      value, ensure_ascii=not utf8, indent=indent, allow_nan=False
    )
  except ValueError as error:
    raise UserError(
      'a result is not a number (NaN or infinite), which JSON cannot hold: '
      'look at it without --json, and check the weights'
    ) from error
  print(text)


def wilson(
  correct: int, items: int, z: float = 1.959964
) -> tuple[float, float]:
  """The 95 % interval of a share of right answers, as fractions.

  Wilson's score interval: unlike the normal one it is not empty at 0 % and
  100 %. No items: (0, 1).
  """
  if not 0 <= correct <= items:
    raise ValueError(f'{correct} right of {items} items')
  if items == 0:
    return 0.0, 1.0
  share = correct / items
  scale = 1 + z * z / items
  centre = (share + z * z / (2 * items)) / scale
  half = math.sqrt(share * (1 - share) / items + (z / (2 * items)) ** 2)
  half *= z / scale
  return max(0.0, centre - half), min(1.0, centre + half)


def percent(share: float, digits: int = 1) -> str:
  """0.9812 -> '98.1 %'."""
  return f'{100 * share:.{digits}f} %'


def size(num_bytes: int) -> str:
  """2_500_000 -> '2.5 MB', in decimal units."""
  for unit, scale in (('GB', 1e9), ('MB', 1e6), ('kB', 1e3)):
    if num_bytes >= scale:
      return f'{num_bytes / scale:.1f} {unit}'
  return f'{num_bytes} B'


def table(rows: Sequence[Mapping[str, Any]]) -> str:
  """Aligned text: a heading, a rule, one line a row; numbers to the right.

  The columns are the keys of the first row. Floats get three significant
  digits at least, whole numbers thousands separators; None is blank.
  """
  if not rows:
    return ''
  columns = list(rows[0])
  cells = [columns, *([_cell(row.get(c)) for c in columns] for row in rows)]
  widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
  right = [all(_is_number_like(row.get(c)) for row in rows) for c in columns]
  lines = [
    '  '.join(
      cell.rjust(width) if is_right else cell.ljust(width)
      for cell, width, is_right in zip(line, widths, right, strict=True)
    ).rstrip()
    for line in cells
  ]
  lines.insert(1, '  '.join('─' * width for width in widths))
  return '\n'.join(lines)


def _cell(value: Any) -> str:
  if value is None:
    return ''
  if isinstance(value, bool):
    return 'yes' if value else 'no'
  if isinstance(value, int):
    return f'{value:,}'
  if isinstance(value, float):
    return f'{value:,.1f}' if abs(value) >= 100 else f'{value:.3g}'
  # A newline or a control character would break the table.
  return ''.join(c if c.isprintable() else ' ' for c in str(value))


def _is_number_like(value: Any) -> bool:
  """Numbers, and texts such as '98.1 %' or '50 – 60 %', align to the right."""
  if value is None or (
    isinstance(value, int | float) and not isinstance(value, bool)
  ):
    return True
  return isinstance(value, str) and value[:1].isdigit()

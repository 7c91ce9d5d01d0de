"""Shows results on a terminal: tables, intervals, JSON."""

import io
import json
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import Box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmicl_jax.errors import UserError

# Tables have no lines except the one below their heading.
_BOX = '    \n    \n {rule}{rule} \n    \n    \n    \n    \n    \n'


def json_text(
  value: Any, indent: int | None = None, ascii_only: bool = False
) -> str:
  """A value as standard JSON.

  Raises UserError for NaN and infinities, which JSON does not have.
  """
  try:
    return json.dumps(
      value, ensure_ascii=ascii_only, indent=indent, allow_nan=False
    )
  except ValueError as error:
    raise UserError(
      'a result is not a number (NaN or infinite), which JSON cannot hold: '
      'look at it without --json, and check the weights'
    ) from error


def print_json(value: Any, indent: int | None = 1) -> None:
  """Prints JSON, in ASCII if the terminal needs that; raises as json_text."""
  utf8 = (sys.stdout.encoding or '').lower().replace('-', '') == 'utf8'
  print(json_text(value, indent, ascii_only=not utf8))


def wilson(
  correct: int, items: int, z: float = 1.959964
) -> tuple[float, float]:
  """The 95 % interval of a share of right answers, as fractions.

  It is Wilson's score interval (1927), which unlike the normal one is not empty
  at 0 % and 100 %. Without items it is (0, 1).
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
  """A share as text: 0.9812 -> '98.1 %'."""
  return f'{100 * share:.{digits}f} %'


def size(num_bytes: int) -> str:
  """Bytes as text in decimal units: 2_500_000 -> '2.5 MB'."""
  for unit, scale in (('GB', 1e9), ('MB', 1e6), ('kB', 1e3)):
    if num_bytes >= scale:
      return f'{num_bytes / scale:.1f} {unit}'
  return f'{num_bytes} B'


def duration(seconds: float) -> str:
  """Seconds as text: 75.0 -> '1 min 15 s'."""
  minutes, rest = divmod(round(seconds), 60)
  return f'{minutes} min {rest:02d} s' if minutes else f'{rest} s'


def table(rows: Sequence[Mapping[str, Any]]) -> str:
  """An aligned table as text: a heading, a line, then one line for each row.

  The columns are the keys of the first row; numbers are aligned to the right.
  Floats have at least three significant digits, whole numbers have thousands
  separators, and None is blank. Cells are folded only on a terminal that is too
  narrow.
  """
  if not rows:
    return ''
  unicode = 'utf' in (sys.stdout.encoding or '').lower()
  box = Box(_BOX.format(rule='─' if unicode else '-'))
  drawn = Table(box=box, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
  for column in rows[0]:
    right = all(_is_number_like(row.get(column)) for row in rows)
    drawn.add_column(
      Text(column), justify='right' if right else 'left', overflow='fold'
    )
  for row in rows:
    drawn.add_row(*(Text(cell(row.get(column))) for column in rows[0]))
  width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 10**6
  console = Console(file=io.StringIO(), width=width, color_system=None)
  with console.capture() as captured:
    console.print(drawn)
  return '\n'.join(line.rstrip() for line in captured.get().splitlines())


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
  """A table as in `table`, but in Markdown."""
  if not rows:
    return ''
  lines = [list(rows[0]), ['---'] * len(rows[0])]
  lines += [[cell(row.get(column)) for column in rows[0]] for row in rows]
  return '\n'.join(
    f'| {" | ".join(text.replace("|", "&#124;") for text in line)} |'
    for line in lines
  )


def cell(value: Any) -> str:
  """A value as tables show it: see `table`."""
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

"""Parses JSON strictly: no equal keys, no numbers that JSON does not have."""

import json
import math
from typing import Any

from mmicl_jax.errors import UserError


def parse_strictly(data: bytes) -> Any:
  """The value of JSON in UTF-8.

  Raises what json.loads raises (UnicodeDecodeError, JSONDecodeError,
  RecursionError and other ValueErrors), and UserError for equal keys and for
  numbers that are not finite.
  """
  return json.loads(
    data.decode('utf-8-sig'),
    object_pairs_hook=_object,
    parse_float=_finite,
    parse_constant=_finite,
  )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  """Refuses equal keys, of which json would keep only the last."""
  value = dict(pairs)
  if len(value) != len(pairs):
    seen = set()
    for name, _ in pairs:
      if name in seen:
        raise UserError(f'{json.dumps(name)} stands twice: keep one of them.')
      seen.add(name)
  return value


def _finite(text: str) -> float:
  """Refuses NaN, infinities and numbers too large for a float."""
  number = float(text)
  if not math.isfinite(number):
    raise UserError(f'{text} is no number of JSON: use null or leave it out.')
  return number

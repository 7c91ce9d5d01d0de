"""Parses JSON strictly: no equal keys, no numbers that JSON does not have."""

import json
import math
from typing import Any

from mmicl_jax.errors import UserError


def parse_strictly(data: bytes, where: str) -> Any:
  """The value of JSON in UTF-8; raises UserError that begins with `where`."""
  try:
    return json.loads(
      data.decode('utf-8-sig'),
      object_pairs_hook=_object,
      parse_float=_finite,
      parse_constant=_finite,
    )
  except UnicodeDecodeError as error:
    raise UserError(
      f'{where} is not UTF-8 (byte {error.start}): save it as UTF-8'
    ) from error
  except json.JSONDecodeError as error:
    place = f'line {error.lineno}, ' if b'\n' in data.strip() else ''
    raise UserError(
      f'{where} is not JSON ({error.msg} at {place}character {error.colno}): '
      'repair it'
    ) from error
  except (ValueError, RecursionError) as error:
    raise UserError(f'{where} is not JSON ({error}): repair it') from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  """Refuses equal keys, of which json would keep only the last."""
  value = dict(pairs)
  if len(value) != len(pairs):
    names = [name for name, _ in pairs]
    twice = next(name for name in names if names.count(name) > 1)
    raise ValueError(f'the key {json.dumps(twice)} stands twice')
  return value


def _finite(text: str) -> float:
  """Refuses NaN, infinities and numbers too large for a float."""
  number = float(text)
  if not math.isfinite(number):
    raise ValueError(f'{text} is not a finite number')
  return number

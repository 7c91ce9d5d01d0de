"""Reads a file of predictions: JSON Lines with an id and an answer each."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmicl_jax.errors import UserError, explained
from mmicl_jax.metrics.files import json_value
from mmicl_jax.metrics.scorer import Annotations, Prediction

_FORM = {
  'output': '{"id": "7", "output": "text"}',
  'scores': '{"id": "7", "scores": [0.5, 0.25]}',
}


def read_predictions(
  path: Path,
  annotations: Annotations,
  kinds: Sequence[str],
  allow_partial: bool = False,
) -> dict[str, Prediction]:
  """The predictions by id, in the order of the annotations.

  kinds: what a line may hold, 'output', 'scores' or both; the first line
  decides for the whole file. allow_partial: ids may be missing. Raises
  UserError for every line that is not as it should be, for unknown, equal and
  missing ids, and for an empty file.
  """
  known = set(annotations.ids)
  found: dict[str, Prediction] = {}
  kind = None
  for number, line in enumerate(_lines(path), 1):
    where = f'{path}, line {number}'
    row = json_value(line, where)
    if not isinstance(row, dict):
      raise UserError(f'{where} is no JSON object: write {_forms(kinds)}')
    name = row.get('id')
    if 'id' not in row:
      raise UserError(f'{where} has no "id": write {_forms(kinds)}')
    if not isinstance(name, str):
      raise UserError(
        f'{where}: the "id" should be a text, not {json.dumps(name)[:50]}: '
        f'write {_forms(kinds)}'
      )
    held = _kind(row, kinds, f'{where} (id {name!r})')
    kind = kind or held
    if held != kind:
      raise UserError(
        f'{where} (id {name!r}) has "{held}", but the lines above have '
        f'"{kind}": write {_FORM[kind]}'
      )
    if name not in known:
      raise UserError(
        f'{where}: the id {name!r} is not in the annotations: look whether '
        'both are of the same benchmark and split'
      )
    if name in found:
      raise UserError(f'{where}: the id {name!r} stands twice: keep one line')
    if kind == 'output':
      found[name] = _output(row[kind], where, name)
    else:
      found[name] = _scores(row[kind], where, name, annotations)
  if not found:
    raise UserError(f'{path} is empty: write {_forms(kinds)} on each line')
  if not allow_partial:
    missing = [one for one in annotations.ids if one not in found]
    if missing:
      raise UserError(
        f'{path} has no prediction for the id {missing[0]!r}'
        + f' and {len(missing) - 1} more' * (len(missing) > 1)
        + ': add them, or score the others with --allow_partial'
      )
  return {one: found[one] for one in annotations.ids if one in found}


def _lines(path: Path) -> list[bytes]:
  """The lines; a newline at the end of the file begins no further one."""
  try:
    data = path.read_bytes()
  except OSError as error:
    remedy = 'name a file of predictions'
    raise explained(error, path, remedy, 'could not be read') from error
  lines = data.split(b'\n')
  return lines[:-1] if lines[-1] == b'' else lines


def _kind(row: dict[str, Any], kinds: Sequence[str], where: str) -> str:
  """Which of the kinds a line holds."""
  held = [kind for kind in kinds if kind in row]
  if len(held) == 1:
    return held[0]
  if held:
    raise UserError(f'{where} has "output" and "scores": leave one of them out')
  neither = ' nor '.join(f'"{kind}"' for kind in kinds)
  neither = f'{"neither" if len(kinds) > 1 else "no"} {neither}'
  raise UserError(f'{where} has {neither}: write {_forms(kinds)}')


def _forms(kinds: Sequence[str]) -> str:
  return ' or '.join(_FORM[kind] for kind in kinds)


def _output(value: Any, where: str, name: str) -> str:
  if not isinstance(value, str):
    raise UserError(
      f'{where}: the "output" of {name!r} is not text: write {_FORM["output"]}'
    )
  return value


def _scores(
  value: Any, where: str, name: str, annotations: Annotations
) -> list[float]:
  if not isinstance(value, list):
    raise UserError(
      f'{where}: the "scores" of {name!r} are no list: write {_FORM["scores"]}'
    )
  allowed = annotations.candidates.get(name)
  if allowed is None:
    raise UserError(
      f'{where}: {name!r} has "scores", but no annotation file lists the '
      'candidates: add it (docs/evaluation.md names it), or give "output"'
    )
  if len(value) not in allowed:
    wanted = ' or '.join(map(str, allowed))
    raise UserError(
      f'{where}: {name!r} has {len(value)} scores, but {wanted} candidates: '
      'give one score for each'
    )
  return [_number(one, where, name) for one in value]


def _number(value: Any, where: str, name: str) -> float:
  if type(value) in (int, float):
    try:
      number = float(value)
    except OverflowError:
      number = math.inf
    if math.isfinite(number):
      return number
  raise UserError(
    f'{where}: a score of {name!r} is not a finite number: give numbers only'
  )

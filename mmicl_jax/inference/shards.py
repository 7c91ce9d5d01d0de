"""Puts answers of several machines together: shards to the unsharded file.

Shard i of n has answered every n-th block of the input. Beside a shard of
`mmicl generate` lies FILE.shard.json, which says which one it is.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from mmicl_jax.errors import UserError, explained
from mmicl_jax.runtime import files

_SAME = ('settings', 'model')  # what the lines of all shards must share


def sidecar(path: str | os.PathLike) -> Path:
  """The file that says which shard an output is."""
  return Path(f'{os.fspath(path)}.shard.json')


def shard_facts(
  shard: tuple[int, int], block: int, records: int
) -> dict[str, Any]:
  """What a shard's sidecar says; records: of the whole input."""
  return {'shard': list(shard), 'block': block, 'records': records}


def read_sidecar(path: str | os.PathLike) -> dict[str, Any]:
  """Raises UserError if there is none, or another file in its place."""
  place = sidecar(path)
  try:
    found = json.loads(place.read_text('utf-8'))
    return shard_facts(
      (int(found['shard'][0]), int(found['shard'][1])),
      int(found['block']),
      int(found['records']),
    )
  except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
    raise UserError(
      f'{place} does not say which shard {path} is ({error}): write it again '
      'with --shard I/N'
    ) from error


def in_order(
  shards: Sequence[str | os.PathLike], told: Sequence[Mapping[str, Any]]
) -> list[str | os.PathLike]:
  """The shards by their numbers.

  Raises UserError if one is missing or given twice, or if they are not shards
  of one run.
  """
  count, places = told[0]['shard'][1], {}
  for path, one in zip(shards, told, strict=True):
    i, n = one['shard']
    rest = {k: v for k, v in one.items() if k != 'shard'}
    if n != count or rest != {k: v for k, v in told[0].items() if k != 'shard'}:
      raise UserError(
        f'{path} and {shards[0]} are not shards of the same run: give those of '
        'one input, one number of shards and one --batch_size'
      )
    if i in places:
      raise UserError(f'{path} and {places[i]} are both shard {i}/{count}')
    places[i] = path
  missing = [i for i in range(count) if i not in places]
  if missing:
    raise UserError(
      f'shard {missing[0]}/{count} is missing: give all {count} shards'
    )
  return [places[i] for i in range(count)]


def merge_lines(
  shards: Sequence[str | os.PathLike],
  target: str | os.PathLike,
  block: int,
  records: int,
) -> None:
  """Writes the lines of shards, which are in order, as one run has them.

  Raises UserError, and writes nothing, if a shard is not complete, or if one
  was made with another model or other settings.
  """
  opened = [_open(path) for path in shards]
  first: dict[str, Any] | None = None
  last = -1
  try:
    with files.writing(target, 'wb') as file:
      for number in range(records):
        i = number // block % len(shards)
        line = opened[i].readline()
        value = _parsed(line, shards[i])
        if first is None:
          first = value
        for key in _SAME:
          if value.get(key) != first.get(key):
            raise UserError(
              f'{shards[i]}: another {key} than in {shards[0]}: answer all '
              'shards with one model and the same arguments'
            )
        if value['line'] <= last:
          raise UserError(
            f'{shards[i]}: line {value["line"]} stands twice: answer the shard '
            'again'
          )
        last = value['line']
        file.write(line)
      for path, rest in zip(shards, opened, strict=True):
        if rest.readline():
          raise UserError(
            f'{path} has more lines than its shard of {records} records'
          )
  finally:
    for file in opened:
      file.close()


def _open(path: str | os.PathLike) -> IO[bytes]:
  try:
    return open(path, 'rb')
  except OSError as error:
    remedy = 'name a shard'
    raise explained(error, path, remedy, 'could not be read') from error


def _parsed(line: bytes, path: str | os.PathLike) -> dict[str, Any]:
  try:
    if not line.endswith(b'\n'):
      raise ValueError('it ends too early')
    value = json.loads(line)
    int(value['line'])
    return value
  except (ValueError, KeyError, TypeError) as error:
    raise UserError(
      f'{path} is not complete ({error}): run the same command again, which '
      'goes on'
    ) from error

"""Shards of `mmicl explain`, and the folder that one run would have made.

A shard's folder has its lines of explain.jsonl, and shard.json, which says
which ones these are and holds what the page will show of them.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmicl_jax.errors import UserError
from mmicl_jax.evaluation.explanation import (
  RECORDS,
  Explained,
  Part,
  block_size,
  write_explanation,
)
from mmicl_jax.inference import shards as merging
from mmicl_jax.runtime import files

SHARD = 'shard.json'


@dataclasses.dataclass(frozen=True)
class Shard:
  """What shard.json says.

  told: which shard of which run it is. facts, left_out: of the whole run.
  numbers: of the lines. cards: of the page, by the numbers as texts.
  """

  told: Mapping[str, Any]
  facts: dict[str, Any]
  left_out: dict[str, int]
  too_long: int
  numbers: Sequence[int]
  cards: Mapping[str, dict[str, Any]]


def run_digest(chosen: Sequence[Explained], *settings: Any) -> str:
  """A hash that is equal for shards that belong together.

  settings: what scores depend on besides the prompts, as the model's digest.
  """
  found = hashlib.blake2b(repr(settings).encode(), digest_size=8)
  for _, example in chosen:
    found.update(f'{example.inputs}\n{example.targets}\n'.encode())
  return found.hexdigest()


def write_shard(
  folder: Path,
  shard: tuple[int, int],
  run: str,
  records: int,
  facts: dict[str, Any],
  left_out: dict[str, int],
  part: Part,
) -> None:
  """Writes a shard's folder; records: how many the whole run has."""
  told = merging.shard_facts(shard, block_size(records), records)
  value = Shard(
    {**told, 'run': run},
    facts,
    left_out,
    part.too_long,
    [number for number, _ in part.lines],
    {str(number): card for number, card in part.cards.items()},
  )
  lines = ''.join(f'{text}\n' for _, text in part.lines)
  files.write_text(folder / RECORDS, lines)
  files.write_json(folder / SHARD, dataclasses.asdict(value))


def merge_explanations(out: Path, folders: Sequence[Path]) -> None:
  """Makes `out`, a new folder, of all shards of a run.

  Raises UserError, and makes nothing, if they do not belong together, or if one
  is missing, given twice or not complete.
  """
  found = [_read(folder) for folder in folders]
  merging.in_order(folders, [shard.told for shard, _ in found])
  first = min((shard for shard, _ in found), key=lambda x: x.told['shard'])
  whole = Part([], {}, 0)
  for shard, lines in found:
    whole.too_long += shard.too_long
    whole.lines += zip(shard.numbers, lines, strict=True)
    whole.cards |= {int(number): x for number, x in shard.cards.items()}
  whole.lines.sort()
  with files.new_directory(out) as target:
    write_explanation(target, first.facts, first.left_out, whole)


def _read(folder: Path) -> tuple[Shard, list[str]]:
  path = folder / SHARD
  try:
    shard = Shard(**json.loads(path.read_text('utf-8')))
    lines = (folder / RECORDS).read_text('utf-8').split('\n')[:-1]
    if len(lines) != len(shard.numbers):
      raise ValueError(f'{len(lines)} lines for {len(shard.numbers)} records')
  except (OSError, ValueError, TypeError) as error:
    raise UserError(
      f'{path}: not a shard of `mmicl explain` ({error}): make it again'
    ) from error
  return shard, lines

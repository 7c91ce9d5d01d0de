"""Records with their pictures inside, as ArrayRecord shards."""

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmicl_jax.errors import UserError

PER_SHARD = 10_000


def shard_writer() -> Any:
  """array_record's writer. Raises UserError if it is not installed."""
  try:
    from array_record.python.array_record_module import ArrayRecordWriter
  except ImportError as error:
    raise UserError(
      '--format array_record needs a package that is not installed: pip '
      'install array_record'
    ) from error
  return ArrayRecordWriter


def write_shards(
  folder: Path, split: str, records: Iterable[dict[str, Any]]
) -> list[Path]:
  """Writes contiguous shards, one for each PER_SHARD records begun."""
  made, stream = [], iter(records)
  while (first := next(stream, None)) is not None or not made:
    path = folder / f'{split}-{len(made):05d}'
    writer = shard_writer()(str(path), 'group_size:1')
    rest = itertools.islice(stream, PER_SHARD - 1)
    for record in itertools.chain(() if first is None else (first,), rest):
      writer.write(json.dumps(record, ensure_ascii=False).encode())
    writer.close()
    made.append(path)
  return [
    path.rename(path.with_name(f'{path.name}-of-{len(made):05d}.array_record'))
    for path in made
  ]

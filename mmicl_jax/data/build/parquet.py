"""Rows of Parquet files, which some makers publish their sets as."""

import io
from collections.abc import Iterator
from typing import Any

from mmicl_jax.data.build.tree import Tree
from mmicl_jax.errors import UserError


def parquet_rows(tree: Tree, path: str) -> Iterator[tuple[str, Any]]:
  """The rows of a file, and where each stands ('a.parquet[3]').

  Raises UserError for a file that is no Parquet, and without pyarrow.
  """
  try:
    from pyarrow import ArrowException, parquet
  except ImportError as error:
    raise UserError(
      f'{path} needs a package that is not installed: pip install pyarrow'
    ) from error
  try:
    table = parquet.ParquetFile(io.BytesIO(tree.annotation(path)))
    number = 0
    for batch in table.iter_batches(batch_size=64):
      for row in batch.to_pylist():
        yield f'{path}[{number}]', row
        number += 1
  except (ArrowException, OSError) as error:
    raise tree.layout(path, str(error).splitlines()[0]) from error

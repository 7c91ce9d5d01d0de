"""One run on several hosts: how they find and agree with each other."""

import atexit
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from mmicl_jax.errors import UserError


def join_hosts(
  multihost: bool,
  address: str | None = None,
  count: int | None = None,
  index: int | None = None,
) -> None:
  """Joins the other processes of a run, if there are any.

  multihost: the machines' manager tells the address (HOST:PORT of process 0),
  the count and the index of the processes; else all three are given, or none
  where this process is alone. Must come before JAX is used. Raises UserError
  for flags that do not fit each other, and if the others are not found.
  """
  given = (address, count, index)
  if given == (None, None, None) and not multihost:
    return
  if None in given and given != (None, None, None):
    raise UserError(
      '--coordinator_address, --process_count and --process_index belong '
      'together: give all three, or --multihost alone'
    )
  if count is not None and index is not None and not 0 <= index < count:
    raise UserError(
      f'--process_index {index} is not below --process_count {count}: number '
      'the processes from 0'
    )
  try:
    jax.distributed.initialize(address, count, index)
  except (RuntimeError, ValueError) as error:
    raise UserError(
      f'the other processes were not found ({str(error).splitlines()[0]}): '
      'give --coordinator_address, --process_count and --process_index'
    ) from error


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
  """An error of one process ends all of them, instead of letting them wait.

  At its exit JAX waits minutes for the others, which wait for this process in
  a collective. When it is gone, theirs fails.
  """
  try:
    yield
  except Exception as error:
    if jax.process_count() > 1:
      expected = isinstance(error, UserError | OSError)
      atexit.register(_leave, 2 if expected else 1)
    raise


def _leave(status: int) -> None:
  """Exits before what was registered earlier, JAX's farewell, can run."""
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(status)


def all_agree(yes: bool) -> bool:
  """Whether all processes say yes."""
  return all(map(all, gather([int(yes)])))


def gather(numbers: Sequence[int]) -> list[list[int]]:
  """The numbers of each process; as many as each has."""
  if jax.process_count() == 1:
    return [list(numbers)]
  sizes = multihost_utils.process_allgather(np.int32(len(numbers)))
  padded = np.zeros(int(sizes.max()), np.int32)
  padded[: len(numbers)] = numbers
  rows = multihost_utils.process_allgather(padded)
  return [
    [int(x) for x in row[:size]] for row, size in zip(rows, sizes, strict=True)
  ]


def wait_for_all(name: str) -> None:
  """Returns when all processes are here."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def batch_share(mesh: Mesh | None) -> tuple[int, int]:
  """Which part of how many equal ones of a batch this process reads.

  Processes whose devices hold the same rows, because a `tensor` axis spans
  them, read the same part. None: a part for each process.
  """
  if mesh is None:
    return jax.process_index(), jax.process_count()
  owners = [[d.process_index for d in row] for row in _rows(mesh)]
  return share(owners, jax.process_index())


def share(owners: Sequence[Sequence[int]], process: int) -> tuple[int, int]:
  """See batch_share; owners: the processes of the devices of each shard.

  Raises UserError if two processes have some, but not all shards in common.
  """
  shards: dict[int, list[int]] = {}
  for i, row in enumerate(owners):
    for owner in set(row):
      shards.setdefault(owner, []).append(i)
  parts = sorted({tuple(part) for part in shards.values()})
  if sum(map(len, parts)) != len(owners) or len(set(map(len, parts))) != 1:
    raise UserError(
      'the mesh gives some hosts parts of the same rows: choose sizes of '
      'data x fsdp and tensor of which one divides the devices of a host'
    )
  return parts.index(tuple(shards[process])), len(parts)


def _rows(mesh: Mesh) -> np.ndarray:
  """Devices by shard of the batch (data x fsdp) and the rest."""
  rows = mesh.shape['data'] * mesh.shape['fsdp']
  return mesh.devices.reshape(rows, -1)

"""One run on several hosts: they find each other, agree, and end together."""

import atexit
import contextlib
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from orbax.checkpoint import multihost

from mmicl_jax.errors import UserError


def join_hosts(
  multihost: bool,
  address: str | None = None,
  count: int | None = None,
  index: int | None = None,
) -> None:
  """Joins the other processes of a run, if there are any.

  multihost: JAX asks the cluster's scheduler for the address (HOST:PORT of
  process 0), the number of processes and this one's index. Otherwise give all
  three, or none if this process is alone. Call it before JAX is used. Raises
  UserError for flags that contradict each other, and if the other processes are
  not found.
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
  """Makes an error in one process end all of them.

  At its exit JAX would wait minutes for the other processes, which wait in a
  collective for this one. Once this process is gone, their collective fails.
  """
  try:
    yield
  except Exception as error:
    if jax.process_count() > 1:
      expected = isinstance(error, UserError | OSError)
      atexit.register(_leave, 2 if expected else 1)
    raise


def _leave(status: int) -> None:
  """Exits before JAX's own exit handler, registered earlier, can wait."""
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(status)


def all_agree(yes: bool) -> bool:
  """Whether all processes say yes."""
  return all(map(all, gather([int(yes)])))


def all_agree_meanwhile(yes: bool) -> bool:
  """Whether all processes say yes, while the devices go on computing.

  `all_agree` would wait for what the devices have to do before. This asks the
  service by which the processes found each other: about a millisecond.
  """
  if jax.process_count() == 1:
    return yes
  client: Any = multihost.get_jax_distributed_client()
  place = f'mmicl_jax/no/{next(_asked)}/'
  if not yes:
    client.key_value_set(f'{place}{jax.process_index()}', 'no')
  client.wait_at_barrier('mmicl_jax/all_agree', _A_DAY)
  return not client.key_value_dir_get(place)


_asked = itertools.count()
_A_DAY = 24 * 3600 * 1000  # milliseconds; a process that ends is noticed sooner


class AllFailed(Exception):  # noqa: N818
  """An error in some process, which all processes raise at the same place.

  error: this process's own, or a UserError if only others failed.
  """

  def __init__(self, error: Exception):
    super().__init__(str(error))
    self.error = error


@contextlib.contextmanager
def failing_together(
  agree: Callable[[bool], bool] = all_agree,
) -> Iterator[None]:
  """Raises AllFailed in all processes if one of them has an error in the block.

  The block must not hold what all processes compute together, since those
  without an error would wait there for the others. agree: `all_agree`, or
  `all_agree_meanwhile`.
  """
  own = None
  try:
    yield
  except Exception as error:
    own = error
  if not agree(own is None):
    raise AllFailed(
      own or UserError('another process failed: see what it says')
    ) from own


def gather(numbers: Sequence[int]) -> list[list[int]]:
  """The numbers of all processes; each may have another count of them."""
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
  """Returns when all processes have called it."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def batch_share(mesh: Mesh | None) -> tuple[int, int]:
  """Returns (which part of a batch this process reads, number of equal parts).

  Processes whose devices hold the same rows, because a `tensor` axis spans
  them, read the same part. mesh: None gives each process its own part. Raises
  UserError as `share` does.
  """
  if mesh is None:
    return jax.process_index(), jax.process_count()
  owners = [[d.process_index for d in row] for row in _rows(mesh)]
  return share(owners, jax.process_index())


def share(owners: Sequence[Sequence[int]], process: int) -> tuple[int, int]:
  """`batch_share` for the processes that hold each shard of a batch.

  owners: owners[i] are the processes of the devices that hold shard i. Raises
  UserError if two processes have some shards in common, but not all.
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

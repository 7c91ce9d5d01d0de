"""Puts a window of examples into batches of few shapes, by their lengths.

It is a pure function of the lengths, so every process comes to the same batches
without asking the others. Each example goes to the smallest bucket that holds
it. A bucket's examples become rows: one example each, or several if rows are
packed. Rows become batches once there are enough of them; the rest waits for
the next window.
"""

import dataclasses
import heapq
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from mmicl_jax.errors import UserError

# A window holds the examples of so many batches without packing. Packing fills
# rows the better, the more examples it can choose from.
WINDOW, PACKED_WINDOW = 8, 32


class RowSize(NamedTuple):
  """An example's place in the stream and what it takes, in tokens and images.

  All three are 0 for a record that cannot be read.
  """

  position: int
  inputs: int
  targets: int
  images: int


class LengthBucket(NamedTuple):
  """A shape: the lengths of rows, and how many images a group of rows has."""

  inputs_length: int
  targets_length: int
  slots: int


@dataclasses.dataclass(frozen=True)
class Grouping:
  """How examples become batches.

  rows: of a batch of all processes. groups: a batch consists of so many equal
  groups of consecutive rows, each with image slots of its own, so that a device
  never needs another's images. buckets: from small to large; the last holds
  every example. pack: whether a row may hold several examples. window: how many
  examples are looked at together.
  """

  rows: int
  groups: int
  buckets: tuple[LengthBucket, ...]
  pack: bool
  window: int

  def bucket_of(self, size: RowSize) -> LengthBucket:
    """The smallest bucket that holds an example."""
    return next(b for b in self.buckets if _holds(b, size))

  def describe(self) -> str:
    """The shapes in words, which a run prints when it begins."""
    shapes = ', '.join(
      f'{self.rows} x ({b.inputs_length} + {b.targets_length}) tokens with '
      f'{b.slots * self.groups} images'
      for b in self.buckets
    )
    rows = 'rows of several examples' if self.pack else 'rows of one example'
    return (
      f'{rows}; shapes of batches to compile: at most {len(self.buckets)} '
      f'({shapes})'
    )


class GroupedBatch(NamedTuple):
  """A batch: its bucket, and the positions of each row's examples.

  Rows of a group come one after the other; a row may be empty.
  """

  bucket: LengthBucket
  rows: tuple[tuple[int, ...], ...]


def make_grouping(
  buckets: Sequence[Any] | None,
  pack: bool,
  *,
  lengths: tuple[int, int],
  max_images: int,
  num_queries: int,
  rows: int,
  groups: int,
) -> Grouping | None:
  """Reads the settings BUCKETS and PACK; None if neither asks for anything.

  buckets: each (prompt's length, answer's length), or with a third number: how
  many images its batches have for each row, on average. Without it, as many as
  a row can have. lengths: INPUTS_LENGTH and TARGETS_LENGTH. groups:
  see Grouping. Raises UserError for buckets that cannot hold every example.
  """
  if buckets is None and not pack:
    return None
  if rows % groups:
    raise UserError(
      f'BATCH_SIZE {rows} does not divide into {groups} groups, one for each '
      'shard and microbatch: use a multiple'
    )
  found = {
    _bucket(each, max_images, num_queries, rows // groups, pack)
    for each in ((lengths,) if buckets is None else buckets)
  }
  grouping = Grouping(
    rows,
    groups,
    tuple(sorted(found)),
    pack,
    rows * (PACKED_WINDOW if pack else WINDOW),
  )
  most = min(max_images, (lengths[0] - 1) // num_queries)
  longest = RowSize(0, *lengths, most)
  if not found or not _holds(grouping.buckets[-1], longest):
    raise UserError(
      f'BUCKETS: the last one must hold the longest example: give ({lengths[0]}'
      f', {lengths[1]}) to it, with at least {most} image slots in each of the '
      f'{groups} groups of {rows // groups} rows ({most / (rows // groups):g} '
      'images a row)'
    )
  return grouping


def _bucket(
  given: Any, max_images: int, num_queries: int, rows: int, pack: bool
) -> LengthBucket:
  """A bucket of BUCKETS for groups of so many rows."""
  if not (
    isinstance(given, list | tuple)
    and len(given) in (2, 3)
    and all(isinstance(x, int) and x > 0 for x in given[:2])
    and all(isinstance(x, int | float) and 0 <= x < 1e6 for x in given[2:])
  ):
    raise UserError(
      f'BUCKETS has {given!r}: each bucket is (prompt length, answer length) '
      'or (prompt length, answer length, images a row), as in (512, 64, 4.5)'
    )
  inputs, targets = int(given[0]), int(given[1])
  if not max_images:
    return LengthBucket(inputs, targets, 0)
  images = (inputs - 1) // num_queries
  if len(given) == 3:
    images = given[2]
  elif not pack:
    images = min(images, max_images)
  return LengthBucket(inputs, targets, math.ceil(images * rows))


def _holds(bucket: LengthBucket, size: RowSize) -> bool:
  return (
    size.inputs <= bucket.inputs_length
    and size.targets <= bucket.targets_length
    and size.images <= bucket.slots
  )


def group_window(
  carried: Sequence[RowSize],
  new: Iterable[RowSize],
  grouping: Grouping,
  last: bool = False,
) -> tuple[list[GroupedBatch], list[int]]:
  """Returns (the batches of a window, positions carried to the next).

  carried: examples that the window before left over; they go first. last: no
  window follows, so nothing is carried, and batches may have empty rows.
  """
  members: dict[LengthBucket, list[tuple[bool, RowSize]]] = {
    bucket: [] for bucket in grouping.buckets
  }
  for old, sizes in ((True, carried), (False, new)):
    for size in sizes:
      members[grouping.bucket_of(size)].append((old, size))
  planned: list[GroupedBatch] = []
  rest: list[int] = []
  for bucket, own in members.items():
    rows = _packed(own, bucket) if grouping.pack else [_Row(*m) for m in own]
    batches, rows = _dealt(rows, bucket, grouping)
    while last and rows:
      more, rows = _dealt(rows, bucket, grouping, at_least=1)
      batches += more
    planned += [GroupedBatch(bucket, batch) for batch in batches]
    rest += [position for row in rows for position in row.positions]
  return planned, sorted(rest)


class _Row:
  """Examples that share a row; `old` if one of them has waited."""

  def __init__(self, old: bool, size: RowSize):
    self.old, self.positions = old, [size.position]
    self.inputs, self.images = size.inputs, size.images

  def add(self, old: bool, size: RowSize) -> None:
    """Adds an example."""
    self.old |= old
    self.positions.append(size.position)
    self.inputs += size.inputs
    self.images += size.images


def _packed(
  members: Sequence[tuple[bool, RowSize]], bucket: LengthBucket
) -> list[_Row]:
  """Packs examples into rows: longest first, each where the least room is left.

  Rows with an example that has waited come first, so that none waits for ever,
  then the fullest.
  """
  order = sorted(members, key=lambda member: -member[1].inputs)
  rows: list[_Row] = []
  free = np.zeros((len(order), 3), np.int64)
  for old, size in order:
    needed = np.array(size[1:])
    fits = np.flatnonzero((free[: len(rows)] >= needed).all(axis=1))
    if len(fits):
      i = int(fits[np.argmin(free[fits, 0])])
      rows[i].add(old, size)
    else:
      i = len(rows)
      rows.append(_Row(old, size))
      free[i] = bucket
    free[i] -= needed
  return sorted(rows, key=lambda row: (not row.old, -row.inputs))


def _dealt(
  rows: Sequence[_Row],
  bucket: LengthBucket,
  grouping: Grouping,
  at_least: int = 0,
) -> tuple[list[tuple[tuple[int, ...], ...]], list[_Row]]:
  """Deals rows to full batches; returns (batches, the rows left over).

  A batch is full if it has all its rows, or if no image slot is free. Each
  group gets about as many images as any other: rows with many images are dealt
  first, each to the group with the fewest.
  """
  slots = bucket.slots * grouping.groups
  images = sum(row.images for row in rows)
  count = max(
    len(rows) // grouping.rows, images // slots if slots else 0, at_least
  )
  chosen, left, room, free = [], [], count * grouping.rows, count * slots
  for row in rows:
    if room and row.images <= free:
      chosen.append(row)
      room, free = room - 1, free - row.images
    else:
      left.append(row)
  per_group = grouping.rows // grouping.groups
  groups: list[list[_Row]] = [[] for _ in range(count * grouping.groups)]
  fewest = [(0, i) for i in range(len(groups))]
  for row in sorted(chosen, key=lambda row: -row.images):
    if not fewest or fewest[0][0] + row.images > bucket.slots:
      left.append(row)
      continue
    held, i = heapq.heappop(fewest)
    groups[i].append(row)
    if len(groups[i]) < per_group:
      heapq.heappush(fewest, (held + row.images, i))
  filled = [
    [tuple(row.positions) for row in group] + [()] * (per_group - len(group))
    for group in groups
  ]
  batches = [
    tuple(row for group in filled[i : i + grouping.groups] for row in group)
    for i in range(0, len(filled), grouping.groups)
  ]
  return batches, left

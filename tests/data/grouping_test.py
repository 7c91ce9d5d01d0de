"""A window's batches: each example once, in a shape that holds it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmicl_jax.data.grouping import (
  Grouping,
  RowSize,
  group_window,
  make_grouping,
)
from mmicl_jax.data.plans import Plans, StreamPlace
from mmicl_jax.errors import UserError

LENGTHS = {'lengths': (32, 8), 'max_images': 4, 'num_queries': 4}
BUCKETS = ((8, 4, 0.5), (16, 8, 1.5), (32, 8, 2.5))


def grouping(pack=False, buckets=BUCKETS, rows=4, groups=2, **changes):
  found = make_grouping(
    buckets, pack, rows=rows, groups=groups, **LENGTHS | changes
  )
  assert isinstance(found, Grouping)
  return found


def sized(lengths):
  """Examples of any lengths; the images of each need their tokens."""
  return [
    RowSize(i, inputs, targets, min(images, inputs // 4))
    for i, (inputs, targets, images) in enumerate(lengths)
  ]


@settings(max_examples=60, deadline=None)
@given(
  st.lists(
    st.tuples(st.integers(0, 32), st.integers(0, 8), st.integers(0, 4)),
    max_size=60,
  ),
  st.booleans(),
  st.booleans(),
  st.integers(0, 20),
)
def test_each_example_is_used_once_where_it_fits(lengths, pack, last, old):
  how, sizes = grouping(pack), sized(lengths)
  batches, rest = group_window(sizes[:old], sizes[old:], how, last)
  used = [p for batch in batches for row in batch.rows for p in row]
  assert sorted([*used, *rest]) == list(range(len(sizes)))
  assert not (last and rest)
  for bucket, rows in batches:
    assert len(rows) == 4 and bucket in how.buckets
    for row in rows:
      assert pack or len(row) <= 1
      assert sum(sizes[p].inputs for p in row) <= bucket.inputs_length
      assert sum(sizes[p].targets for p in row) <= bucket.targets_length
    for group in (rows[:2], rows[2:]):
      images = sum(sizes[p].images for row in group for p in row)
      assert images <= bucket.slots


def test_an_example_goes_to_the_smallest_bucket_that_holds_it():
  how = grouping()
  assert [b.slots for b in how.buckets] == [1, 3, 5]
  for size, length in (
    ((8, 4, 1), 8),
    ((8, 5, 1), 16),  # its answer is longer
    ((8, 4, 2), 16),  # it has more images
    ((17, 1, 0), 32),
    ((0, 0, 0), 8),
  ):
    assert how.bucket_of(RowSize(0, *size)).inputs_length == length


def test_full_batches_leave_and_the_rest_goes_first_next_time():
  how = grouping(buckets=((32, 8, 2.5),))
  sizes = sized([(9, 2, 0)] * 11)
  batches, rest = group_window([], sizes, how)
  assert len(batches) == 2 and rest == [8, 9, 10]
  more = [RowSize(i, 9, 2, 0) for i in range(11, 16)]
  (first, second), rest = group_window([sizes[i] for i in rest], more, how)
  assert {p for row in first.rows for p in row} >= {8, 9, 10}
  assert second and not rest


def test_packing_fills_rows_and_lets_nothing_wait_for_ever():
  how = grouping(True, buckets=((32, 8, 4),))
  halves, long = [RowSize(i, 15, 1, 0) for i in range(8)], RowSize(8, 31, 1, 0)
  (batch,), rest = group_window([], [*halves, long], how)
  assert [len(row) for row in batch.rows].count(2) == 3 and long.position in (
    row[0] for row in batch.rows
  )
  assert len(rest) == 2
  # The emptiest rows wait, but not twice.
  full = [RowSize(i, 31, 1, 0) for i in range(4)]
  alone = RowSize(100, 17, 1, 0)
  assert group_window([], [*full, alone], how)[1] == [100]
  (batch,), _ = group_window([alone], full, how)
  assert (100,) in batch.rows
  # Nor does one that shares its row with a longer one.
  short, longer = RowSize(100, 2, 1, 0), RowSize(50, 20, 1, 0)
  (batch,), _ = group_window([short], [*full, longer], how)
  assert (50, 100) in batch.rows


def test_each_group_gets_its_share_of_the_images():
  how = grouping(buckets=((32, 8, 2),))
  sizes = [RowSize(i, 20, 1, n) for i, n in enumerate((0, 0, 4, 4))]
  ((_, rows),), rest = group_window([], sizes, how)
  assert not rest and all(
    {2, 3} & {p for row in g for p in row} for g in (rows[:2], rows[2:])
  )


def test_batches_short_of_rows_leave_when_their_images_are_full():
  how = grouping(buckets=((32, 8, 2),))
  sizes = [RowSize(i, 20, 1, 4) for i in range(6)]  # two are a batch's images
  batches, rest = group_window([], sizes, how)
  assert len(batches) == 3 and not rest


@pytest.mark.parametrize('pack', [False, True])
@pytest.mark.parametrize('size', [None, 50])
def test_a_stream_goes_on_from_any_place(pack, size):
  how = grouping(pack)

  def size_of(i):
    inputs = 1 + i * 7 % 32
    return RowSize(i, inputs, 1 + i % 5, min(i % 3, inputs // 4))

  def stream(step=0, place=None):
    return Plans(how, size_of, size, 3, step, place)

  def take(plans, start, stop):
    found = [plans(step) for step in range(start, stop)]
    return [x for x in found if x is not None]

  steps = 40
  whole = take(stream(), 0, steps)
  assert (len(whole) == steps) == (size is None)
  for step, (_, place) in enumerate(whole):
    again = StreamPlace.from_json(place.to_json())
    assert take(stream(step + 1, again), step + 1, steps) == whole[step + 1 :]
  assert take(stream(), 5, 9) == whole[5:9]  # a worker skips others' steps
  plans = stream()
  last = len(whole) - 1
  assert plans(last) == whole[last] and plans(1) == whole[1]
  if size is not None:
    used = [p for (_, rows), _ in whole for row in rows for p in row]
    assert sorted(used) == list(range(size))
    assert stream()(len(whole)) is None


def test_the_order_of_batches_is_drawn_by_the_seed():
  def shapes(seed):
    how = grouping(buckets=((16, 8, 2), (32, 8, 2)))
    plans = Plans(how, lambda i: RowSize(i, 10 + i % 20, 1, 0), None, seed)
    return [plans(step)[0].bucket.inputs_length for step in range(16)]

  assert shapes(1) == shapes(1) != shapes(2)
  assert shapes(None)[:7] == sorted(shapes(None)[:7])


@pytest.mark.parametrize(
  ('buckets', 'message'),
  [
    (((16, 8),), r'give \(32, 8\) to it'),
    (((32, 8, 1.5),), 'at least 4 image slots'),
    (((32,),), 'each bucket is'),
    ((32, 8), 'each bucket is'),
    (((32, 8, -1),), 'each bucket is'),
    (((32, 8, float('inf')),), 'each bucket is'),
    ((), 'the last one'),
  ],
)
def test_impossible_buckets(buckets, message):
  with pytest.raises(UserError, match=message):
    grouping(buckets=buckets)


def test_settings_that_ask_for_nothing_and_for_packing_alone():
  assert make_grouping(None, False, rows=4, groups=2, **LENGTHS) is None
  (bucket,) = grouping(True, buckets=None).buckets
  assert bucket == (32, 8, 14)  # 7 images have room in a row
  slots = [b.slots for b in grouping(buckets=((9, 8), (32, 8))).buckets]
  assert slots == [4, 8]  # 2 have room, and no example has more than 4
  assert grouping(max_images=0).buckets[-1].slots == 0
  with pytest.raises(UserError, match='BATCH_SIZE 4 .* 3 groups'):
    grouping(groups=3)
  assert (
    'to compile: at most 3 (4 x (8 + 4) tokens with 2 images'
    in grouping().describe()
  )

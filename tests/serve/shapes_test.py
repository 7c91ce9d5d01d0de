"""The shapes that a server compiles are few, and waste little."""

import pytest

from mmicl_jax.errors import UserError
from mmicl_jax.serve import prefills
from mmicl_jax.serve.shapes import PoolShape, pool_shapes, shape_for


@pytest.mark.parametrize('longest', [16, 60, 64, 100, 256, 512, 1000, 5000])
def test_programs_are_few_whatever_the_longest_prompt(longest):
  shapes = pool_shapes(longest)
  count = sum(shape.programs for shape in shapes) + len(prefills.AT_ONCE)
  assert count <= 24
  lengths = [shape.length for shape in shapes]
  assert lengths == sorted({*lengths}) and lengths[-1] >= longest
  assert shape_for(shapes, longest) == shapes[-1]
  with pytest.raises(UserError, match='the server takes'):
    shape_for(shapes, lengths[-1] + 1)


def test_a_step_has_room_for_its_rows():
  shape = PoolShape(64, 32, 8, (1, 8, 32))
  assert [shape.step(rows) for rows in (1, 2, 8, 9, 32)] == [1, 8, 8, 32, 32]
  assert PoolShape(64, 4).steps == (1, 4) and PoolShape(64, 1).steps == (1,)
  with pytest.raises(UserError, match='there are 4 slots'):
    PoolShape(64, 4, 1, (1, 2))


def test_half_of_a_program_may_be_empty_but_not_more():
  shape = PoolShape(64, 8, 4)
  for count, sizes in ((1, [1]), (2, [2]), (5, [4, 1]), (6, [4, 2]), (0, [])):
    parts = list(shape.parts(range(count)))
    assert [len(part) for part in parts] == sizes
    assert [i for part in parts for i in part] == list(range(count))

"""JSON that is read strictly: equal keys are found without a long search."""

import pytest

from mmicl_jax import strict_json
from mmicl_jax.errors import UserError


class Name(str):
  """Counts how often it is compared."""

  compared = 0

  def __eq__(self, other):
    Name.compared += 1
    return str.__eq__(self, other)

  __hash__ = str.__hash__


def test_an_equal_key_is_named_after_one_look_at_each():
  pairs = [(Name(i), i) for i in range(2000)]
  with pytest.raises(UserError, match='"1999" stands twice'):
    strict_json._object([*pairs, (Name(1999), 0)])
  assert Name.compared < 20  # a hash can be that of another name


def test_keys_of_other_objects_may_be_equal():
  assert strict_json.parse_strictly(b'{"a": {"a": 1}}') == {'a': {'a': 1}}

"""Stop strings: the table does what searching in the text does."""

import random

import pytest

from mmicl_jax.decoding.stops import stop_table

TOKENS = ['', 'a', 'b', 'ab', ' a', 'bb', 'aab', 'c', '\n', 'ba\n']


@pytest.mark.parametrize(
  'stops', [['ab'], ['aa', 'ba b'], ['\n'], ['bab', 'abb', 'cc'], ['aab']]
)
def test_as_searching_the_text(stops):
  table = stop_table(TOKENS, stops, len(TOKENS) + 2)
  assert not table[:, len(TOKENS) :].any()
  rng = random.Random(0)
  stopped = 0
  for _ in range(300):
    state, text = 0, ''
    for _ in range(8):
      token = rng.randrange(len(TOKENS))
      text += TOKENS[token]
      state = table[state, token]
      assert (state < 0) == any(stop in text for stop in stops), repr(text)
      if state < 0:
        stopped += 1
        break
  assert stopped

"""Stop strings: the table does what searching in the text does."""

import random

import pytest

from mmicl_jax.decoding.stops import stop_table

TOKENS = ['', 'a', 'b', 'ab', ' a', 'bb', 'aab', 'c', '\n', 'ba\n', ' ', ' b']


@pytest.mark.parametrize(
  'stops',
  [
    *(['ab'], ['aa', 'ba b'], ['\n'], ['bab', 'abb', 'cc'], ['aab']),
    *([' '], [' a', 'bb'], ['  '], ['b a', ' b a']),
  ],
)
def test_as_searching_the_text(stops):
  table = stop_table(TOKENS, stops, len(TOKENS) + 2)
  rng = random.Random(0)
  stopped = 0
  for _ in range(300):
    state, text = 0, ''
    for _ in range(8):
      token = rng.randrange(len(TOKENS) + 2)  # the last two have no text
      text += TOKENS[token] if token < len(TOKENS) else ''
      state = table[state, token]
      # An answer is shown without the blank at its start.
      shown = text.removeprefix(' ')
      assert (state < 0) == any(stop in shown for stop in stops), repr(text)
      if state < 0:
        stopped += 1
        break
  assert stopped

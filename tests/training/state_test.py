"""The first values of a run."""

import jax
import numpy as np
import pytest

from mmicl_jax.training.state import root_key


@pytest.mark.parametrize('seed', [0, 7, 2**32 - 1])
def test_seeds_of_32_bits_are_those_of_t5x(seed):
  np.testing.assert_array_equal(root_key(seed), jax.random.PRNGKey(seed))


@pytest.mark.parametrize('seed', [2**32 + 7, 7 - 2**32, 7 + 2**62])
def test_seeds_with_equal_lower_bits_differ(seed):
  assert np.any(root_key(seed) != root_key(7))

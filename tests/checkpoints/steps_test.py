"""Where checkpoints are found."""

from pathlib import Path

import pytest

from mmicl_jax.checkpoints.steps import latest_step, locate
from mmicl_jax.checkpoints.store import load_weights
from mmicl_jax.errors import UserError


def test_the_newest_is_the_largest_number(tmp_path):
  for name in ('checkpoint_9', 'checkpoint_10', 'torn_checkpoint_11'):
    (tmp_path / name).mkdir()
  (tmp_path / 'checkpoint_12.orbax-checkpoint-tmp-1').mkdir()
  assert latest_step(tmp_path) == 10
  assert locate(tmp_path) == (Path(tmp_path), 10)
  assert locate(tmp_path / 'checkpoint_9') == (Path(tmp_path), 9)
  assert latest_step(tmp_path / 'checkpoint_9') is None


def test_no_checkpoint_is_an_error(tmp_path):
  for path in (tmp_path, tmp_path / 'checkpoint_3', tmp_path / 'nowhere'):
    with pytest.raises(UserError, match='there is no'):
      load_weights(path)

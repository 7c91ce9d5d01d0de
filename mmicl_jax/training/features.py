"""Checks that a run may read stored features instead of running its towers."""

import os
from collections.abc import Mapping
from typing import Any

from mmicl_jax.checkpoints.fingerprint import TOWERS, fingerprint
from mmicl_jax.data import feature_store
from mmicl_jax.errors import UserError
from mmicl_jax.models import configs


def check_features(
  directory: str | os.PathLike,
  config: configs.MMICLConfig,
  trainable: Mapping[str, Any],
  params: Mapping[str, Any],
) -> None:
  """Raises UserError if the stored features do not fit a run.

  They do not if the run trains its towers, or if other towers made them.
  directory: of the feature store. trainable, params: the trainable half, and
  all parameters.
  """
  if trained := sorted(set(trainable) & set(TOWERS)):
    raise UserError(
      f'FEATURE_CACHE stands for frozen towers, but this stage trains '
      f'{", ".join(trained)}: unset FEATURE_CACHE'
    )
  index = feature_store.read_index(directory)
  if index['fingerprint'] != fingerprint(config, params):
    raise UserError(
      f'the features in {directory} are those of another model: write them '
      'anew, by mmicl data cache-features with the weights of this run'
    )

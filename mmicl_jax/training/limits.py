"""What a run's numbers must satisfy, under either trainer."""

from collections.abc import Mapping

from jax.sharding import AbstractMesh, Mesh

from mmicl_jax.errors import UserError
from mmicl_jax.training.step import LOSS_MEANS


def check_settings(
  batch_size: int,
  num_microbatches: int,
  mesh: Mesh | AbstractMesh,
  loss_mean: str,
  train_steps: int,
) -> None:
  """Raises UserError for settings that cannot work, before any compilation."""
  if min(batch_size, num_microbatches, train_steps) < 1:
    raise UserError(
      f'BATCH_SIZE ({batch_size}), NUM_MICROBATCHES ({num_microbatches}) and '
      f'TRAIN_STEPS ({train_steps}) must be at least 1'
    )
  if loss_mean not in LOSS_MEANS:
    raise UserError(
      f'LOSS_MEAN is {loss_mean!r}: choose {" or ".join(LOSS_MEANS)}'
    )
  shards = mesh.shape['data'] * mesh.shape['fsdp']
  parts = num_microbatches * shards
  if batch_size % parts:
    raise UserError(
      f'BATCH_SIZE {batch_size} does not divide into {num_microbatches} '
      f'microbatches over {shards} shards (data x fsdp): use a multiple of '
      f'{parts}'
    )


def check_counts(counts: Mapping[str, int | None]) -> None:
  """Raises UserError for a number below 1; None is for what is not wanted."""
  for name, count in counts.items():
    if count is not None and count < 1:
      raise UserError(f'{name} is {count}: give at least 1')

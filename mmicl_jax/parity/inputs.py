"""The batch that the parity report runs: random, or read from a file."""

import os
from collections.abc import Sequence

import numpy as np

from mmicl_jax.errors import UserError
from mmicl_jax.models.configs import MMICLConfig
from mmicl_jax.runtime.mirror import local_file
from mmicl_jax.types import EOS, PAD, START

NEEDED = (
  'encoder_input_tokens',
  'decoder_input_tokens',
  'decoder_target_tokens',
  'decoder_loss_weights',
)
OPTIONAL = ('encoder_images', 'qformer_input_tokens')


def random_inputs(
  config: MMICLConfig,
  counts: Sequence[int] = (2, 0, 3),
  *,
  words: int = 0,
  targets: int = 20,  # beyond the distances that T5's buckets give exactly
  seed: int = 0,
) -> dict[str, np.ndarray]:
  """A random Batch of len(counts) rows with counts[b] images in row b.

  words: how many of them the Q-Former reads. targets: tokens of each answer.
  Tokens are int32; images are float32, normalised, [B, N, H, W, 3].
  """
  rng = np.random.default_rng(seed)
  top = min(config.image_token, config.t5.vocab_size)
  rows, side = len(counts), config.vit.image_size

  def text(number: int) -> list[int]:
    return rng.integers(2, top, number).tolist()

  prompts = []
  for b, count in enumerate(counts):
    ids: list[int] = []
    for _ in range(count):
      ids += text(2) + [config.image_token] * config.qformer.num_queries
    prompts.append([*ids, *text(3 + b), EOS])
  length = max(map(len, prompts))
  tokens = [ids + [PAD] * (length - len(ids)) for ids in prompts]
  outputs = rng.integers(2, top, (rows, targets))
  weights = np.ones((rows, targets), np.int32)
  weights[0, targets // 2 :] = 0
  outputs[weights == 0] = PAD
  inputs = np.roll(outputs, 1, axis=1)
  inputs[:, 0] = START
  batch = {
    'encoder_input_tokens': np.array(tokens, np.int32),
    'decoder_input_tokens': inputs.astype(np.int32),
    'decoder_target_tokens': outputs.astype(np.int32),
    'decoder_loss_weights': weights,
  }
  if most := max(counts):
    shape = (rows, most, side, side, 3)
    images = rng.standard_normal(shape).astype(np.float32)
    for b, count in enumerate(counts):
      images[b, count:] = 0
    batch['encoder_images'] = images
  if words and config.qformer.instruction:
    text_ids = rng.integers(1, config.qformer.vocab_size, (rows, words))
    text_ids[-1, words // 2 :] = PAD
    batch['qformer_input_tokens'] = text_ids.astype(np.int32)
  return batch


def read_inputs(
  path: str | os.PathLike, config: MMICLConfig
) -> tuple[dict[str, np.ndarray], list[int]]:
  """Reads a Batch from an .npz file; returns (batch, images in each row).

  Images are normalised floats. Raises UserError if the file cannot be read or
  lacks an array, or if its image tokens and images do not match.
  """
  try:
    with np.load(local_file(path), allow_pickle=False) as file:
      batch = {name: file[name] for name in file.files}
  except (OSError, ValueError) as error:
    raise UserError(
      f'{path} cannot be read as .npz ({error}): write it with numpy.savez'
    ) from error
  absent = [name for name in NEEDED if name not in batch]
  unknown = [name for name in batch if name not in NEEDED + OPTIONAL]
  if absent or unknown:
    raise UserError(
      f'{path} lacks {absent} and has the unknown {unknown}: it holds the '
      f'arrays {", ".join(NEEDED)} and, where used, {", ".join(OPTIONAL)}'
    )
  tokens = batch['encoder_input_tokens']
  slots = (tokens == config.image_token).sum(1)
  counts = [int(n) for n in slots // config.qformer.num_queries]
  if any(slots % config.qformer.num_queries):
    raise UserError(
      f'{path}: a row has {slots.tolist()} image tokens, which is no multiple '
      f'of {config.qformer.num_queries}'
    )
  images = batch.get('encoder_images')
  if max(counts) > (0 if images is None else images.shape[1]):
    raise UserError(f'{path}: encoder_images holds fewer images than asked for')
  if images is not None and not np.issubdtype(images.dtype, np.floating):
    raise UserError(
      f'{path}: encoder_images is {images.dtype}; give normalised floats'
    )
  return batch, counts

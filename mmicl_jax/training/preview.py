"""Shows the first prompts of a run, so that a person can check them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mmicl_jax.context.text import collapse
from mmicl_jax.data.images import to_png
from mmicl_jax.tokenizer import Tokenizer
from mmicl_jax.types import without_padding

GAP = 4  # white pixels between two images


def sample_prompts(
  batch: Mapping[str, Any], tokenizer: Tokenizer, count: int = 4
) -> list[tuple[str, bytes | None]]:
  """The first `count` rows of a batch, each as (text, PNG bytes).

  The text is the prompt and the answer, decoded from their ids, so that a wrong
  vocabulary is noticed at once. The PNG shows the images side by side; it is
  None for a prompt without images.
  """
  found = []
  for i in range(min(count, len(batch['encoder_input_tokens']))):
    prompt, answer = (
      tokenizer.decode(without_padding(ids), skip_special_tokens=False)
      for ids in (
        batch['encoder_input_tokens'][i],
        batch['decoder_target_tokens'][i],
      )
    )
    images = [x for x in _images(batch, i) if x.any()]
    text = f'{collapse(prompt)}\n\n**{answer}**'
    found.append((text, _png(images) if images else None))
  return found


def _images(batch: Mapping[str, Any], row: int) -> np.ndarray | list[Any]:
  """A row's images and padding; none if the batch has stored features."""
  if 'encoder_images' not in batch:
    return []
  images = np.asarray(batch['encoder_images'])
  if 'encoder_image_starts' not in batch:
    return images[row]
  starts = batch['encoder_image_starts']
  rows = len(starts) // len(images)
  group, place = divmod(row, rows)
  stop = starts[row + 1] if place + 1 < rows else None
  return images[group, starts[row] : stop]


def _png(images: list[np.ndarray]) -> bytes:
  gap = np.full((images[0].shape[0], GAP, 3), 255, np.uint8)
  row = [part for image in images for part in (image, gap)][:-1]
  return to_png(np.concatenate(row, axis=1))

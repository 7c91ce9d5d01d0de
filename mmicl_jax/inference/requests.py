"""Prompts as the engine takes them, and the few shapes they are sorted into."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, UInt32

from mmicl_jax.runtime.lru import digest
from mmicl_jax.types import PAD


@dataclasses.dataclass(frozen=True, eq=False)
class Request:
  """One prompt without padding; images: u8[H, W, 3] each, or normalised."""

  tokens: Int[np.ndarray, 'T']
  images: tuple[np.ndarray, ...] = ()
  instruction: Int[np.ndarray, 'S'] | None = None

  @functools.cached_property
  def image_keys(self) -> tuple[bytes, ...]:
    return tuple(digest(image, self.instruction) for image in self.images)

  @functools.cached_property
  def key(self) -> bytes:
    return digest(self.tokens, self.instruction) + b''.join(self.image_keys)

  @property
  def row(self) -> int:
    """A number made of the content, from which its samples are drawn."""
    return int.from_bytes(digest(np.frombuffer(self.key, np.uint8))[:4], 'big')


def requests_of(
  batch: Any, num_queries: int, image_token: int
) -> list[Request]:
  """A padded Batch as prompts: images that no place asks for are left out."""
  tokens = np.asarray(batch['encoder_input_tokens'])
  images = batch.get('encoder_images')
  instruction = batch.get('qformer_input_tokens')
  prompts = []
  for i, row in enumerate(tokens):
    length = np.flatnonzero(row != PAD)
    row = row[: length[-1] + 1] if len(length) else row[:0]
    count = -(-int((row == image_token).sum()) // num_queries)
    own = () if images is None else tuple(np.asarray(images[i])[:count])
    words = None if instruction is None else np.asarray(instruction[i])
    prompts.append(Request(row.astype(np.int32), own, words))
  return prompts


def row_numbers(prompts: Sequence[Request]) -> UInt32[np.ndarray, 'B']:
  """One number a prompt: of its content and how often it came before."""
  seen: dict[bytes, int] = {}
  rows = np.zeros(len(prompts), np.uint32)
  for i, prompt in enumerate(prompts):
    before = seen.get(prompt.key, 0)
    seen[prompt.key] = before + 1
    # An odd factor spreads repetitions over all 32 bits.
    rows[i] = (prompt.row + before * 2654435761) % 2**32
  return rows


def bucket(size: int, least: int) -> int:
  """The next of least x 1, 2, 3, 4, 6, 8, 12, 16, ...: few shapes."""
  step = least
  while step < size:
    if step % 2 == 0 and step * 3 // 2 >= size and step >= 2 * least:
      return step * 3 // 2
    step *= 2
  return step


def chunks(items: list[Any], largest: int = 8) -> Iterator[list[Any]]:
  """Pieces of 8, 4, 2, 1: bounded shapes, and no image is encoded in vain."""
  while items:
    size = min(largest, 1 << (len(items).bit_length() - 1))
    yield items[:size]
    items = items[size:]

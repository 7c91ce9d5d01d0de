"""Where the tokens of an answer look: in the prompt, and in its images.

The weights of the decoder's cross-attention are means over layers, heads and
the answer's tokens. Those of the Q-Former say which patches a visual token was
read from. It is attention, which does not explain an answer by itself.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from mmicl_jax.decoding import loop as decoding
from mmicl_jax.inference.engine import Engine
from mmicl_jax.inference.prompts import Request, bucket, chunks
from mmicl_jax.models.attended import cross_attention, look_at_images
from mmicl_jax.models.layers import ATTENTION
from mmicl_jax.models.mmicl import MMICL
from mmicl_jax.types import PAD


class Attended(NamedTuple):
  """What one answer attends to.

  Either its tokens together or, with an axis in front, each of them. prompt:
  each token's share; they sum to 1. images: each image's share of each patch,
  the class token first; an image's sum is that of its visual tokens.
  """

  prompt: Float[np.ndarray, '*U T']
  images: Float[np.ndarray, '*U N P']


def answer_attention(
  engine: Engine,
  prompts: Sequence[Request],
  answers: Sequence[Sequence[int]],
) -> list[Attended]:
  """What the tokens of each prompt's answer attend to.

  answers: the ids of each, without the end token; at least one.
  """
  patches = read_patches(engine, prompts)

  def run(batch: Sequence[int], read: decoding.Memory) -> Iterator[Attended]:
    length = bucket(max(len(answers[i]) for i in batch), 4)
    targets = np.full((len(read.is_token), length), PAD, np.int32)
    for row, i in zip(targets, batch, strict=False):
      row[: len(answers[i])] = answers[i]
    found = np.asarray(
      token_attention(
        engine.model, engine.params, read, engine.reader.place(targets)
      )
    )
    for row, i in zip(found, batch, strict=False):
      own = row[: len(answers[i]), : len(prompts[i].tokens)].mean(0)
      yield over_patches(engine, prompts[i], own, patches)

  return engine.in_batches(prompts, run)


def read_patches(
  engine: Engine, prompts: Sequence[Request]
) -> dict[bytes, Float[np.ndarray, 'Q P']]:
  """What the queries attend to in each different image, by the image's key."""
  images = {
    key: (image, prompt.instruction)
    for prompt in prompts
    for key, image in zip(prompt.image_keys, prompt.images, strict=True)
  }
  found: dict[bytes, np.ndarray] = {}
  with engine.reader.on_devices():
    for chunk in chunks(list(images)):
      seen = engine.reader.run_towers(_look, [images[key] for key in chunk])
      found |= dict(zip(chunk, seen, strict=True))
  return found


def over_patches(
  engine: Engine,
  prompt: Request,
  shares: Float[np.ndarray, '*U T'],
  patches: dict[bytes, Float[np.ndarray, 'Q P']],
) -> Attended:
  """The shares of a prompt's tokens, those of images over their patches, too.

  patches: as read_patches finds them.
  """
  rows = shares.shape[:-1]
  if not prompt.images:
    empty = np.zeros((*rows, 0, engine.config.vit.num_patches + 1), np.float32)
    return Attended(shares, empty)
  visual = shares[..., prompt.tokens == engine.config.image_token]
  visual = visual.reshape(*rows, len(prompt.images), -1)  # U N Q
  read = np.stack([patches[key] for key in prompt.image_keys])  # N Q P
  return Attended(shares, np.einsum('...nq,nqp->...np', visual, read))


_look = functools.partial(jax.jit, static_argnums=0)(look_at_images)


@functools.partial(jax.jit, static_argnums=0)
def token_attention(
  model: MMICL,
  params: Any,
  prompt: decoding.Memory,
  targets: Int[Array, 'B U'],
) -> Float[Array, 'B U T']:
  """The attention of each token of given answers to the prompt's tokens."""
  _, state = decoding.read_answers(
    model, params, prompt, targets, mutable=[ATTENTION]
  )
  return cross_attention(state)

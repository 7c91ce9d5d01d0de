"""From prompts to keys and values: each image and each prompt is read once.

Images are encoded apart from prompts, a few at a time and each one once for all
jobs. Then prompts of one shape are encoded together. The keys and values of
each stay on the device as long as there is room, for jobs with the same prompt.
"""

import contextlib
import dataclasses
from collections.abc import Iterable, Sequence

import cachetools
import jax
import numpy as np
from jaxtyping import Float

from mmicl_jax.decoding.loop import Memory
from mmicl_jax.inference.prompts import PromptReader, Request
from mmicl_jax.serve.shapes import PoolShape
from mmicl_jax.serve.tickets import Ticket

IMAGES = 8  # that the towers read in a turn, so that tokens need not wait long
AT_ONCE = (4, 2, 1)  # that they are given in one call


@dataclasses.dataclass(eq=False)
class Preparing:
  """A job whose prompt is being read.

  memory: the prompt's keys and values, once it is read. features: of its
  images, as far as they are known.
  """

  ticket: Ticket
  shape: PoolShape
  memory: Memory | None = None
  features: dict[bytes, Float[np.ndarray, 'Q E']] = dataclasses.field(
    default_factory=dict
  )

  @property
  def prompt(self) -> Request:
    return self.ticket.job.prompt

  @property
  def unseen(self) -> list[int]:
    """The places of images whose features are not known."""
    if self.memory is not None:
      return []
    keys = self.prompt.image_keys
    return [i for i, key in enumerate(keys) if key not in self.features]


class Prefills:
  """Reads images and prompts of one model.

  cache_bytes: device memory for prompts that nobody reads at the moment.
  asked, known: how many prompts were needed, and were there; likewise images.
  """

  def __init__(self, reader: PromptReader, cache_bytes: int):
    self._reader = reader
    self._prompts: cachetools.LRUCache[bytes, Memory] = cachetools.LRUCache(
      cache_bytes, _num_bytes
    )
    self.asked = self.known = 0
    self.images_asked = self.images_known = 0

  def find(self, prompt: Request) -> Memory | None:
    """A prompt's keys and values if they are on the device."""
    self.asked += 1
    found = self._prompts.get(prompt.key)
    self.known += found is not None
    return found

  def see(self, jobs: Sequence[Preparing]) -> None:
    """Finds features of these jobs' images; the towers read about IMAGES."""
    before = self._reader.images_seen
    while self._reader.images_seen - before < IMAGES:
      parts, keys = [], set()
      for job in jobs:
        prompt, places = job.prompt, []
        for i in job.unseen:
          if len(keys) < AT_ONCE[0] and prompt.image_keys[i] not in keys:
            keys.add(prompt.image_keys[i])
            places.append(i)
        if places:
          parts.append(_with_images(prompt, places))
      if not parts:
        return
      seen = self._reader.images_seen
      found = self._reader.features(parts)
      self.images_asked += len(keys)
      self.images_known += len(keys) - (self._reader.images_seen - seen)
      for job in jobs:
        for key in found.keys() & set(job.prompt.image_keys):
          job.features[key] = found[key]
    self._reader.save()

  def read(self, jobs: Sequence[Preparing]) -> None:
    """Encodes the prompts of jobs of one shape that have all their features.

    They are a part as the shape cuts them. Waits for the device, so that what
    it has no memory for fails here.
    """
    shape = jobs[0].shape
    different = {job.prompt.key: job for job in jobs}
    features: dict[bytes, np.ndarray] = {}
    for job in jobs:
      features |= job.features
    memories = self.encode(
      [job.prompt for job in different.values()],
      1 if len(different) == 1 else shape.together,
      shape,
      features,
    )
    jax.block_until_ready(memories)
    found = dict(zip(different, memories, strict=False))
    for key, memory in found.items():
      with contextlib.suppress(ValueError):  # larger than the whole cache
        self._prompts[key] = memory
    for job in jobs:
      job.memory = found[job.prompt.key]
      job.features = {}

  def encode(
    self,
    prompts: Sequence[Request],
    rows: int,
    shape: PoolShape,
    features: dict[bytes, Float[np.ndarray, 'Q E']],
  ) -> tuple[Memory, ...]:
    """Encodes prompts, of which there may be fewer than rows, each apart."""
    return self._reader.encode_apart(prompts, rows, shape.length, features)

  def warm_up(self, longest_instruction: int) -> None:
    """Compiles what images need."""
    self._reader.warm_up_images(longest_instruction, AT_ONCE)


def _with_images(prompt: Request, places: Iterable[int]) -> Request:
  """The prompt with some of its images only, to read these."""
  return Request(
    prompt.tokens,
    tuple(prompt.images[i] for i in places),
    prompt.instruction,
    tuple(prompt.image_keys[i] for i in places),
  )


def _num_bytes(memory: Memory) -> int:
  return sum(x.nbytes for x in jax.tree.leaves(memory))

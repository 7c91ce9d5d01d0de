"""Prompts to answers on arrays: few compiled shapes, nothing computed twice.

Prompts of any length and any number of images are sorted into batches of few
shapes. Each different image is encoded once, padding images never; its visual
tokens are kept by content. Results come in the order of the prompts.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int, UInt32

from mmicl_jax import decoding, partitioning
from mmicl_jax.errors import UserError
from mmicl_jax.lru import Lru, digest
from mmicl_jax.models.configs import MMICLConfig, with_execution
from mmicl_jax.models.mmicl import MMICL, abstract_params, splice
from mmicl_jax.models.quantized import Quantized, quantize
from mmicl_jax.models.stacking import unstack_layers
from mmicl_jax.options import Options, Plan
from mmicl_jax.types import PAD

MAX_LOGITS = 1 << 26  # float32 logits held at a time when scoring: 256 MiB


@dataclasses.dataclass(frozen=True, eq=False)
class Prompt:
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


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
  """A prompt's answers, the best first; see decoding.Decoded."""

  tokens: Int[np.ndarray, 'K U']
  scores: Float[np.ndarray, 'K']
  log_probs: Float[np.ndarray, 'K U']
  lengths: Int[np.ndarray, 'K']


class Engine:
  """A model ready to answer.

  params: plain arrays, layers stacked or not. batch_size: prompts a step; the
  results do not depend on it. cache_bytes: for visual tokens, in host memory.
  weights: 'int8' holds kernels in eight bits (models.quantized).
  """

  def __init__(
    self,
    config: MMICLConfig,
    params: Any,
    *,
    mesh: Mesh | None = None,
    batch_size: int = 8,
    cache_bytes: int = 1 << 28,
    weights: str | None = None,
  ):
    # A loop over single layers: no weights are sliced in the steps.
    self.config = with_execution(config, scan_layers=False, remat='none')
    self.model = MMICL(self.config)
    self.params = unstack_layers(params)
    if weights == 'int8':
      self.params = quantize(self.params)
    elif weights is not None:
      raise UserError(f"weights is {weights!r}: give 'int8' or nothing.")
    self.mesh = mesh
    self.batch_size = batch_size
    self.visual_cache = Lru(cache_bytes)
    if mesh is not None:
      placement = partitioning.shardings(abstract_params(self.config), mesh)
      self.params = jax.device_put(
        self.params, _boxed_places(self.params, placement)
      )
    else:
      self.params = jax.device_put(self.params, jax.devices()[0])

  def generate(
    self,
    prompts: Sequence[Prompt],
    options: Options,
    stops: Int[np.ndarray, 'S V'] | None = None,
    rows: UInt32[np.ndarray, 'B'] | None = None,
  ) -> list[Result]:
    """Answers in the order of the prompts.

    Samples depend on the seed and the prompt's number in `rows` alone. Without
    it that is made of the content, and equal prompts of one call are told
    apart by their order.
    """
    plan, numbers = decoding.split(options, bucket(options.max_new_tokens, 8))
    numbered = _row_numbers(prompts) if rows is None else rows

    def run(batch: Sequence[int], encoded, is_token) -> Iterator[Result]:
      keys = None
      if plan.do_sample:
        seeds = np.zeros(len(is_token), np.uint32)
        seeds[: len(batch)] = numbered[list(batch)]
        keys = decoding.row_keys(options.seed, self._place(seeds))
      decoded = _decode(
        self.model, self.params, encoded, is_token, keys, plan, numbers, stops
      )
      for i, _ in enumerate(batch):
        fields = (np.asarray(x)[i] for x in jax.device_get(decoded))
        tokens, scores, log_probs, lengths = fields
        limit = options.max_new_tokens
        yield Result(tokens[:, :limit], scores, log_probs[:, :limit], lengths)

    return self._in_batches(prompts, run)

  def score(
    self,
    prompts: Sequence[Prompt],
    candidates: Sequence[Sequence[Sequence[int]]],
  ) -> list[list[Float[np.ndarray, 'U']]]:
    """Log-probability of every token of every candidate of every prompt."""

    def run(batch: Sequence[int], encoded, is_token):
      return self._score(
        [candidates[i] for i in batch],
        _prefill(self.model, self.params, encoded, is_token),
      )

    return self._in_batches(prompts, run)

  def logits(self, batch: Any) -> jax.Array:
    """f32[B, U, V] of a Batch, as in training, without dropout."""
    with self._context():
      return _logits(self.model, self.params, dict(batch))

  def stream(
    self,
    prompt: Prompt,
    options: Options,
    stops: Int[np.ndarray, 'S V'] | None = None,
    every: int = 4,
  ) -> Iterator[Int[np.ndarray, 'U']]:
    """The tokens so far, every few tokens, until the answer is complete."""
    plan, numbers = decoding.split(options, bucket(options.max_new_tokens, 8))
    with self._context():
      encoded, is_token = self._encode([prompt])
      keys = None
      if plan.do_sample:
        rows = np.zeros(len(is_token), np.uint32)
        rows[0] = prompt.row
        keys = decoding.row_keys(options.seed, self._place(rows))
      memory, state = _begin(
        self.model, self.params, encoded, is_token, keys, plan, numbers, stops
      )
    shown, length = 0, 1
    while True:
      decoded = decoding.finish(state, plan, numbers)
      length = int(decoded.lengths[0, 0])
      if length > shown:
        shown = length
        yield np.asarray(decoded.tokens)[0, 0, :length]
      if bool(state.done.all()) or length >= options.max_new_tokens:
        return
      with self._context():
        state = _advance(
          self.model,
          self.params,
          memory,
          state,
          plan,
          numbers,
          stops,
          min(length + every, options.max_new_tokens),
        )

  def _in_batches(self, prompts: Sequence[Prompt], run) -> list[Any]:
    """run(indices, encoded, is_token) over batches of like prompts."""
    results: list[Any] = [None] * len(prompts)

    def size(i: int) -> tuple[int, int]:
      return bucket(len(prompts[i].tokens), 16), len(prompts[i].images)

    # The largest first: what does not fit in memory fails at once.
    order = sorted(range(len(prompts)), key=size, reverse=True)
    for first in range(0, len(order), self.batch_size):
      batch = order[first : first + self.batch_size]
      with self._context():
        encoded, is_token = self._encode([prompts[i] for i in batch])
        for i, result in zip(batch, run(batch, encoded, is_token), strict=True):
          results[i] = result
    return results

  def _encode(self, prompts: Sequence[Prompt]):
    """(encoded B T D, is_token B T), filled up with empty rows."""
    rows = bucket(len(prompts), self._batch_shards())
    rows += -rows % self._batch_shards()
    tokens = np.full(
      (rows, bucket(max(len(p.tokens) for p in prompts), 16)), PAD, np.int32
    )
    for row, prompt in zip(tokens, prompts, strict=False):
      row[: len(prompt.tokens)] = prompt.tokens
    visual = None
    if count := max(len(p.images) for p in prompts):
      known = self.embed_images(prompts)
      each = next(iter(known.values())).shape  # Q D
      visual = np.zeros((rows, bucket(count, 1), *each), np.float32)
      for row, prompt in zip(visual, prompts, strict=False):
        for place, key in zip(row, prompt.image_keys, strict=False):
          place[:] = known[key]
      visual = self._place(visual.reshape(rows, -1, each[-1]))
    tokens = self._place(tokens)
    return _encode(self.model, self.params, tokens, visual), tokens != PAD

  def embed_images(self, prompts: Sequence[Prompt]) -> dict[bytes, np.ndarray]:
    """Visual tokens Q D of all different images, by key."""
    known: dict[bytes, np.ndarray] = {}
    missing: dict[bytes, tuple[np.ndarray, np.ndarray | None]] = {}
    for prompt in prompts:
      for key, image in zip(prompt.image_keys, prompt.images, strict=True):
        if key in known or key in missing:
          continue
        if (found := self.visual_cache.get(key)) is not None:
          known[key] = found
        else:
          missing[key] = (image, prompt.instruction)
    for chunk in _chunks(list(missing)):
      images = np.stack([missing[key][0] for key in chunk])[:, None]
      texts = [missing[key][1] for key in chunk]
      length = max((len(t) for t in texts if t is not None), default=0)
      words = None
      if length:
        words = np.zeros((len(chunk), bucket(length, 16)), np.int32)
        for row, text in zip(words, texts, strict=True):
          if text is not None:
            row[: len(text)] = text
        words = self._place(words)
      visual = _embed(self.model, self.params, self._place(images), words)
      for key, tokens in zip(chunk, np.asarray(visual[:, 0]), strict=True):
        known[key] = tokens.astype(np.float32)
        self.visual_cache.put(key, known[key])
    return known

  def _score(
    self,
    candidates: Sequence[Sequence[Sequence[int]]],
    prompt: decoding.Prompt,
  ) -> list[list[np.ndarray]]:
    """Candidates in groups that share the prompts' keys and values."""
    rows = len(prompt.is_token)
    length = bucket(max(len(c) for row in candidates for c in row), 4)
    count = max(map(len, candidates))
    room = MAX_LOGITS // (rows * length * self.config.t5.vocab_size)
    group = min(bucket(count, 1), 1 << max(room, 1).bit_length() - 1)
    scores: list[list[np.ndarray]] = [[] for _ in candidates]
    for first in range(0, count, group):
      targets = np.zeros((rows, group, length), np.int32)
      for row, own in zip(targets, candidates, strict=False):
        for place, candidate in zip(row, own[first:], strict=False):
          place[: len(candidate)] = candidate
      found = np.asarray(
        _log_probs(
          self.model,
          self.params,
          prompt,
          self._place(targets.reshape(-1, length)),
        )
      ).reshape(targets.shape)
      for i, own in enumerate(candidates):
        for j, candidate in enumerate(own[first : first + group]):
          scores[i].append(found[i, j, : len(candidate)])
    return scores

  def _batch_shards(self) -> int:
    if self.mesh is None:
      return 1
    return self.mesh.shape['data'] * self.mesh.shape['fsdp']

  def _place(self, array: np.ndarray) -> jax.Array:
    """Rows over the mesh where they divide; whole on every device if not."""
    if self.mesh is None:
      return jnp.asarray(array)
    if len(array) % self._batch_shards():
      return jax.device_put(array, partitioning.replicated(self.mesh))
    return jax.device_put(array, partitioning.batch_sharding(self.mesh))

  @contextlib.contextmanager
  def _context(self):
    if self.mesh is None:
      yield
    else:
      rules = partitioning.activation_rules()
      with jax.set_mesh(self.mesh), nn.logical_axis_rules(rules):
        yield


def _boxed_places(params: Any, places: Any) -> Any:
  """The places of a tree that may have quantised kernels.

  Their scales, small, go to every device.
  """

  def one(leaf: Any, place: Any) -> Any:
    if isinstance(leaf, Quantized):
      return Quantized(place, partitioning.replicated(place.mesh))
    return place

  return jax.tree.map(
    one, params, places, is_leaf=lambda x: isinstance(x, Quantized)
  )


def bucket(size: int, least: int) -> int:
  """The next of least x 1, 2, 3, 4, 6, 8, 12, 16, ...: few shapes."""
  step = least
  while step < size:
    if step % 2 == 0 and step * 3 // 2 >= size and step >= 2 * least:
      return step * 3 // 2
    step *= 2
  return step


def prompts_of(batch: Any, num_queries: int, image_token: int) -> list[Prompt]:
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
    prompts.append(Prompt(row.astype(np.int32), own, words))
  return prompts


def _row_numbers(prompts: Sequence[Prompt]) -> np.ndarray:
  """One number a prompt: of its content and how often it came before."""
  seen: dict[bytes, int] = {}
  rows = np.zeros(len(prompts), np.uint32)
  for i, prompt in enumerate(prompts):
    before = seen.get(prompt.key, 0)
    seen[prompt.key] = before + 1
    # An odd factor spreads repetitions over all 32 bits.
    rows[i] = (prompt.row + before * 2654435761) % 2**32
  return rows


def _chunks(items: list[Any], largest: int = 8) -> Iterator[list[Any]]:
  """Pieces of 8, 4, 2, 1: bounded shapes, and no image is encoded in vain."""
  while items:
    size = min(largest, 1 << (len(items).bit_length() - 1))
    yield items[:size]
    items = items[size:]


def _encode_with(module: MMICL, tokens, visual):
  x = module.t5.embed(tokens)
  if visual is not None:
    is_image = tokens == module.config.image_token
    x = splice(x, visual.astype(x.dtype), is_image)
  return module.t5.encode(x, tokens != PAD)


@functools.partial(jax.jit, static_argnums=0)
def _embed(model: MMICL, params, images, words):
  return model.apply({'params': params}, images, words, method='embed_images')


@functools.partial(jax.jit, static_argnums=0)
def _encode(model: MMICL, params, tokens, visual):
  return model.apply({'params': params}, tokens, visual, method=_encode_with)


@functools.partial(jax.jit, static_argnums=0)
def _logits(model: MMICL, params, batch):
  return model.apply({'params': params}, batch)


@functools.partial(jax.jit, static_argnums=(0, 4))
def _advance(model, params, prompt, state, plan: Plan, numbers, stops, until):
  step = decoding.model_step(model, params, prompt)
  return decoding.advance(state, step, plan, numbers, stops, until)


_prefill = jax.jit(decoding.prefill, static_argnums=0)
_log_probs = jax.jit(decoding.log_probs, static_argnums=0)
_decode = jax.jit(decoding.decode, static_argnums=(0, 5))
_begin = jax.jit(decoding.begin, static_argnums=(0, 5))

"""Prompts to answers on arrays: few compiled shapes, nothing computed twice.

Prompts of any length and any number of images are sorted into batches of few
shapes. Each different image is encoded once, padding images never; its visual
tokens are kept by content, and so are the prompts' keys and values. Results
come in the order of the prompts.
"""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int, UInt32

from mmicl_jax.decoding import loop as decoding
from mmicl_jax.decoding.options import Options, split_options
from mmicl_jax.decoding.scores import row_keys
from mmicl_jax.decoding.strategy import Strategy, strategy_of
from mmicl_jax.errors import UserError
from mmicl_jax.inference.prompt_cache import PromptCache, select
from mmicl_jax.inference.requests import Request, bucket, chunks, row_numbers
from mmicl_jax.inference.visual_cache import VisualCache, visual_fingerprint
from mmicl_jax.models import partitioning
from mmicl_jax.models.configs import MMICLConfig, with_execution
from mmicl_jax.models.mmicl import MMICL, abstract_params, splice
from mmicl_jax.models.quantized import quantize, quantized_places
from mmicl_jax.models.stacking import unstack_layers
from mmicl_jax.types import PAD

MAX_LOGITS = 1 << 26  # float32 logits held at a time when scoring: 256 MiB


@dataclasses.dataclass(frozen=True, eq=False)
class PromptAnswers:
  """A prompt's answers, the best first; see decoding.scores.Decoded."""

  tokens: Int[np.ndarray, 'K U']
  scores: Float[np.ndarray, 'K']
  log_probs: Float[np.ndarray, 'K U']
  lengths: Int[np.ndarray, 'K']


class Engine:
  """A model ready to answer.

  params: plain arrays, layers stacked or not. batch_size: prompts a step; the
  results do not depend on it. cache_bytes: for visual tokens, in host memory;
  with cache_dir on disk as well. prompt_cache_bytes: for keys and values of
  prompts, on the device. weights: 'int8' holds kernels in eight bits
  (models.quantized).
  """

  def __init__(
    self,
    config: MMICLConfig,
    params: Any,
    *,
    mesh: Mesh | None = None,
    batch_size: int = 8,
    cache_bytes: int = 1 << 28,
    prompt_cache_bytes: int = 1 << 28,
    cache_dir: str | os.PathLike[str] | None = None,
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
    self.prompt_cache = PromptCache(prompt_cache_bytes)
    if cache_dir is not None:
      cache_dir = Path(cache_dir) / visual_fingerprint(self.config, self.params)
    self.visual_cache = VisualCache(cache_bytes, cache_dir)
    if mesh is not None:
      placement = partitioning.shardings(abstract_params(self.config), mesh)
      self.params = jax.device_put(
        self.params, quantized_places(self.params, placement)
      )
    else:
      self.params = jax.device_put(self.params, jax.devices()[0])

  def generate(
    self,
    prompts: Sequence[Request],
    options: Options,
    stops: Int[np.ndarray, 'S V'] | None = None,
    rows: UInt32[np.ndarray, 'B'] | None = None,
  ) -> list[PromptAnswers]:
    """Answers in the order of the prompts.

    Samples depend on the seed and the prompt's number in `rows` alone. Without
    it that is made of the content, and equal prompts of one call are told
    apart by their order.
    """
    static, dynamic = split_options(options, bucket(options.max_new_tokens, 8))
    numbered = row_numbers(prompts) if rows is None else rows

    def run(
      batch: Sequence[int], prompt: decoding.Memory
    ) -> Iterator[PromptAnswers]:
      seeds = np.zeros(len(prompt.is_token), np.uint32)
      seeds[: len(batch)] = numbered[list(batch)]
      keys = self._keys(options, seeds)
      decoded = jax.device_get(
        _answer(self.model, self.params, prompt, keys, static, dynamic, stops)
      )
      limit = options.max_new_tokens
      for i, _ in enumerate(batch):
        tokens, scores, log_probs, lengths = (field[i] for field in decoded)
        yield PromptAnswers(
          tokens[:, :limit], scores, log_probs[:, :limit], lengths
        )

    return self._in_batches(prompts, run)

  def score(
    self,
    prompts: Sequence[Request],
    candidates: Sequence[Sequence[Sequence[int]]],
  ) -> list[list[Float[np.ndarray, 'U']]]:
    """Log-probability of every token of every candidate of every prompt."""

    def run(batch: Sequence[int], prompt: decoding.Memory):
      return self._score([candidates[i] for i in batch], prompt)

    return self._in_batches(prompts, run)

  def logits(self, batch: Any) -> jax.Array:
    """f32[B, U, V] of a Batch, as in training, without dropout."""
    with self._context():
      return _logits(self.model, self.params, dict(batch))

  def stream(
    self,
    prompt: Request,
    options: Options,
    stops: Int[np.ndarray, 'S V'] | None = None,
    every: int = 4,
  ) -> Iterator[Int[np.ndarray, 'U']]:
    """The tokens so far, every few tokens, until the answer is complete."""
    static, dynamic = split_options(options, bucket(options.max_new_tokens, 8))
    strategy = strategy_of(static)
    with self._context():
      read = self._read([prompt])
      rows = np.full(len(read.is_token), prompt.row, np.uint32)
      keys = self._keys(options, rows)
      state = _begin(
        self.model, self.params, read, keys, strategy, dynamic, stops
      )
    shown, length = 0, 1
    while True:
      decoded = strategy.finish(state, dynamic)
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
          read,
          state,
          strategy,
          dynamic,
          stops,
          min(length + every, options.max_new_tokens),
        )

  def warm_up(
    self,
    options: Options,
    longest: int,
    stops: Int[np.ndarray, 'S V'] | None = None,
    longest_instruction: int = 0,
  ) -> int:
    """Compiles whatever prompts up to `longest` tokens need; counts shapes.

    Afterwards `generate` with these options compiles the model no more, however
    long the prompts and however many their images. What is compiled can be
    kept on disk: see `compilation.keep_compiled`. longest_instruction: tokens
    that the Q-Former reads with an image; 0: none.
    """
    static, dynamic = split_options(options, bucket(options.max_new_tokens, 8))
    # One step is enough: how many there are is not compiled.
    dynamic = dynamic._replace(max_new_tokens=1)
    queries, size = self.config.qformer.num_queries, self.config.vit.image_size
    rows = {self._rows(n) for n in range(1, self.batch_size + 1)}
    lengths = {bucket(n, 16) for n in range(1, longest + 1)}
    text = np.arange(2, 3, dtype=np.int32)
    black = np.zeros((size, size, 3), np.uint8)
    image_tokens = np.full(queries, self.config.image_token, np.int32)
    read_with = {bucket(n, 64) for n in range(1, longest_instruction + 1)}
    with self._context():
      for chunk in (8, 4, 2, 1):
        images = self._place(np.repeat(black[None, None], chunk, axis=0))
        for words in read_with or {0}:
          instruction = None
          if words:
            instruction = self._place(np.ones((chunk, words), np.int32))
          _embed(self.model, self.params, images, instruction)
      for length in sorted(lengths, reverse=True):
        kinds = [Request(text)]
        if length > queries:
          kinds.append(Request(np.append(image_tokens, text), (black,)))
        for count in rows:
          for prompt in kinds:
            read = self._encode([prompt], count, length)
          keys = self._keys(options, np.zeros(count, np.uint32))
          _answer(self.model, self.params, read, keys, static, dynamic, stops)
    return len(rows) * len(lengths)

  def _in_batches(self, prompts: Sequence[Request], run) -> list[Any]:
    """run(indices, read prompts) over batches of prompts of like lengths."""
    results: list[Any] = [None] * len(prompts)

    def size(i: int) -> tuple[int, int]:
      return bucket(len(prompts[i].tokens), 16), len(prompts[i].images)

    # The largest first: what does not fit in memory fails at once.
    order = sorted(range(len(prompts)), key=size, reverse=True)
    for first in range(0, len(order), self.batch_size):
      batch = order[first : first + self.batch_size]
      with self._context():
        read = self._read([prompts[i] for i in batch])
        for i, result in zip(batch, run(batch, read), strict=True):
          results[i] = result
    return results

  def _rows(self, count: int) -> int:
    """The rows of a batch of so many prompts: few numbers, for all shards."""
    shards = self._batch_shards()
    return -(-bucket(count, shards) // shards) * shards

  def _read(self, prompts: Sequence[Request]) -> decoding.Memory:
    """The prompts' keys and values; equal prompts are read once."""
    keys = [prompt.key for prompt in prompts]
    rows = self._rows(len(prompts))
    if (found := self.prompt_cache.find(keys, rows)) is not None:
      return found
    different = dict(zip(keys, prompts, strict=True))
    length = bucket(max(len(p.tokens) for p in prompts), 16)
    read = self._encode(
      list(different.values()), self._rows(len(different)), length
    )
    self.prompt_cache.put(list(different), read)
    return select(read, list(different), keys, rows)

  def _encode(
    self, prompts: Sequence[Request], rows: int, length: int
  ) -> decoding.Memory:
    """Keys and values of prompts in their first rows; the rest is empty."""
    tokens = np.full((rows, length), PAD, np.int32)
    for row, prompt in zip(tokens, prompts, strict=False):
      row[: len(prompt.tokens)] = prompt.tokens
    visual = None
    if any(prompt.images for prompt in prompts):
      known = self.embed_images(prompts)
      each = next(iter(known.values())).shape  # Q D
      # Room for as many as the tokens could ask for: no shapes of its own.
      visual = np.zeros((rows, length // each[0], *each), np.float32)
      for row, prompt in zip(visual, prompts, strict=False):
        for place, key in zip(row, prompt.image_keys, strict=False):
          place[:] = known[key]
      visual = self._place(visual.reshape(rows, -1, each[-1]))
    return _encode(self.model, self.params, self._place(tokens), visual)

  def _keys(
    self, options: Options, rows: UInt32[np.ndarray, 'B']
  ) -> jax.Array | None:
    if not options.do_sample:
      return None
    return row_keys(options.seed, self._place(rows))

  def embed_images(self, prompts: Sequence[Request]) -> dict[bytes, np.ndarray]:
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
    for chunk in chunks(list(missing)):
      images = np.stack([missing[key][0] for key in chunk])[:, None]
      texts = [missing[key][1] for key in chunk]
      length = max((len(t) for t in texts if t is not None), default=0)
      words = None
      if length:
        words = np.zeros((len(chunk), bucket(length, 64)), np.int32)
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
    prompt: decoding.Memory,
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
  variables = {'params': params}
  encoded: Any = model.apply(variables, tokens, visual, method=_encode_with)
  return decoding.prefill(model, params, encoded, tokens != PAD)


@functools.partial(jax.jit, static_argnums=0)
def _logits(model: MMICL, params, batch):
  return model.apply({'params': params}, batch)


@functools.partial(jax.jit, static_argnums=(0, 4), donate_argnames='state')
def _advance(
  model, params, prompt, state, strategy: Strategy[Any], dynamic, stops, until
):
  step = decoding.model_step(model, params, prompt)
  return decoding.advance(state, step, strategy, dynamic, stops, until)


_log_probs = jax.jit(decoding.log_probs, static_argnums=0)
_answer = jax.jit(decoding.decode, static_argnums=(0, 4))
_begin = jax.jit(decoding.begin, static_argnums=(0, 4))

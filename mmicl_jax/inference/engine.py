"""Answers prompts that are arrays: sorts them into batches and decodes these.

Prompts of any length and any number of images are sorted into batches of few
shapes, which prompts.py encodes. Results come in the order of the prompts, and
do not depend on the other prompts.
"""

import dataclasses
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int, UInt32

from mmicl_jax.checkpoints.fingerprint import TowerSums
from mmicl_jax.data.feature_store import FeatureStore, cache_store
from mmicl_jax.decoding import loop as decoding
from mmicl_jax.decoding.options import Options, split_options
from mmicl_jax.decoding.room import check_room
from mmicl_jax.decoding.scores import row_keys
from mmicl_jax.decoding.strategy import Strategy, strategy_of
from mmicl_jax.errors import UserError
from mmicl_jax.inference.prompts import (
  PromptReader,
  Request,
  bucket,
  prompt_length,
)
from mmicl_jax.inference.weights import hold_weights
from mmicl_jax.models import trees
from mmicl_jax.models.configs import MMICLConfig, with_execution
from mmicl_jax.models.mmicl import MMICL, logits

MOST = 1 << 16  # prompts in a batch, tokens in a prompt
MAX_LOGITS = 1 << 26  # float32 logits held at a time when scoring: 256 MiB


@dataclasses.dataclass(frozen=True, eq=False)
class PromptAnswers:
  """The K answers to one prompt: see decoding.scores.Decoded."""

  tokens: Int[np.ndarray, 'K U']
  scores: Float[np.ndarray, 'K']
  log_probs: Float[np.ndarray, 'K U']
  lengths: Int[np.ndarray, 'K']


class Engine:
  """A model that is ready to answer.

  params: plain arrays, with layers stacked or not: a tree, or dicts by path
  that are emptied one after the other (weights.py). batch_size: prompts in each
  step; results do not depend on it. cache_bytes: host memory for images'
  features. cache_dir: keeps these on disk, too. prompt_cache_bytes: device
  memory for prompts' keys and values. weights: 'int8' holds kernels in eight
  bits (models/quantized.py). Raises UserError for values that cannot work.
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
    check_size('batch_size', batch_size)
    # Separate layers, so that no step slices weights.
    self.config = with_execution(config, scan_layers=False, remat='none')
    self.model = MMICL(self.config)
    if weights not in (None, 'int8'):
      raise UserError(f"weights is {weights!r}: give 'int8' or nothing.")
    if cache_dir is not None and mesh is not None and mesh.is_multi_process:
      raise UserError(
        'cache_dir works in one process: leave it out in several.'
      )
    parts = [trees.flatten(params)] if isinstance(params, Mapping) else params
    towers = TowerSums()
    self.params = hold_weights(
      parts,
      self.config,
      mesh=mesh,
      eight_bits=weights == 'int8',
      look=None if cache_dir is None else towers.add,
    )
    self.mesh = mesh
    self.batch_size = batch_size
    store = None
    if cache_dir is not None:
      store = _store(cache_dir, self.config, towers)
    self.reader = PromptReader(
      self.model,
      self.params,
      mesh=mesh,
      batch_size=batch_size,
      image_bytes=cache_bytes,
      prompt_bytes=prompt_cache_bytes,
      store=store,
    )

  def generate(
    self,
    prompts: Sequence[Request],
    options: Options,
    stops: Int[np.ndarray, 'S V'] | None = None,
    rows: UInt32[np.ndarray, 'B'] | None = None,
  ) -> list[PromptAnswers]:
    """Answers prompts, in their order.

    rows: a number for each prompt. Samples depend only on the seed and this
    number; by default it is made from the prompt's content and from how often
    the prompt came before in this call. Raises UserError if there cannot be
    enough memory.
    """
    at_once = min(len(prompts), self.batch_size)
    check_room(options, self.config, at_once)
    static, dynamic = split_options(options, bucket(options.max_new_tokens, 8))
    if rows is None and options.do_sample:
      rows = _row_numbers(prompts)

    def run(
      batch: Sequence[int], prompt: decoding.Memory
    ) -> Iterator[PromptAnswers]:
      seeds = np.zeros(len(prompt.is_token), np.uint32)
      if rows is not None:
        seeds[: len(batch)] = rows[list(batch)]
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

    return self.in_batches(prompts, run)

  def score(
    self,
    prompts: Sequence[Request],
    candidates: Sequence[Sequence[Sequence[int]]],
  ) -> list[list[Float[np.ndarray, 'U']]]:
    """The log-probabilities of the tokens of each prompt's candidates."""

    def run(batch: Sequence[int], prompt: decoding.Memory):
      return self._score([candidates[i] for i in batch], prompt)

    return self.in_batches(prompts, run)

  def logits(self, batch: Any) -> jax.Array:
    """The logits f32[B, U, V] of a Batch, as in training, without dropout."""
    with self.reader.on_devices():
      return _logits(self.model, self.params, dict(batch), {})

  def stream(
    self,
    prompt: Request,
    options: Options,
    stops: Int[np.ndarray, 'S V'] | None = None,
    every: int = 4,
  ) -> Iterator[Int[np.ndarray, 'U']]:
    """Yields the tokens so far, after every few new ones, until the end."""
    check_room(options, self.config, 1)
    static, dynamic = split_options(options, bucket(options.max_new_tokens, 8))
    strategy = strategy_of(static)
    with self.reader.on_devices():
      read = self.reader.read([prompt])
      self.reader.save()
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
      with self.reader.on_devices():
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
    """Compiles all that prompts of up to `longest` tokens need.

    Afterwards `generate` with these options compiles nothing, for any such
    prompts and any images. Compiled programs can be kept on disk: see
    `jit_cache.keep_compiled`. longest_instruction: the most tokens that the
    Q-Former reads with an image; 0 if it reads none. Returns the number of
    shapes.
    """
    check_room(options, self.config, self.batch_size)
    static, dynamic = split_options(options, bucket(options.max_new_tokens, 8))
    # One step is enough, since their number is not compiled in.
    dynamic = dynamic._replace(max_new_tokens=1)
    queries, size = self.config.qformer.num_queries, self.config.vit.image_size
    rows = {self.reader.rows(n) for n in range(1, self.batch_size + 1)}
    lengths = {prompt_length(n) for n in range(1, longest + 1)}
    text = np.arange(2, 3, dtype=np.int32)
    black = np.zeros((size, size, 3), np.uint8)
    image_tokens = np.full(queries, self.config.image_token, np.int32)
    with self.reader.on_devices():
      self.reader.warm_up_images(longest_instruction)
      for length in sorted(lengths, reverse=True):
        kinds = [Request(text)]
        if length > queries:
          kinds.append(Request(np.append(image_tokens, text), (black,)))
        for count in rows:
          for prompt in kinds:
            read = self.reader.encode([prompt], count, length)
          keys = self._keys(options, np.zeros(count, np.uint32))
          _answer(self.model, self.params, read, keys, static, dynamic, stops)
    return len(rows) * len(lengths)

  def in_batches(self, prompts: Sequence[Request], run) -> list[Any]:
    """Calls run(indices, encoded prompts) for batches of like lengths."""
    results: list[Any] = [None] * len(prompts)

    def size(i: int) -> tuple[int, int]:
      return prompt_length(len(prompts[i].tokens)), len(prompts[i].images)

    # The largest come first, so that too little memory shows at once.
    order = sorted(range(len(prompts)), key=size, reverse=True)
    try:
      for first in range(0, len(order), self.batch_size):
        batch = order[first : first + self.batch_size]
        with self.reader.on_devices():
          read = self.reader.read([prompts[i] for i in batch])
          for i, result in zip(batch, run(batch, read), strict=True):
            results[i] = result
    finally:
      self.reader.save()
    return results

  def _keys(
    self, options: Options, rows: UInt32[np.ndarray, 'B']
  ) -> jax.Array | None:
    if not options.do_sample:
      return None
    return row_keys(options.seed, self.reader.place(rows))

  def _score(
    self,
    candidates: Sequence[Sequence[Sequence[int]]],
    prompt: decoding.Memory,
  ) -> list[list[np.ndarray]]:
    """Scores candidates in groups, which share the prompts' keys and values."""
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
          self.reader.place(targets.reshape(-1, length)),
        )
      ).reshape(targets.shape)
      for i, own in enumerate(candidates):
        for j, candidate in enumerate(own[first : first + group]):
          scores[i].append(found[i, j, : len(candidate)])
    return scores


def check_size(name: str, value: int) -> None:
  """Raises UserError unless a value can be a number of prompts or tokens."""
  whole = isinstance(value, int) and not isinstance(value, bool)
  if not whole or not 1 <= value <= MOST:
    raise UserError(f'{name} is {value!r}: give a number from 1 to {MOST}.')


def _store(
  cache_dir: str | os.PathLike[str], config: MMICLConfig, towers: TowerSums
) -> FeatureStore:
  """The store on disk of the features that these towers give."""
  index = towers.features_index(config)
  sizes, backend = f'{config.vit}{config.qformer}', jax.default_backend()
  name = towers.digest(sizes, index['dtype'], backend)
  return cache_store(cache_dir, index, name)


def _row_numbers(prompts: Sequence[Request]) -> UInt32[np.ndarray, 'B']:
  """A number for each prompt, from its content and how often it came before."""
  before: dict[int, int] = {}
  rows = np.zeros(len(prompts), np.uint32)
  for i, prompt in enumerate(prompts):
    count = before.get(prompt.row, 0)
    before[prompt.row] = count + 1
    # An odd factor spreads repetitions over all 32 bits.
    rows[i] = (prompt.row + count * 2654435761) % 2**32
  return rows


@functools.partial(jax.jit, static_argnums=(0, 4), donate_argnames='state')
def _advance(
  model, params, prompt, state, strategy: Strategy[Any], dynamic, stops, until
):
  step = decoding.model_step(model, params, prompt)
  return decoding.advance(state, step, strategy, dynamic, stops, until)


_logits = jax.jit(logits, static_argnums=0)
_log_probs = jax.jit(decoding.log_probs, static_argnums=0)
_answer = jax.jit(decoding.decode, static_argnums=(0, 4))
_begin = jax.jit(decoding.begin, static_argnums=(0, 4))

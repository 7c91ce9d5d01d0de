"""Encodes prompts into what the decoder reads, and computes nothing twice.

Prompts of any length, with any number of images, are padded to few shapes. The
towers see each different image once, and never padding: the Q-Former's output
is cached by the image's content, in memory and, if wished, on disk. The keys
and values of whole prompts are cached on the device. They serve other
candidates, options and calls with the same prompt, but no longer prompt, since
T5's encoder reads in both directions.
"""

import contextlib
import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import cachetools
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from mmicl_jax.data.feature_store import FeatureStore, key_of
from mmicl_jax.decoding.loop import Memory, prefill
from mmicl_jax.models import partitioning
from mmicl_jax.models.mmicl import MMICL
from mmicl_jax.types import PAD, Images, without_padding

PER_SHARD = 1024  # at most so many images wait to be written


@dataclasses.dataclass(frozen=True, eq=False)
class Request:
  """One prompt without padding, as arrays on the host.

  tokens: with Q image tokens for each image, and the end token. images:
  u8[H, W, 3] each, or normalised floats. instruction: the ids that an
  InstructBLIP Q-Former reads with each image. image_keys: the keys of the
  images' features; by default they are made from the arrays.
  """

  tokens: Int[np.ndarray, 'T']
  images: tuple[np.ndarray, ...] = ()
  instruction: Int[np.ndarray, 'S'] | None = None
  image_keys: tuple[bytes, ...] = ()

  def __post_init__(self):
    if not self.image_keys:
      keys = tuple(key_of(image, self.instruction) for image in self.images)
      object.__setattr__(self, 'image_keys', keys)

  @functools.cached_property
  def key(self) -> bytes:
    """A key that is equal for prompts with the same encoding."""
    return _digest(self.tokens, self.instruction) + b''.join(self.image_keys)

  @functools.cached_property
  def row(self) -> int:
    """A number made from tokens and pixels, which samples depend on."""
    pixels = b''.join(_digest(x, self.instruction) for x in self.images)
    content = _digest(self.tokens, self.instruction) + pixels
    return int.from_bytes(_digest(np.frombuffer(content, np.uint8))[:4], 'big')


def requests_of(
  batch: Any, num_queries: int, image_token: int
) -> list[Request]:
  """Turns a padded Batch into prompts, without the images that are padding."""
  tokens = np.asarray(batch['encoder_input_tokens'])
  images = batch.get('encoder_images')
  instruction = batch.get('qformer_input_tokens')
  prompts = []
  for i, row in enumerate(tokens):
    row = without_padding(row).astype(np.int32)
    count = -(-int((row == image_token).sum()) // num_queries)
    own = () if images is None else tuple(np.asarray(images[i])[:count])
    words = None if instruction is None else np.asarray(instruction[i])
    prompts.append(Request(row, own, words))
  return prompts


class PromptReader:
  """Encodes prompts in few shapes, and caches images and prompts.

  batch_size: prompts in a step at most. image_bytes: host memory for images'
  features. store: keeps these on disk, too. prompt_bytes: device memory for
  prompts' keys and values. images_seen: how many images the towers have read.
  """

  def __init__(
    self,
    model: MMICL,
    params: Any,
    *,
    mesh: Mesh | None = None,
    batch_size: int = 8,
    image_bytes: int = 1 << 28,
    prompt_bytes: int = 1 << 28,
    store: FeatureStore | None = None,
  ):
    self._model, self._params, self._mesh = model, params, mesh
    self._batch_size = batch_size
    self._images: cachetools.LRUCache[bytes, np.ndarray] = cachetools.LRUCache(
      image_bytes, lambda features: features.nbytes
    )
    self._prompts: cachetools.LRUCache[tuple[bytes, ...], Memory] = (
      cachetools.LRUCache(prompt_bytes, _num_bytes)
    )
    self._store = store
    self._unsaved: dict[bytes, np.ndarray] = {}
    self.images_seen = 0

  def forget(self, images: bool = True) -> None:
    """Empties the cache of prompts, and that of images; the disk stays."""
    self._prompts.clear()
    if images:
      self._images.clear()

  def save(self) -> None:
    """Writes the features of images that are new since the last call."""
    if self._store is not None and self._unsaved:
      keys, features = zip(*self._unsaved.items(), strict=True)
      self._unsaved = {}
      self._store.add(keys, np.stack(features))

  def read(self, prompts: Sequence[Request]) -> Memory:
    """The keys and values of at most `batch_size` prompts, one in each row.

    Equal prompts are encoded once. If a cached batch holds all of them, in any
    order, nothing is encoded.
    """
    keys = [prompt.key for prompt in prompts]
    rows = self.rows(len(prompts))
    for known in self._prompts:
      if set(keys).issubset(known):
        return _rows_of(self._prompts[known], known, keys, rows)
    different = dict(zip(keys, prompts, strict=True))
    length = prompt_length(max(len(p.tokens) for p in prompts))
    count = self.rows(len(different))
    read = self.encode(list(different.values()), count, length)
    with contextlib.suppress(ValueError):  # larger than the whole cache
      self._prompts[tuple(different)] = read
    return _rows_of(read, tuple(different), keys, rows)

  def encode(
    self,
    prompts: Sequence[Request],
    rows: int,
    length: int,
    known: Mapping[bytes, Float[np.ndarray, 'Q E']] | None = None,
  ) -> Memory:
    """Encodes prompts into the first of `rows` rows; the others are empty.

    known: the features of their images. With it the program has room for
    images even if there are none, so that there is one program for both.
    """
    tokens, features = self._arrays(prompts, rows, length, known)
    return _encode(self._model, self._params, tokens, features)

  def encode_apart(
    self,
    prompts: Sequence[Request],
    rows: int,
    length: int,
    known: Mapping[bytes, Float[np.ndarray, 'Q E']],
  ) -> tuple[Memory, ...]:
    """As `encode`, but each of the rows on its own."""
    tokens, features = self._arrays(prompts, rows, length, known)
    return _encode_apart(self._model, self._params, tokens, features)

  def _arrays(
    self,
    prompts: Sequence[Request],
    rows: int,
    length: int,
    known: Mapping[bytes, Float[np.ndarray, 'Q E']] | None,
  ) -> tuple[jax.Array, jax.Array | None]:
    """The padded tokens and features of prompts, on the devices."""
    tokens = np.full((rows, length), PAD, np.int32)
    for row, prompt in zip(tokens, prompts, strict=False):
      row[: len(prompt.tokens)] = prompt.tokens
    features = None
    if known is None and any(prompt.images for prompt in prompts):
      known = self.features(prompts)
    if known is not None:
      config = self._model.config
      queries, width = config.qformer.num_queries, config.qformer.hidden_size
      # As many images as the tokens have room for, so that the number of images
      # adds no shapes.
      padded = np.zeros(
        (rows, max(length // queries, 1), queries, width),
        jnp.dtype(config.execution.dtype),
      )
      for row, prompt in zip(padded, prompts, strict=False):
        for place, key in zip(row, prompt.image_keys, strict=False):
          place[:] = known[key]
      features = self.place(padded)
    return self.place(tokens), features

  def features(
    self, prompts: Sequence[Request]
  ) -> dict[bytes, Float[np.ndarray, 'Q E']]:
    """The Q-Former's output for each different image, by the image's key."""
    known: dict[bytes, np.ndarray] = {}
    missing: dict[bytes, tuple[np.ndarray, np.ndarray | None]] = {}
    if self._store is not None:
      self._store.refresh()  # other processes may have added to it
    for prompt in prompts:
      for key, image in zip(prompt.image_keys, prompt.images, strict=True):
        if key in known or key in missing:
          continue
        found = self._images.get(key)
        if found is None and self._store is not None:
          found = self._unsaved.get(key, self._store.get(key))
        if found is not None:
          known[key] = self._remember(key, found)
        else:
          missing[key] = image, prompt.instruction
    for chunk in chunks(list(missing)):
      read = self.run_towers(see, [missing[key] for key in chunk])
      for key, features in zip(chunk, read, strict=True):
        known[key] = self._remember(key, features)
        if self._store is not None:
          self._unsaved[key] = features
      if len(self._unsaved) >= PER_SHARD:
        self.save()
    return known

  def warm_up_images(
    self, longest_instruction: int = 0, at_once: Sequence[int] = (8, 4, 2, 1)
  ) -> None:
    """Compiles all that images need, with instructions up to this length.

    at_once: how many images the towers are given in one call.
    """
    size = self._model.config.vit.image_size
    black = np.zeros((size, size, 3), np.uint8)
    lengths = {bucket(n, 64) for n in range(1, longest_instruction + 1)}
    for count in at_once:
      for length in lengths or {0}:
        words = np.ones(length, np.int32) if length else None
        self.run_towers(see, [(black, words)] * count)

  def rows(self, count: int) -> int:
    """The rows for `count` prompts: one of few multiples of the shards."""
    shards = self._shards()
    return -(-bucket(count, shards) // shards) * shards

  def place(self, array: np.ndarray) -> jax.Array:
    """Splits rows over the mesh if it divides them; otherwise replicates."""
    if self._mesh is None:
      return jnp.asarray(array)
    if len(array) % self._shards():
      return jax.device_put(array, partitioning.replicated(self._mesh))
    return jax.device_put(array, partitioning.batch_sharding(self._mesh))

  @contextlib.contextmanager
  def on_devices(self) -> Iterator[None]:
    """Runs a block with the mesh and its rules, if there is a mesh."""
    if self._mesh is None:
      yield
    else:
      with partitioning.use_mesh(self._mesh):
        yield

  def _remember(self, key: bytes, features: np.ndarray) -> np.ndarray:
    with contextlib.suppress(ValueError):  # larger than the whole cache
      self._images[key] = features
    return features

  def run_towers(
    self,
    program: Callable[..., jax.Array],
    images: Sequence[tuple[np.ndarray, np.ndarray | None]],
  ) -> Float[np.ndarray, 'N Q E']:
    """Runs a program, such as `see`, on images.

    Each image comes with an instruction or None.
    """
    length = max((len(t) for _, t in images if t is not None), default=0)
    words = None
    if length:
      padded = np.zeros((len(images), bucket(length, 64)), np.int32)
      for row, (_, text) in zip(padded, images, strict=True):
        if text is not None:
          row[: len(text)] = text
      words = self.place(padded)
    self.images_seen += len(images)
    pixels = self.place(np.stack([image for image, _ in images])[:, None])
    return np.asarray(program(self._model, self._params, pixels, words)[:, 0])

  def _shards(self) -> int:
    if self._mesh is None:
      return 1
    return partitioning.batch_shards(self._mesh)


def bucket(size: int, least: int) -> int:
  """Rounds a size up to `least` times 1, 2, 3, 4, 6, 8, 12, 16 and so on."""
  step = least
  while step < size:
    if step % 2 == 0 and step * 3 // 2 >= size and step >= 2 * least:
      return step * 3 // 2
    step *= 2
  return step


def prompt_length(tokens: int) -> int:
  """The length that prompts are padded to, at most a quarter more above 128.

  16, 32, 48, 64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, ...
  """
  if tokens <= 128:
    return bucket(tokens, 16)
  step = 1 << (tokens - 1).bit_length() - 3
  return -(-tokens // step) * step


@functools.partial(jax.jit, static_argnums=0)
def see(
  model: MMICL,
  params: Any,
  images: Images,
  words: Int[jax.Array, 'B S'] | None = None,
) -> Float[jax.Array, 'B N Q E']:
  """The Q-Former's output for images, which the projector reads."""
  found: Any = model.apply(
    {'params': params}, images, words, method='read_images'
  )
  return found


def chunks(items: list[Any], largest: int = 8) -> Iterator[list[Any]]:
  """Cuts a list into pieces of 8, 4, 2 and 1: few shapes without padding."""
  while items:
    size = min(largest, 1 << (len(items).bit_length() - 1))
    yield items[:size]
    items = items[size:]


def _rows_of(
  read: Memory, known: Sequence[bytes], keys: Sequence[bytes], rows: int
) -> Memory:
  """Takes the rows of `keys` from a batch of `known`; the rest are empty."""
  if list(known) == list(keys) and rows == len(read.is_token):
    return read
  row_of = {key: row for row, key in enumerate(known)}
  places = np.full(rows, np.iinfo(np.int32).max, np.int32)
  places[: len(keys)] = [row_of[key] for key in keys]
  return _take(read, places)


@jax.jit
def _take(read: Memory, rows: Int[jax.Array, 'R']) -> Memory:
  """Takes rows; one out of range becomes zeros, which is an empty prompt."""
  return jax.tree.map(
    lambda x: jnp.take(x, rows, axis=0, mode='fill', fill_value=0), read
  )


@functools.partial(jax.jit, static_argnums=0)
def _encode(model: MMICL, params, tokens, features):
  variables = {'params': params}
  encoded: Any = model.apply(
    variables, tokens, features, method='encode_features'
  )
  return prefill(model, params, encoded, tokens != PAD)


@functools.partial(jax.jit, static_argnums=0)
def _encode_apart(model: MMICL, params, tokens, features):
  whole = _encode(model, params, tokens, features)
  rows = tuple(
    jax.tree.map(lambda x, i=i: x[i : i + 1], whole) for i in range(len(tokens))
  )
  return partitioning.split_by_heads(rows)


def _num_bytes(read: Memory) -> int:
  return sum(x.nbytes for x in jax.tree.leaves(read))


def _digest(*arrays: np.ndarray | None) -> bytes:
  """A hash of the arrays' contents, shapes and dtypes: 16 bytes."""
  result = hashlib.blake2b(digest_size=16)
  for array in arrays:
    if array is None:
      result.update(b'none')
      continue
    result.update(f'{array.dtype}{array.shape}'.encode())
    result.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
  return result.digest()

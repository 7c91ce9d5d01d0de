"""The two sides of `mmicl bench generate`: ours, and transformers.

Each runs in a process of its own, so that thread pools do not mix. It runs one
case at a time; the parent alternates between the two.
"""

import dataclasses
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Protocol

import numpy as np

from mmicl_jax.models.configs import MMICLConfig


@dataclasses.dataclass(frozen=True)
class AnswerCase:
  """One thing to measure.

  kind: 'encode' (the images of one prompt), 'generate' (from encoded images to
  the last token), 'decode' (one step of that, for all prompts) or 'questions'
  (six questions on the same images, from the images to the last token).
  """

  kind: str
  images: int
  batch: int = 1
  beams: int = 1
  text_tokens: int = 128
  new_tokens: int = 32

  @property
  def name(self) -> str:
    """The case in words, for the table."""
    text = f'{self.kind}, {self.images} image{"s" * (self.images > 1)}'
    if self.kind == 'encode':
      return text
    search = 'greedy' if self.beams == 1 else f'{self.beams} beams'
    return f'{text}, batch {self.batch}, {search}'

  @property
  def units(self) -> int:
    """How many units a run makes: images, or new tokens of answers."""
    if self.kind == 'encode':
      return self.images
    if self.kind == 'decode':
      return self.batch
    return self.batch * self.new_tokens

  def inputs(self, config: MMICLConfig) -> tuple[np.ndarray, np.ndarray]:
    """Random (tokens i32[B, T], images u8[B, N, H, W, 3]) for both sides."""
    rng = np.random.default_rng(0)
    size, queries = config.vit.image_size, config.qformer.num_queries
    shape = (self.batch, self.text_tokens + queries * self.images)
    tokens = rng.integers(2, 30000, shape).astype(np.int32)
    tokens[:, : queries * self.images] = config.image_token
    tokens[:, -1] = 1
    shape = (self.batch, self.images, size, size, 3)
    images = rng.integers(0, 256, shape).astype(np.uint8)
    if self.kind == 'questions':
      images[:] = images[:1]
    return tokens, images


class Side(Protocol):
  """One side of a benchmark."""

  def run(self, case: Any) -> np.ndarray:
    """Runs a case once; returns what the sides must agree in."""
    ...


class OurAnswers:
  """The engine of this package."""

  def __init__(self, directory: str, dtype: str, threads: int):
    import jax

    from mmicl_jax.convert.loading import load_pretrained
    from mmicl_jax.decoding.options import Options
    from mmicl_jax.inference.engine import Engine
    from mmicl_jax.inference.prompts import Request
    from mmicl_jax.models import configs

    config, params, _ = load_pretrained(
      directory, dtype=dtype, scan_layers=False
    )
    config = configs.with_execution(config, dtype=dtype, param_dtype=dtype)
    self._engine = Engine(config, params, batch_size=64)
    model = self._engine.model
    self._project = jax.jit(
      lambda params, seen: model.apply(
        {'params': params}, seen, method=lambda module, x: module.projector(x)
      )
    )
    self._prompt, self._options, self._jax = Request, Options, jax

  def run(self, case: AnswerCase) -> np.ndarray:
    """Visual tokens for 'encode', else each prompt's new tokens."""
    engine = self._engine
    tokens, images = case.inputs(engine.config)
    # One run's cached images and prompts must not speed up the next. Only
    # 'generate' begins with encoded images.
    engine.reader.forget(images=case.kind != 'generate')
    prompts = [
      self._prompt(row, tuple(own))
      for row, own in zip(tokens, images, strict=True)
    ]
    if case.kind == 'encode':
      known = engine.reader.features(prompts)
      seen = np.stack([known[key] for key in prompts[0].image_keys])
      return np.asarray(self._project(engine.params, seen))
    options = self._options(
      num_beams=case.beams,
      max_new_tokens=case.new_tokens,
      min_new_tokens=case.new_tokens,
    )
    return np.stack([r.tokens[0] for r in engine.generate(prompts, options)])


class TheirAnswers:
  """transformers' BLIP-2, its towers called one by one.

  `Blip2ForConditionalGeneration` takes one image for each prompt.
  """

  def __init__(self, directory: str, dtype: str, threads: int):
    import torch

    self._torch = torch
    self._model = load_theirs(directory, dtype, threads)
    self._known: dict[AnswerCase, Any] = {}

  def run(self, case: AnswerCase) -> np.ndarray:
    """Visual tokens for 'encode', else each prompt's new tokens."""
    with self._torch.inference_mode():
      return self._run(case)

  def _run(self, case: AnswerCase) -> np.ndarray:
    torch = self._torch
    if case not in self._known:
      self._known[case] = self._inputs(case)
    ids, pixels, embeds = self._known[case]
    if case.kind == 'encode':
      return self._embed(pixels[0]).float().cpu().numpy()
    if case.kind == 'questions':
      embeds = self._splice(ids, pixels)
    found = self._model.language_model.generate(
      inputs_embeds=embeds,
      attention_mask=torch.ones_like(ids),
      num_beams=case.beams,
      max_new_tokens=case.new_tokens,
      min_new_tokens=case.new_tokens,
      do_sample=False,
    )
    return found[:, 1:].cpu().numpy()

  def _inputs(self, case: AnswerCase) -> tuple[Any, Any, Any]:
    from mmicl_jax.models.mmicl import MEAN, STD

    torch = self._torch
    device = self._model.device
    tokens, images = case.inputs(sizes_of(self._model))
    x = (images / 255 - np.array(MEAN)) / np.array(STD)
    x = torch.tensor(x.transpose(0, 1, 4, 2, 3)).to(device, self._model.dtype)
    ids = torch.tensor(tokens).long().to(device)
    embeds = self._splice(ids, x) if case.kind == 'generate' else None
    return ids, x, embeds

  def _embed(self, pixels: Any) -> Any:
    """Turns images [N, 3, H, W] into visual tokens [N, Q, D]."""
    read = read_images(self._model, pixels)
    return self._model.language_projection(read)

  def _splice(self, ids: Any, pixels: Any) -> Any:
    embeds = self._model.get_input_embeddings()(ids)
    visual = self._embed(pixels.flatten(0, 1))
    mask = (ids == self._model.config.image_token_index)[..., None]
    return embeds.masked_scatter(mask, visual.to(embeds.dtype))


def load_theirs(directory: str, dtype: str, threads: int) -> Any:
  """Loads transformers' BLIP-2 without dropout, on a GPU if there is one."""
  import torch
  import transformers

  torch.set_num_threads(threads)
  transformers.utils.logging.set_verbosity_error()
  transformers.utils.logging.disable_progress_bar()
  model: Any = transformers.Blip2ForConditionalGeneration.from_pretrained(
    directory, dtype=getattr(torch, dtype)
  )
  return model.eval().to('cuda' if torch.cuda.is_available() else 'cpu')


def sizes_of(model: Any) -> MMICLConfig:
  """A configuration with the sizes that a case needs to make its inputs."""
  from mmicl_jax.models.configs import TINY

  theirs = model.config
  return dataclasses.replace(
    TINY,
    vit=dataclasses.replace(
      TINY.vit, image_size=theirs.vision_config.image_size
    ),
    qformer=dataclasses.replace(
      TINY.qformer, num_queries=theirs.num_query_tokens
    ),
    image_token=theirs.image_token_index,
  )


def read_images(model: Any, pixels: Any) -> Any:
  """Runs transformers' ViT and Q-Former: [N, 3, H, W] -> [N, Q, E]."""
  features = model.vision_model(pixel_values=pixels)[0]
  queries = model.query_tokens.expand(len(pixels), -1, -1)
  return model.qformer(query_embeds=queries, encoder_hidden_states=features)[0]


def serve(
  pipe: Connection,
  make: Callable[[str, str, int], Side],
  directory: str,
  dtype: str,
  threads: int,
) -> None:
  """What a side's process runs: receives cases, sends (seconds, output).

  It ends when it receives None. make: builds the side from (directory, dtype,
  threads).
  """
  if hasattr(os, 'sched_setaffinity'):
    cores = sorted(os.sched_getaffinity(0))[:threads]
    os.sched_setaffinity(0, cores)
  made = make(directory, dtype, threads)
  pipe.send('ready')
  while (case := pipe.recv()) is not None:
    start = time.perf_counter()
    output = made.run(case)
    pipe.send((time.perf_counter() - start, output))

"""`mmicl bench train` and `mmicl bench features`: times of a training step.

train compares ours with transformers and PyTorch's AdamW. Both have the same
weights, batch and trainable set (stage 1: Q-Former, queries and projector;
stage 2: the projector, and the query and value of every T5 attention), clip
gradients, run frozen parts without gradients where they can, and drop nothing
out. features compares our stage-2 step on images with that on their cached
features.
"""

import dataclasses
import functools
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmicl_jax.bench.sides import Asked, Sides, save_random, timed
from mmicl_jax.bench.workers import load_theirs, read_images, sizes_of
from mmicl_jax.checkpoints import model_dir
from mmicl_jax.cost import chips, flops
from mmicl_jax.models import mmicl, trees
from mmicl_jax.models.configs import MMICLConfig
from mmicl_jax.presets import PRESETS
from mmicl_jax.runtime import show
from mmicl_jax.training import stages

RATE, DECAY, CLIP = 1e-4, 5e-4, 1.0
STAGES = {'pretrain': 1, 'tune': 2}  # profiles of training/stages.py


@dataclasses.dataclass(frozen=True)
class StepCase:
  """One thing to measure: a step on a batch of these sizes."""

  images: int
  batch: int = 4
  stage: str = 'tune'
  text_tokens: int = 128
  targets: int = 32

  @property
  def name(self) -> str:
    """The case in words, for the table."""
    images = f'{self.images} image{"s" * (self.images > 1)}'
    return f'stage-{STAGES[self.stage]} step, batch {self.batch}, {images}'

  def inputs(self, config: MMICLConfig) -> dict[str, np.ndarray]:
    """A random Batch, the same for both sides."""
    rng = np.random.default_rng(0)
    size, queries = config.vit.image_size, config.qformer.num_queries
    length = self.text_tokens + queries * self.images
    tokens = rng.integers(2, 30000, (self.batch, length)).astype(np.int32)
    tokens[:, : queries * self.images] = config.image_token
    targets = rng.integers(2, 30000, (self.batch, self.targets), np.int32)
    shape = (self.batch, self.images, size, size, 3)
    return {
      'encoder_input_tokens': tokens,
      'encoder_images': rng.integers(0, 256, shape).astype(np.uint8),
      'decoder_input_tokens': np.pad(targets, ((0, 0), (1, 0)))[:, :-1],
      'decoder_target_tokens': targets,
      'decoder_loss_weights': np.ones_like(targets),
    }


class OurSteps:
  """The step that `mmicl train` compiles; each `run` takes one step."""

  cached = False
  stage = 'tune'

  def __init__(self, directory: str, dtype: str, threads: int):
    import jax

    from mmicl_jax.convert.loading import load_pretrained
    from mmicl_jax.models import configs, mmicl, partitioning
    from mmicl_jax.training import optim, stages
    from mmicl_jax.training.settings import StepSettings
    from mmicl_jax.training.state import (
      RunLayout,
      compiled_step,
      shardings_of,
    )
    from mmicl_jax.training.step import TrainState

    if (Path(directory) / model_dir.MODEL).exists():
      config = model_dir.read_config(directory)
      init = jax.jit(mmicl.init_params, static_argnums=0)
      params = init(config, jax.random.key(0))
    else:
      # Scanned layers compile sooner, and unrolled ones run faster on a CPU.
      scan = jax.default_backend() != 'cpu'
      config, params, _ = load_pretrained(
        directory, dtype='float32', scan_layers=scan
      )
    self.config = configs.with_execution(config, dtype=dtype)
    self._mesh = partitioning.make_mesh()
    steps = StepSettings(
      train_steps=1,
      batch_size=StepCase.batch,
      learning_rate=optim.constant(RATE),
      optimizer=functools.partial(optim.adamw, weight_decay=DECAY, clip=CLIP),
    )
    chain = steps.chain()
    layout = RunLayout.of(self.config, self.stage, chain, self._mesh, dtype)
    trainable, self._frozen = jax.device_put(
      stages.split_params(params, self.stage),
      shardings_of((layout.state.params, layout.frozen)),
    )
    self._frozen = jax.tree.map(lambda x: x.astype(dtype), self._frozen)
    # Placed as `mmicl train` does; otherwise the second step compiles again.
    self._state = jax.device_put(
      TrainState(jax.numpy.int32(0), trainable, jax.jit(chain.init)(trainable)),
      shardings_of(layout.state),
    )
    self._step = compiled_step(layout, steps)
    self._batches: dict[Any, Any] = {}

  def prepare(self, case: Any) -> None:
    """Makes the batch of a case and puts it on the device."""
    if case not in self._batches:
      self._batches[case] = self._batch(case)

  def run(self, case: Any) -> np.ndarray:
    """Takes a step; returns the loss before it. case: such as a StepCase."""
    self.prepare(case)
    self._state, metrics = self._step(
      self._state, self._frozen, self._batches[case]
    )
    return np.asarray(metrics['loss'])

  def _batch(self, case: Any) -> Any:
    from mmicl_jax.inference.feature_cache import embedder
    from mmicl_jax.training.step import to_device

    batch = case.inputs(self.config)
    if self.cached:
      pixels = batch.pop('encoder_images')
      flat = pixels.reshape(-1, *pixels.shape[2:])
      from mmicl_jax.training import stages

      params = stages.merge_params(self._state.params, self._frozen)
      features = embedder(self.config, params)(flat, len(flat))
      batch['encoder_features'] = features.reshape(
        *pixels.shape[:2], *features.shape[1:]
      )
    return to_device(batch, self._mesh)


class TheirSteps:
  """A step of transformers' BLIP-2 with PyTorch's AdamW.

  `Blip2ForConditionalGeneration` takes one image for each prompt, so the towers
  are called one by one.
  """

  stage = 'tune'

  def __init__(self, directory: str, dtype: str, threads: int):
    import torch

    self._torch = torch
    self._model = load_theirs(directory, dtype, threads)
    self._trained = []
    for name, parameter in self._model.named_parameters():
      parameter.requires_grad_(trains(name, self.stage))
      if parameter.requires_grad:
        self._trained.append(parameter)
    self._optimizer = torch.optim.AdamW(
      self._trained, lr=RATE, weight_decay=DECAY
    )
    self._batches: dict[StepCase, Any] = {}

  def run(self, case: StepCase) -> np.ndarray:
    """Takes a step; returns the loss before it."""
    torch, model = self._torch, self._model
    if case not in self._batches:
      self._batches[case] = self._batch(case)
    tokens, pixels, labels = self._batches[case]
    # No gradient comes from the ViT, nor, in stage 2, from the Q-Former.
    with torch.set_grad_enabled(self.stage == 'pretrain'):
      read = read_images(model, pixels)
    with torch.no_grad():
      text = model.get_input_embeddings()(tokens)
    visual = model.language_projection(read)
    slots = (tokens == model.config.image_token_index)[..., None]
    loss = model.language_model(
      inputs_embeds=text.masked_scatter(slots, visual.to(text.dtype)),
      attention_mask=torch.ones_like(tokens),
      labels=labels,
    ).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(self._trained, CLIP)
    self._optimizer.step()
    self._optimizer.zero_grad()
    return loss.detach().float().cpu().numpy()

  def _batch(self, case: StepCase) -> tuple[Any, Any, Any]:
    from mmicl_jax.models.mmicl import MEAN, STD

    torch, device = self._torch, self._model.device
    batch = case.inputs(sizes_of(self._model))
    x = (batch['encoder_images'] / 255 - np.array(MEAN)) / np.array(STD)
    x = x.reshape(-1, *x.shape[2:]).transpose(0, 3, 1, 2)
    pixels = torch.tensor(x).to(device, self._model.dtype)
    tokens, labels = (
      torch.tensor(batch[name]).long().to(device)
      for name in ('encoder_input_tokens', 'decoder_target_tokens')
    )
    return tokens, pixels, labels


def trains(name: str, stage: str = 'tune') -> bool:
  """Whether a stage trains the parameter of this name in transformers."""
  if stage == 'pretrain':
    return name.startswith(('qformer.', 'query_tokens', 'language_projection.'))
  return name.startswith('language_projection.') or name.endswith(
    (
      *('SelfAttention.q.weight', 'SelfAttention.v.weight'),
      *('EncDecAttention.q.weight', 'EncDecAttention.v.weight'),
    )
  )


class CachedSteps(OurSteps):
  """Our step on the images' cached features instead of the images."""

  cached = True


class OurFirstSteps(OurSteps):
  """Our step of stage 1."""

  stage = 'pretrain'


class TheirFirstSteps(TheirSteps):
  """Their step of stage 1."""

  stage = 'pretrain'


def run_steps(
  size: str,
  images: Sequence[int],
  dtype: str,
  threads: int,
  rounds: int,
  *,
  batches: Sequence[int] = (StepCase.batch,),
  stage: str = 'tune',
  cached: bool = False,
) -> Iterator[dict[str, Any]]:
  """Measures the step at one size; yields a dictionary for each case.

  A case is one of `images` with one of `batches`. cached: compares our stage-2
  step on cached features with our step on images, instead of ours with
  transformers.
  """
  import jax

  makers: dict[str, Any] = {'ours': OurSteps, 'theirs': TheirSteps}
  if stage == 'pretrain':
    makers = {'ours': OurFirstSteps, 'theirs': TheirFirstSteps}
  if cached:
    makers = {'cached': CachedSteps, 'images': OurSteps}
  sides = {name: (maker, dtype) for name, maker in makers.items()}
  with tempfile.TemporaryDirectory() as directory:
    if cached:
      model_dir.write_config(directory, PRESETS[size])
    else:
      save_random(PRESETS[size], directory, dtype)
    with Sides(sides, directory, threads) as workers:
      for count, batch in itertools.product(images, batches):
        case = StepCase(count, batch, stage)
        row = measure_steps(size, case, workers, rounds)
        kind = jax.devices()[0].device_kind
        if not cached:
          row |= _used(size, case, min(row['seconds']['ours']), kind)
        yield row


def _used(
  size: str, case: StepCase, seconds: float, device_kind: str
) -> dict[str, float]:
  """The model FLOP/s of our step, and their share of the device's peak."""
  config = PRESETS[size]
  trainable, _ = stages.split_params(mmicl.abstract_params(config), case.stage)
  inputs = case.text_tokens + config.qformer.num_queries * case.images
  lengths = flops.Lengths(inputs, case.targets, case.images)
  each = flops.train_step_flops(config, trees.flatten(trainable), lengths)
  found = {'model_flops_per_second': each * case.batch / seconds}
  peak = chips.peak(device_kind)
  share = (
    {} if peak is None else {'mfu': found['model_flops_per_second'] / peak}
  )
  return found | share


def measure_steps(
  size: str, case: Any, workers: Asked, rounds: int
) -> dict[str, Any]:
  """Times a step of both sides in turns, of which each begins with one more.

  Times are in seconds. losses_within: the largest relative difference between
  the two sides' losses.
  """
  losses: dict[str, list[float]] = {name: [] for name in workers.names}
  seconds: dict[str, list[float]] = {name: [] for name in workers.names}
  for _ in range(rounds):
    for name in workers.names:
      (_, before), (spent, after) = (workers.ask(name, case) for _ in range(2))
      seconds[name].append(spent)
      losses[name] += [float(before), float(after)]
  (one, two), (a, b) = seconds.values(), losses.values()
  return {
    'size': size,
    'case': case.name,
    'ratio_of_medians': float(np.median(two) / np.median(one)),
    'ratio_of_minima': min(two) / min(one),
    'losses_within': float(np.max(np.abs(np.array(a) / np.array(b) - 1))),
    'seconds': seconds,
  }


def steps_table(results: Sequence[dict[str, Any]]) -> str:
  """A Markdown table; seconds are 'median (least to most)'."""
  rows = []
  for result in results:
    row = timed(result)
    row['losses agree'] = f'within {result["losses_within"]:.0e}'
    if 'model_flops_per_second' in result:
      row['TFLOP/s'] = f'{result["model_flops_per_second"] / 1e12:.3g}'
    if 'mfu' in result:
      row['MFU'] = f'{result["mfu"]:.1%}'
    rows.append(row)
  return show.markdown(rows)

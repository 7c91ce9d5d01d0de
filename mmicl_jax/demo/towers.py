"""The demo's stand-in for pre-trained towers: pictures of a class come near.

EVA-CLIP and BLIP-2's Q-Former were pre-trained by contrast, of images with
texts. Here pictures of one class are contrasted with those of others: of four
pictures of each class two make its prototype, and the other two must find it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, UInt8

from mmicl_jax.checkpoints import model_dir, store
from mmicl_jax.checkpoints.fingerprint import TOWERS
from mmicl_jax.demo.heads import ready_heads
from mmicl_jax.demo.pictures import Gallery
from mmicl_jax.models.configs import MMICLConfig
from mmicl_jax.models.mmicl import MMICL, init_params
from mmicl_jax.runtime.progress import ProgressBar
from mmicl_jax.training import optim, stages

KINDS, EACH = 64, 4  # classes of a batch, and pictures of each
PROFILE = tuple(f'^{name}(/|$)' for name in TOWERS)
_SCALE = 10.0  # of cosines, at the beginning


def train_towers(
  model: MMICLConfig,
  gallery: Gallery,
  out: Path,
  steps: int,
  learning_rate: float,
  seed: int,
  record: Callable[[int, float, float], None],
) -> stages.Ledger:
  """Trains ViT and Q-Former and writes a checkpoint of the whole model.

  The language model in it is new. record: called now and then with a step,
  the loss, and how many of the pictures found their prototype (0 to 1).
  Returns the ledger.
  """
  params = ready_heads(
    jax.jit(lambda key: init_params(model, key))(jax.random.key(seed))
  )
  towers, rest = stages.split_params(params, PROFILE)
  schedule = optim.warmup_linear(learning_rate, steps, warmup=0.05, final=0.05)
  chain = optim.adamw(schedule, b2=0.98)
  trained: Any = (towers, jnp.log(_SCALE))
  state = chain.init(trained)
  module = MMICL(model)

  def loss_of(trained: Any, images: UInt8[Array, 'B 1 H W 3']):
    towers, scale = trained
    whole = stages.merge_params(towers, rest)
    read: Any = module.apply({'params': whole}, images, method='read_images')
    return contrast(read.reshape(len(images), -1), jnp.exp(scale))

  @jax.jit
  def step_of(trained: Any, state: Any, images: UInt8[Array, 'B 1 H W 3']):
    (loss, right), grads = jax.value_and_grad(loss_of, has_aux=True)(
      trained, images
    )
    updates, state = chain.update(grads, state, trained)
    return optax.apply_updates(trained, updates), state, loss, right

  with ProgressBar('towers', steps) as bar:
    for step in range(steps):
      images = batch_of_pictures(gallery, seed, step)
      trained, state, loss, right = step_of(trained, state, images)
      if step % 25 == 24 or step + 1 == steps:
        record(step + 1, float(loss), float(right))
      bar.step(step + 1)
  model_dir.write_config(out, model)
  store.save_weights(out, stages.merge_params(trained[0], rest), steps)
  return stages.ledger_of(params, PROFILE, chain)


def contrast(
  read: Float[Array, 'B D'], scale: Float[Array, ''] | float
) -> tuple[Float[Array, ''], Float[Array, '']]:
  """The loss of pictures, EACH of a class in a row, and the share found."""
  unit = read / jnp.linalg.norm(read, axis=-1, keepdims=True)
  unit = unit.reshape(-1, EACH, unit.shape[-1])
  half = EACH // 2
  prototypes = unit[:, :half].mean(axis=1)
  asked = unit[:, half:].reshape(-1, unit.shape[-1])
  scores = asked @ prototypes.T * scale
  classes = jnp.repeat(jnp.arange(len(prototypes)), EACH - half)
  losses = optax.softmax_cross_entropy_with_integer_labels(scores, classes)
  return losses.mean(), (scores.argmax(axis=-1) == classes).mean()


def batch_of_pictures(
  gallery: Gallery, seed: int, step: int
) -> UInt8[np.ndarray, 'B 1 H W 3']:
  """The pictures of one step, which depend on its number and the seed alone."""
  rng = np.random.default_rng((seed, step))
  kinds = np.repeat(gallery.draw_kinds(KINDS, rng), EACH)
  drawn = gallery.draw([int(kind) for kind in kinds], rng)
  return np.stack([picture.pixels for picture in drawn])[:, None]

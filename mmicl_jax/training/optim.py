"""The AdamW that MMICL was trained with, and learning-rate schedules.

The chain clips by the global norm. It only gets the trainable half of the
parameters, so the norm is that of their gradients.
"""

import math

import jax.numpy as jnp
import optax

from mmicl_jax.errors import UserError


def adamw(
  learning_rate: optax.Schedule,
  *,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-8,
  weight_decay: float = 5e-4,
  clip: float = 1.0,
) -> optax.GradientTransformation:
  """Clips by the global norm, then takes AdamW's step.

  Weight decay acts on biases too, as in MMICL's published code. learning_rate:
  a schedule even if it is constant, so that the optimizer's state, and with it
  a checkpoint, always has the same shape. Raises UserError unless clip > 0 and
  weight_decay >= 0.
  """
  if clip <= 0 or weight_decay < 0:
    raise UserError(
      f'optim.adamw.clip ({clip}) must be above 0 and weight_decay '
      f'({weight_decay}) at least 0'
    )
  return optax.chain(
    optax.clip_by_global_norm(clip),
    optax.adamw(
      learning_rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay
    ),
  )


def constant(learning_rate: float) -> optax.Schedule:
  """The same rate at every step; raises UserError for a negative one."""
  _check_rate(learning_rate)
  return optax.constant_schedule(learning_rate)


def log_warmup(
  learning_rate: float, train_steps: int, warmup: float = 0.2
) -> optax.Schedule:
  """DeepSpeed's WarmupLR: peak * ln(step + 1) / ln(warm-up steps), then peak.

  The rate never decays. warmup: the share of `train_steps` that warms up. This
  is the schedule of MMICL's published scripts. Raises UserError for a negative
  rate, and unless 0 <= warmup < 1, as the schedules below do.
  """
  _check_rate(learning_rate)
  # At least two steps, as in DeepSpeed, because ln(1) would divide by zero.
  warmup_steps = max(2, _warmup_steps(train_steps, warmup))

  def schedule(step):
    gamma = jnp.log1p(jnp.asarray(step, jnp.float32)) / math.log(warmup_steps)
    return learning_rate * jnp.minimum(gamma, 1.0)

  return schedule


def warmup_cosine(
  learning_rate: float,
  train_steps: int,
  warmup: float = 0.1,
  final: float = 0.0,
) -> optax.Schedule:
  """Rises linearly from 0 to the peak, then falls by a cosine to final * peak.

  warmup: the share of `train_steps` that warms up.
  """
  _check_rate(learning_rate)
  return optax.warmup_cosine_decay_schedule(
    init_value=0.0,
    peak_value=learning_rate,
    # At least one step comes after the warm-up, however short the run is.
    warmup_steps=min(_warmup_steps(train_steps, warmup), train_steps - 1),
    decay_steps=train_steps,
    end_value=final * learning_rate,
  )


def warmup_linear(
  learning_rate: float,
  train_steps: int,
  warmup: float = 0.1,
  final: float = 0.0,
) -> optax.Schedule:
  """Rises linearly from 0 to the peak, then falls linearly to final * peak.

  warmup: the share of `train_steps` that warms up.
  """
  _check_rate(learning_rate)
  warmup_steps = min(_warmup_steps(train_steps, warmup), train_steps - 1)
  return optax.join_schedules(
    [
      optax.linear_schedule(0.0, learning_rate, warmup_steps),
      optax.linear_schedule(
        learning_rate, final * learning_rate, train_steps - warmup_steps
      ),
    ],
    [warmup_steps],
  )


def steps(examples: int, epochs: int, batch_size: int) -> int:
  """The number of training steps for `epochs` passes over the examples."""
  return math.ceil(examples * epochs / batch_size)


def _check_rate(learning_rate: float) -> None:
  if learning_rate < 0:
    raise UserError(
      f'the learning rate is {learning_rate}: give a PEAK_RATE that is not '
      'below 0'
    )


def _warmup_steps(train_steps: int, warmup: float) -> int:
  if not 0 <= warmup < 1:
    raise UserError(
      f'warmup is {warmup}, but it is a share of the training steps: '
      'give a number from 0 up to, but not including, 1'
    )
  return math.ceil(train_steps * warmup)

"""Records our model's values at the places that the parity report compares.

The layers run one by one (scan_layers=False), so that each one's output can be
seen.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmicl_jax.convert import rules
from mmicl_jax.decoding.options import Options
from mmicl_jax.inference.engine import Engine
from mmicl_jax.inference.prompts import Request
from mmicl_jax.models import trees
from mmicl_jax.models.configs import MMICLConfig
from mmicl_jax.models.mmicl import MMICL, splice
from mmicl_jax.models.qformer import QFormerLayer
from mmicl_jax.models.t5 import DecoderLayer, EncoderLayer
from mmicl_jax.models.vit import ViTLayer
from mmicl_jax.training import stages
from mmicl_jax.types import PAD

Arrays = dict[str, np.ndarray]
LAYERS = (ViTLayer, QFormerLayer, EncoderLayer, DecoderLayer)


@dataclasses.dataclass(frozen=True)
class Trace:
  """What one model computed for a batch.

  values: the array at each place, by its name in the report, in the order of
  the computation. gradients: by PyTorch's parameter names, in its layouts.
  generated: {'greedy' or 'beam': each row's tokens, without padding}.
  scores: the scores of each row's two best beams.
  """

  values: Arrays
  gradients: Arrays
  generated: dict[str, list[list[int]]]
  scores: list[list[float]]


def trace_jax(
  config: MMICLConfig,
  params: Mapping[str, Any],
  batch: Mapping[str, np.ndarray],
  counts: Sequence[int],
  trainable: stages.Profile,
  options: Options,
) -> Trace:
  """Runs our model on a batch and records what it computes.

  config: with scan_layers=False and float32; params are laid out likewise.
  counts: how many images each row has; the rest are padding. trainable: the
  parameters to differentiate. options: those of the beam search.
  """
  arrays = {name: jnp.asarray(value) for name, value in batch.items()}
  values = _values(config, params, arrays, counts)
  loss, gradients = _gradients(config, params, arrays, trainable)
  values['loss'] = np.asarray(loss)
  generated, scores = _generate(config, params, batch, counts, options)
  return Trace(values, gradients, generated, scores)


def trainable_names(config: MMICLConfig, profile: stages.Profile) -> set[str]:
  """The PyTorch names of the parameters that a stage trains."""
  slots = rules.bind(config)
  tree = trees.unflatten({s.path: 0 for s in slots})
  chosen, _ = stages.split_params(tree, profile)
  paths = trees.flatten(chosen)
  return {slot.torch for slot in slots if slot.path in paths}


def _values(config, params, batch, counts) -> Arrays:
  model = MMICL(config)

  def wanted(module: nn.Module, method: str) -> bool:
    return (
      isinstance(module, LAYERS)
      or module.name in ('patch_embedding', 'projector')
      or (module.name == 't5' and method == 'embed')
    )

  logits, state = jax.jit(
    lambda p, b: model.apply(
      {'params': p}, b, capture_intermediates=wanted, mutable='intermediates'
    )
  )(params, batch)
  seen = state['intermediates']
  values: dict[str, Any] = {}
  rows = batch['encoder_input_tokens'].shape[0]
  if 'vit' in seen:
    most = batch['encoder_images'].shape[1]
    real = np.array([n < count for count in counts for n in range(most)])

    def images(module: Mapping[str, Any]) -> np.ndarray:
      value = module['__call__'][0]
      value = value[0] if isinstance(value, tuple) else value
      return np.asarray(value)[real]

    values['patch embedding'] = images(seen['vit']['patch_embedding'])
    for i in range(config.vit.num_layers):
      values[f'ViT layer {i}'] = images(seen['vit'][f'layers_{i}'])
    for i in range(config.qformer.num_layers):
      path, _ = rules.place(config, 'qformer/{layer}', i)
      _, group, layer = path.split('/')
      values[f'Q-Former layer {i}'] = images(seen['qformer'][group][layer])
    # Only the projector's output has an axis of rows: [B, N, Q, D].
    projected = np.asarray(seen['projector']['__call__'][0])
    projected = projected.reshape(-1, *projected.shape[2:])
    values['projection'] = projected[real]
  text = seen['t5']['embed'][0]
  if 'projector' in seen:
    visual = seen['projector']['__call__'][0].reshape(rows, -1, text.shape[-1])
    is_image = batch['encoder_input_tokens'] == config.image_token
    text = splice(text, visual, is_image)
  real = np.asarray(batch['encoder_input_tokens'] != PAD)
  values['spliced embeddings'] = np.asarray(text)[real]
  for stack, count in (
    ('encoder', config.t5.num_encoder_layers),
    ('decoder', config.t5.num_decoder_layers),
  ):
    for i in range(count):
      x = seen['t5'][stack][f'layers_{i}']['__call__'][0][0]
      x = np.asarray(x)
      values[f'T5 {stack} layer {i}'] = x[real] if stack == 'encoder' else x
  values['logits'] = np.asarray(logits)
  return values


def _gradients(config, params, batch, trainable):
  model = MMICL(config)
  chosen, frozen = stages.split_params(params, trainable)
  weights = batch['decoder_loss_weights'].astype(jnp.float32)

  @jax.jit
  @jax.value_and_grad
  def loss(part, frozen):
    logits: Any = model.apply(
      {'params': stages.merge_params(part, frozen)}, batch
    )
    logs = jax.nn.log_softmax(logits)
    target = batch['decoder_target_tokens'][..., None]
    picked = jnp.take_along_axis(logs, target, -1)[..., 0]
    return -(picked * weights).sum() / weights.sum()

  value, tree = loss(chosen, frozen)
  flat = trees.flatten(tree)
  gradients = {
    slot.torch: slot.layout.to_torch(
      np.asarray(flat[slot.path]), slot.torch_shape
    )
    for slot in rules.bind(config)
    if slot.path in flat
  }
  return value, gradients


def _generate(config, params, batch, counts, options):
  engine = Engine(config, params, batch_size=len(counts))
  prompts = []
  for b, count in enumerate(counts):
    tokens = batch['encoder_input_tokens'][b]
    words = batch.get('qformer_input_tokens')
    prompts.append(
      Request(
        tokens[tokens != PAD],
        tuple(batch['encoder_images'][b, :count]) if count else (),
        None if words is None else words[b],
      )
    )
  greedy = dataclasses.replace(options, num_beams=1, num_return_sequences=1)
  best = dataclasses.replace(options, num_return_sequences=2)
  searched = engine.generate(prompts, best)
  generated = {
    name: [r.tokens[0, : r.lengths[0]].tolist() for r in results]
    for name, results in (
      ('greedy', engine.generate(prompts, greedy)),
      ('beam', searched),
    )
  }
  return generated, [r.scores.tolist() for r in searched]

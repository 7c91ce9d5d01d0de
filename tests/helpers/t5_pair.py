"""A small random T5 in transformers and the same weights in ours."""

import dataclasses
import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmicl_jax.decoding import loop
from mmicl_jax.models import configs
from mmicl_jax.models.mmicl import MMICL, init_params

VOCABULARY = 40
IMAGE = 33

CONFIG = configs.with_execution(
  dataclasses.replace(
    configs.TINY,
    vit=dataclasses.replace(configs.TINY.vit, hidden_size=16, num_layers=1),
    qformer=dataclasses.replace(
      configs.TINY.qformer, hidden_size=16, num_queries=2, instruction=False
    ),
    t5=configs.T5Config(
      16, 2, 2, num_heads=2, head_dim=8, mlp_dim=24, vocab_size=VOCABULARY
    ),
    image_token=IMAGE,
  ),
  scan_layers=False,
)


def make(seed: int = 8, queries: float = 1.0):
  """(transformers' model, our model, our parameters).

  The seed is one whose answers have many different tokens and lengths.
  `queries` multiplies the weights of attention's queries: at 1 the attention is
  sharp, and a sum in another order moves its scores by more than 1e-5; at T5's
  own head_dim ** -0.5 it does not.
  """
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  torch.manual_seed(seed)
  t5 = CONFIG.t5
  config = transformers.T5Config(
    d_model=t5.hidden_size,
    d_kv=t5.head_dim,
    d_ff=t5.mlp_dim,
    num_layers=t5.num_encoder_layers,
    num_decoder_layers=t5.num_decoder_layers,
    num_heads=t5.num_heads,
    vocab_size=t5.vocab_size,
    feed_forward_proj='gated-gelu',
    dense_act_fn='gelu',
    tie_word_embeddings=False,
    decoder_start_token_id=0,
    pad_token_id=0,
    eos_token_id=1,
  )
  config.dense_act_fn = 'gelu'
  model = transformers.T5ForConditionalGeneration(config).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      if parameter.ndim > 1:
        parameter.normal_(0, 0.5)
    for name, parameter in model.named_parameters():
      if name.endswith('Attention.q.weight'):
        parameter *= queries
    model.shared.weight.normal_(0, 1)
    model.lm_head.weight.normal_(0, 0.6)
    model.lm_head.weight[1] *= 2.2  # some rows end early
  params = jax.jit(init_params, static_argnums=0)(CONFIG, jax.random.key(seed))
  weights = {k: v.detach().numpy() for k, v in model.state_dict().items()}
  params = {**params, 't5': tree(weights)}
  return model, MMICL(CONFIG), params


def tree(weights: Mapping[str, np.ndarray]) -> dict:
  """transformers' T5 weights under our names, layers apart."""
  heads = (CONFIG.t5.num_heads, CONFIG.t5.head_dim)

  def attention(name: str) -> dict:
    ours = {'q': 'query', 'k': 'key', 'v': 'value'}
    result = {
      new: {'kernel': weights[f'{name}.{old}.weight'].T.reshape(-1, *heads)}
      for old, new in ours.items()
    }
    out = weights[f'{name}.o.weight'].T.reshape(*heads, -1)
    return result | {'out': {'kernel': out}}

  def stack(side: str, parts: list[tuple[str, str, str]]) -> dict:
    count = CONFIG.t5.num_encoder_layers
    layers = {}
    for i in range(count):
      block = f'{side}.block.{i}.layer'
      layer = {}
      for j, (own, theirs, norm) in enumerate(parts):
        layer[norm] = {'scale': weights[f'{block}.{j}.layer_norm.weight']}
        name = f'{block}.{j}.{theirs}'
        if own == 'mlp':
          layer[own] = {
            w: {'kernel': weights[f'{name}.{w}.weight'].T}
            for w in ('wi_0', 'wi_1', 'wo')
          }
        else:
          layer[own] = attention(name)
      layers[f'layers_{i}'] = layer
    bias = f'{side}.block.0.layer.0.SelfAttention.relative_attention_bias'
    return {
      **layers,
      'relative_bias': {'embedding': weights[f'{bias}.weight']},
      'final_norm': {'scale': weights[f'{side}.final_layer_norm.weight']},
    }

  own = ('self_attention', 'SelfAttention', 'pre_attention_norm')
  cross = ('cross_attention', 'EncDecAttention', 'pre_cross_attention_norm')
  mlp = ('mlp', 'DenseReluDense', 'pre_mlp_norm')
  result = {
    'token_embedder': {'embedding': weights['shared.weight']},
    'encoder': stack('encoder', [own, mlp]),
    'decoder': stack('decoder', [own, cross, mlp]),
    'lm_head': {'kernel': weights['lm_head.weight'].T},
  }
  return jax.tree.map(jnp.asarray, result)


def random_weights(seed: int) -> dict[str, np.ndarray]:
  """Weights like those of `make`, under transformers' names and without it.

  Their answers are of many lengths, and far from ties.
  """
  t5, rng = CONFIG.t5, np.random.default_rng(seed)
  width, inner = t5.hidden_size, t5.num_heads * t5.head_dim
  shapes = {
    'q': (inner, width),
    'k': (inner, width),
    'v': (inner, width),
    'o': (width, inner),
    'wi_0': (t5.mlp_dim, width),
    'wi_1': (t5.mlp_dim, width),
    'wo': (width, t5.mlp_dim),
  }
  weights = {
    'shared.weight': rng.normal(0, 1, (VOCABULARY, width)),
    'lm_head.weight': rng.normal(0, 0.6, (VOCABULARY, width)),
  }
  weights['lm_head.weight'][1] *= 2.2  # some rows end early
  for side in ('encoder', 'decoder'):
    weights[f'{side}.embed_tokens.weight'] = weights['shared.weight']
    weights[f'{side}.final_layer_norm.weight'] = np.ones(width)
    bias = (t5.relative_buckets, t5.num_heads)
    weights[
      f'{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight'
    ] = rng.normal(0, 0.5, bias)
    parts = ['SelfAttention', 'EncDecAttention', 'DenseReluDense']
    if side == 'encoder':
      parts.remove('EncDecAttention')
    for i in range(t5.num_encoder_layers):
      for j, part in enumerate(parts):
        layer = f'{side}.block.{i}.layer.{j}'
        weights[f'{layer}.layer_norm.weight'] = np.ones(width)
        names = ('wi_0', 'wi_1', 'wo') if 'Dense' in part else 'qkvo'
        for name in names:
          each = rng.normal(0, 0.5, shapes[name])
          each *= t5.head_dim**-0.5 if name == 'q' else 1
          weights[f'{layer}.{part}.{name}.weight'] = each
  return {name: x.astype(np.float32) for name, x in weights.items()}


@functools.partial(jax.jit, static_argnums=(0, 5))
def answers(
  model, params, encoded, is_token, keys, static, dynamic, stops=None
):
  """What `decoding` makes of encoded prompts, read and answered at once."""
  prompt = loop.prefill(model, params, encoded, is_token)
  return loop.decode(model, params, prompt, keys, static, dynamic, stops)


def prompts(count: int = 5, seed: int = 0) -> np.ndarray:
  """Token ids [count, 12], rows of different lengths, padded with 0."""
  rng = np.random.default_rng(seed)
  tokens = rng.integers(2, 32, (count, 12)).astype(np.int32)
  for i, length in enumerate(rng.integers(3, 13, count)):
    tokens[i, length:] = 0
  return tokens

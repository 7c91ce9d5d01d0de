"""Converts the T5 section of Hugging Face's config.json, and back."""

from collections.abc import Mapping
from typing import Any

from mmicl_jax.errors import UserError
from mmicl_jax.models.configs import T5Config
from mmicl_jax.models.t5 import ACTIVATIONS
from mmicl_jax.types import EOS, PAD, START


def t5_from_hf(text: Mapping[str, Any]) -> tuple[T5Config, list[str]]:
  """Returns (T5Config, notes); absent values are Hugging Face's defaults.

  Raises UserError for T5 1.0, whose feed-forward is not gated, and for settings
  that we do not have.
  """
  feed_forward = text.get('feed_forward_proj', 'relu')
  gated = text.get('is_gated_act', feed_forward.startswith('gated-'))
  if not gated:
    raise UserError(
      f'config.json: feed_forward_proj is {feed_forward!r}; only T5 1.1 and '
      "FLAN-T5, whose feed-forward is 'gated-gelu', can be converted"
    )
  # transformers derives dense_act_fn from feed_forward_proj, but a value in the
  # file wins: BLIP-2's files say 'gelu' (erf), those of FLAN-T5 'gelu_new'.
  activation = feed_forward.split('-')[-1]
  if feed_forward == 'gated-gelu':
    activation = 'gelu_new'
  activation = text.get('dense_act_fn', activation)
  if activation not in ACTIVATIONS:
    raise UserError(
      f'config.json: dense_act_fn is {activation!r}; T5 can run with '
      f'{", ".join(ACTIVATIONS)}'
    )
  start = text.get('decoder_start_token_id')
  if start not in (None, START):
    raise UserError(
      f'config.json: text_config.decoder_start_token_id is {start!r}; only '
      f'{START} can be converted: every answer starts with it here'
    )
  layers = text.get('num_layers', 6)
  decoder_layers = text.get('num_decoder_layers')
  config = T5Config(
    hidden_size=text.get('d_model', 512),
    num_encoder_layers=layers,
    num_decoder_layers=layers if decoder_layers is None else decoder_layers,
    num_heads=text.get('num_heads', 8),
    head_dim=text.get('d_kv', 64),
    mlp_dim=text.get('d_ff', 2048),
    vocab_size=text.get('vocab_size', 32128),
    relative_buckets=text.get('relative_attention_num_buckets', 32),
    relative_max_distance=text.get('relative_attention_max_distance', 128),
    layer_norm_eps=text.get('layer_norm_epsilon', 1e-6),
    activation=activation,
    dropout_rate=text.get('dropout_rate', 0.1),
  )
  form = {'gelu': 'erf GELU', 'gelu_new': 'tanh GELU'}
  note = f"T5's feed-forward is gated with {form.get(activation, activation)}"
  return config, [note]


def head_scale(text: Mapping[str, Any]) -> float:
  """The factor of the decoder's output before the head."""
  scaled = text.get(
    'scale_decoder_outputs', text.get('tie_word_embeddings', True)
  )
  return text.get('d_model', 512) ** -0.5 if scaled else 1.0


def t5_to_hf(config: T5Config) -> dict[str, Any]:
  """A T5 config with all values, for both transformers 4.x and 5.x."""
  gate = {'gelu_new': 'gelu'}.get(config.activation, config.activation)
  return {
    'model_type': 't5',
    'architectures': ['T5ForConditionalGeneration'],
    'd_model': config.hidden_size,
    'd_kv': config.head_dim,
    'd_ff': config.mlp_dim,
    'num_layers': config.num_encoder_layers,
    'num_decoder_layers': config.num_decoder_layers,
    'num_heads': config.num_heads,
    'vocab_size': config.vocab_size,
    'relative_attention_num_buckets': config.relative_buckets,
    'relative_attention_max_distance': config.relative_max_distance,
    'layer_norm_epsilon': config.layer_norm_eps,
    'dropout_rate': config.dropout_rate,
    'feed_forward_proj': f'gated-{gate}',
    'dense_act_fn': config.activation,
    'is_gated_act': True,
    'is_encoder_decoder': True,
    'initializer_factor': 1.0,
    'scale_decoder_outputs': False,
    'tie_word_embeddings': False,
    'use_cache': True,
    'pad_token_id': PAD,
    'eos_token_id': EOS,
    'decoder_start_token_id': START,
  }

import dataclasses

import pytest

from mmicl_jax.convert.hf_config import from_hf, to_hf
from mmicl_jax.convert.hf_text import head_scale
from mmicl_jax.errors import UserError
from mmicl_jax.models import configs


def hub(**changes):
  """A config.json as the hub has it: only what differs from the defaults."""
  values = {
    'model_type': 'instructblip',
    'num_query_tokens': 32,
    'qformer_config': {
      'vocab_size': 30523,
      'model_type': 'instructblip_qformer',
    },
    'vision_config': {'model_type': 'instructblip_vision_model'},
    'text_config': {
      'model_type': 't5',
      'd_model': 2048,
      'd_ff': 5120,
      'num_layers': 24,
      'num_heads': 32,
      'dense_act_fn': 'gelu',
      'feed_forward_proj': 'gated-gelu',
      'tie_word_embeddings': False,
    },
  }
  for name, value in changes.items():
    if isinstance(value, dict):
      value = {**values.get(name, {}), **value}
    values[name] = value
  return values


def test_hub_config_is_the_preset():
  config, _ = from_hf(hub())
  assert config == configs.XL
  config, _ = from_hf(
    hub(model_type='blip-2', qformer_config={'vocab_size': 30522})
  )
  assert config.vit == configs.BLIP2_XL.vit
  assert not config.qformer.instruction


@pytest.mark.parametrize('name', ['XXL', 'BLIP2_XXL', 'TINY'])
def test_round_trip(name):
  config = getattr(configs, name)
  config = dataclasses.replace(
    config, vit=dataclasses.replace(config.vit, layer_norm_eps=1e-5)
  )
  again, _ = from_hf(to_hf(config, 'float32'))
  assert again == config


@pytest.mark.parametrize(
  'text, activation',
  [
    ({}, 'gelu'),
    ({'dense_act_fn': 'gelu_new'}, 'gelu_new'),
    ({'feed_forward_proj': 'gated-silu', 'dense_act_fn': 'silu'}, 'silu'),
  ],
)
def test_activation_of_the_file_wins(text, activation):
  assert from_hf(hub(text_config=text))[0].t5.activation == activation


def test_stock_t5_config_means_tanh_gelu():
  values = hub()
  del values['text_config']['dense_act_fn']
  config, notes = from_hf(values)
  assert config.t5.activation == 'gelu_new'
  assert any('tanh' in note for note in notes)


@pytest.mark.parametrize(
  'changes, chosen, eps, words',
  [
    ({}, None, 1e-6, "Hugging Face's default"),
    (
      {'vision_config': {'layer_norm_eps': 1e-5}},
      None,
      1e-5,
      'config.json says',
    ),
    (
      {'model_type': 'blip-2', 'transformers_version': '4.33.3'},
      None,
      1e-5,
      '4.33',
    ),
    (
      {'model_type': 'blip-2', 'transformers_version': '4.34.0'},
      None,
      1e-6,
      'Hugging',
    ),
    ({'model_type': 'blip-2'}, None, 1e-6, 'Hugging'),
    ({'transformers_version': '4.31.0'}, None, 1e-6, 'Hugging'),
    ({'qformer_config': {'vocab_size': 30623}}, None, 1e-5, 'MIC'),
    ({'text_config': {'max_sequence_length': 512}}, None, 1e-5, 'MIC'),
    ({'vision_config': {'layer_norm_eps': 1e-5}}, 1e-6, 1e-6, 'as you said'),
  ],
)
def test_eps_of_the_vit(changes, chosen, eps, words):
  config, notes = from_hf(hub(**changes), vit_eps=chosen)
  assert config.vit.layer_norm_eps == eps
  assert words in notes[0]


@pytest.mark.parametrize(
  'changes, words',
  [
    ({'model_type': 'llava'}, 'llava'),
    ({'text_config': {'model_type': 'llama'}}, 'Vicuna'),
    ({'text_config': {'model_type': 'opt'}}, 'OPT'),
    ({'text_config': {'feed_forward_proj': 'relu'}}, 'FLAN'),
    ({'text_config': {'dense_act_fn': 'tanh'}}, 'tanh'),
    ({'vision_config': {'hidden_act': 'quick_gelu'}}, 'quick_gelu'),
    ({'vision_config': {'qkv_bias': False}}, 'qkv_bias'),
    ({'vision_config': {'image_size': [224, 256]}}, 'squares'),
    ({'qformer_config': {'encoder_hidden_size': 1024}}, 'encoder_hidden_size'),
    ({'qformer_config': {'use_qformer_text_input': True}}, 'use_qformer_text'),
  ],
)
def test_what_cannot_be_converted_is_named(changes, words):
  with pytest.raises(UserError, match=words):
    from_hf(hub(**changes))


def test_absent_language_model_is_opt():
  values = hub()
  del values['text_config']
  with pytest.raises(UserError, match='OPT'):
    from_hf(values)


@pytest.mark.parametrize(
  'text, scale',
  [
    ({'d_model': 64, 'tie_word_embeddings': False}, 1.0),
    ({'d_model': 64}, 0.125),
    # 5.x writes tie_word_embeddings for all T5, and the scale beside it.
    (
      {
        'd_model': 64,
        'tie_word_embeddings': True,
        'scale_decoder_outputs': False,
      },
      1.0,
    ),
  ],
)
def test_scale_of_the_decoders_output(text, scale):
  assert head_scale(text) == scale

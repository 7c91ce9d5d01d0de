"""Converts Hugging Face's config.json to our configuration, and back.

It knows InstructBLIP and BLIP-2 with a T5 language model, as transformers 4.28
to 5.x and the published MIC code write them. Some versions write all values,
others only those that differ from the version's defaults.
"""

from collections.abc import Mapping
from typing import Any

from mmicl_jax.convert.hf_text import t5_from_hf, t5_to_hf
from mmicl_jax.errors import UserError
from mmicl_jax.models.configs import (
  Execution,
  MMICLConfig,
  QFormerConfig,
  ViTConfig,
)

INSTRUCTBLIP, BLIP2 = 'instructblip', 'blip-2'
ARCHITECTURES = {
  INSTRUCTBLIP: 'InstructBlipForConditionalGeneration',
  BLIP2: 'Blip2ForConditionalGeneration',
}
DEFAULT_EPS, MIC_EPS = 1e-6, 1e-5
MIC_QFORMER_ROWS = 30623
# Before this version of transformers Blip2VisionConfig's default was 1e-5.
# InstructBLIP's has always been 1e-6.
BLIP2_EPS_CHANGED = (4, 34)


def from_hf(
  values: Mapping[str, Any], *, vit_eps: float | None = None
) -> tuple[MMICLConfig, list[str]]:
  """Returns (our configuration, notes on what the file does not say).

  vit_eps: the ViT's layer norm epsilon, instead of the file's or a default.
  Raises UserError for other models, and for settings that we do not have.
  """
  kind = values.get('model_type')
  if kind not in ARCHITECTURES:
    raise UserError(
      f'config.json is of a {kind!r} model: only {INSTRUCTBLIP!r} and '
      f'{BLIP2!r} can be converted, and T5, ViT and Q-Former as parts'
    )
  notes: list[str] = []
  text = _section(values, 'text_config')
  if text.get('model_type') != 't5':
    raise UserError(
      f'the language model in config.json is {text.get("model_type", "OPT")!r}'
      ' (text_config.model_type): only checkpoints with T5 can be converted, '
      'such as instructblip-flan-t5-xl; Vicuna and OPT cannot'
    )
  qformer = _section(values, 'qformer_config')
  vit = vit_from_hf(_section(values, 'vision_config'))
  eps, note = _vit_eps(values, vit_eps)
  notes.append(note)
  width = qformer.get('encoder_hidden_size', vit.hidden_size)
  if width != vit.hidden_size:
    raise UserError(
      f'config.json: qformer_config.encoder_hidden_size is {width}, but '
      f'vision_config.hidden_size is {vit.hidden_size}; correct one of them'
    )
  t5, text_notes = t5_from_hf(text)
  image_token = values.get('image_token_index')
  if image_token is None:
    image_token = 32100
    notes.append('图 has id 32100, as in MIC: config.json does not say')
  config = MMICLConfig(
    vit=ViTConfig(**{**vars(vit), 'layer_norm_eps': eps}),
    qformer=qformer_from_hf(
      qformer,
      instruction=kind == INSTRUCTBLIP,
      num_queries=values.get('num_query_tokens', 32),
    ),
    t5=t5,
    image_token=image_token,
  )
  return config, notes + text_notes


def vit_from_hf(vision: Mapping[str, Any]) -> ViTConfig:
  """Reads a vision_config; absent values are Hugging Face's defaults.

  Raises UserError for settings that we do not have.
  """
  _demand(vision, 'vision_config', 'hidden_act', 'gelu')
  _demand(vision, 'vision_config', 'qkv_bias', True)
  default = ViTConfig()
  return ViTConfig(
    hidden_size=vision.get('hidden_size', default.hidden_size),
    num_layers=vision.get('num_hidden_layers', default.num_layers),
    num_heads=vision.get('num_attention_heads', default.num_heads),
    mlp_dim=vision.get('intermediate_size', default.mlp_dim),
    image_size=_side(vision, 'image_size', default.image_size),
    patch_size=_side(vision, 'patch_size', default.patch_size),
    layer_norm_eps=vision.get('layer_norm_eps', DEFAULT_EPS),
  )


def qformer_from_hf(
  values: Mapping[str, Any], *, instruction: bool, num_queries: int
) -> QFormerConfig:
  """Reads a qformer_config; absent values are Hugging Face's defaults.

  Raises UserError for settings that we do not have.
  """
  _demand(values, 'qformer_config', 'hidden_act', 'gelu')
  _demand(values, 'qformer_config', 'use_qformer_text_input', False)
  _demand(values, 'qformer_config', 'pad_token_id', 0)
  _demand(values, 'qformer_config', 'position_embedding_type', 'absolute')
  return QFormerConfig(
    hidden_size=values.get('hidden_size', 768),
    num_layers=values.get('num_hidden_layers', 12),
    num_heads=values.get('num_attention_heads', 12),
    mlp_dim=values.get('intermediate_size', 3072),
    num_queries=num_queries,
    cross_attention_frequency=values.get('cross_attention_frequency', 2),
    instruction=instruction,
    vocab_size=values.get('vocab_size', 30522),
    max_positions=values.get('max_position_embeddings', 512),
    layer_norm_eps=values.get('layer_norm_eps', 1e-12),
    dropout_rate=values.get('hidden_dropout_prob', 0.1),
  )


def to_hf(config: MMICLConfig, dtype: str) -> dict[str, Any]:
  """A config.json with all values, for both transformers 4.x and 5.x.

  dtype: of the weights, such as 'float32'.
  """
  kind = INSTRUCTBLIP if config.qformer.instruction else BLIP2
  vit, qformer = config.vit, config.qformer
  vision = {
    'model_type': f'{kind.replace("-", "_")}_vision_model',
    'hidden_size': vit.hidden_size,
    'intermediate_size': vit.mlp_dim,
    'num_hidden_layers': vit.num_layers,
    'num_attention_heads': vit.num_heads,
    'image_size': vit.image_size,
    'patch_size': vit.patch_size,
    'hidden_act': 'gelu',
    'layer_norm_eps': vit.layer_norm_eps,
    'attention_dropout': 0.0,
    'initializer_range': 1e-10,
    'qkv_bias': True,
  }
  bert = {
    'model_type': f'{kind.replace("-", "_")}_qformer',
    'vocab_size': qformer.vocab_size,
    'hidden_size': qformer.hidden_size,
    'num_hidden_layers': qformer.num_layers,
    'num_attention_heads': qformer.num_heads,
    'intermediate_size': qformer.mlp_dim,
    'hidden_act': 'gelu',
    'hidden_dropout_prob': qformer.dropout_rate,
    'attention_probs_dropout_prob': qformer.dropout_rate,
    'max_position_embeddings': qformer.max_positions,
    'initializer_range': 0.02,
    'layer_norm_eps': qformer.layer_norm_eps,
    'pad_token_id': 0,
    'position_embedding_type': 'absolute',
    'cross_attention_frequency': qformer.cross_attention_frequency,
    'encoder_hidden_size': vit.hidden_size,
  }
  return {
    'architectures': [ARCHITECTURES[kind]],
    'model_type': kind,
    'image_token_index': config.image_token,
    'initializer_factor': 1.0,
    'initializer_range': 0.02,
    'is_encoder_decoder': True,
    'num_query_tokens': qformer.num_queries,
    'qformer_config': bert,
    'text_config': t5_to_hf(config.t5),
    'tie_word_embeddings': False,
    'torch_dtype': dtype,
    'use_decoder_only_language_model': False,
    'vision_config': vision,
  }


def runs_at(config: MMICLConfig, dtype: str) -> MMICLConfig:
  """The same model with parameters and activations in one dtype."""
  execution = Execution(dtype=dtype, param_dtype=dtype)
  return MMICLConfig(
    config.vit, config.qformer, config.t5, config.image_token, execution
  )


def _vit_eps(
  values: Mapping[str, Any], chosen: float | None
) -> tuple[float, str]:
  name = "the ViT's layer norm runs at eps"
  if chosen is not None:
    return chosen, f'{name} {chosen:g}, as you said'
  written = _section(values, 'vision_config').get('layer_norm_eps')
  if written is not None:
    return written, f'{name} {written:g}, as config.json says'
  rows = _section(values, 'qformer_config').get('vocab_size')
  text = _section(values, 'text_config')
  if rows == MIC_QFORMER_ROWS or 'max_sequence_length' in text:
    return MIC_EPS, (
      f"{name} {MIC_EPS:g}, the default of MIC's classes, which wrote this "
      f'config.json without the value; --vit_eps {DEFAULT_EPS:g} for '
      "Hugging Face's"
    )
  version = str(values.get('transformers_version', ''))
  if values.get('model_type') == BLIP2 and _before(version, BLIP2_EPS_CHANGED):
    return MIC_EPS, (
      f'{name} {MIC_EPS:g}, the default of transformers {version}, which wrote '
      f'this BLIP-2 config.json without the value; --vit_eps {DEFAULT_EPS:g} '
      'for that of transformers 4.34 and later'
    )
  return DEFAULT_EPS, (
    f"{name} {DEFAULT_EPS:g}, Hugging Face's default: config.json has no "
    f'value; --vit_eps {MIC_EPS:g} for that of the published MIC code'
  )


def _before(version: str, limit: tuple[int, int]) -> bool:
  """Whether '4.27.0.dev0' is before (4, 34); False for other texts."""
  parts = version.split('.')[:2]
  return all(p.isdigit() for p in parts) and tuple(map(int, parts)) < limit


def _section(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
  section = values.get(name) or {}
  if not isinstance(section, Mapping):
    raise UserError(f'config.json: {name} is not an object; download it again')
  return section


def _side(values: Mapping[str, Any], name: str, default: int) -> int:
  value = values.get(name, default)
  sides = set(value) if isinstance(value, list | tuple) else {value}
  if len(sides) != 1:
    raise UserError(
      f'config.json: vision_config.{name} is {value}; only squares can be '
      'converted'
    )
  return sides.pop()


def _demand(values: Mapping[str, Any], section: str, name: str, only: Any):
  value = values.get(name, only)
  if value != only:
    raise UserError(
      f'config.json: {section}.{name} is {value!r}; only {only!r} can be '
      'converted'
    )

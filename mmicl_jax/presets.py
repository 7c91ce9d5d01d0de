"""Model configurations by name, for gin files and commands."""

import dataclasses

from mmicl_jax.errors import UserError
from mmicl_jax.models import configs

PRESETS = {
  'tiny': configs.TINY,
  'small': configs.SMALL,
  'base': configs.BASE,
  'xl': configs.XL,
  'xxl': configs.XXL,
  'blip2_xl': configs.BLIP2_XL,
  'blip2_xxl': configs.BLIP2_XXL,
}


def model(
  preset: str,
  dtype: str = 'float32',
  param_dtype: str = 'float32',
  remat: str = 'none',
  scan_layers: bool = True,
  dropout_rate: float | None = None,
  vit_layer_norm_eps: float | None = None,
  vocab_size: int | None = None,
  image_token: int | None = None,
  lora: configs.LoRA | None = None,
  dropout_bits: str = 'hash',
) -> configs.MMICLConfig:
  """A preset's configuration with changes; None keeps the preset's value.

  The arguments are fields of models/configs.py. Raises UserError for an unknown
  preset, or a value that no model can have.
  """
  if preset not in PRESETS:
    raise UserError(
      f'unknown model preset {preset!r}: choose one of {", ".join(PRESETS)}'
    )
  if dropout_rate is not None and not 0 <= dropout_rate < 1:
    raise UserError(
      f'presets.model.dropout_rate is {dropout_rate}: give a number from 0 up '
      'to, but not including, 1'
    )
  config = configs.with_execution(
    PRESETS[preset],
    dtype=dtype,
    param_dtype=param_dtype,
    remat=remat,
    scan_layers=scan_layers,
    lora=lora,
    dropout_bits=dropout_bits,
  )
  replace = dataclasses.replace
  if dropout_rate is not None:
    config = replace(
      config,
      qformer=replace(config.qformer, dropout_rate=dropout_rate),
      t5=replace(config.t5, dropout_rate=dropout_rate),
    )
  if vit_layer_norm_eps is not None:
    vit = replace(config.vit, layer_norm_eps=vit_layer_norm_eps)
    config = replace(config, vit=vit)
  if vocab_size is not None:
    t5 = replace(config.t5, vocab_size=vocab_size)
    config = replace(config, t5=t5)
  if image_token is not None:
    config = replace(config, image_token=image_token)
  return config

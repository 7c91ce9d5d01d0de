"""The model's sizes as frozen dataclasses, and presets from TINY to XXL."""

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

from mmicl_jax.errors import UserError

DTYPES = ('float32', 'bfloat16', 'float16')
REMATS = ('none', 'light', 'minimal', 'full')
DROPOUT_BITS = ('hash', 'threefry')


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
  """Raises UserError for a value that is none of the choices."""
  if value not in choices:
    raise UserError(f'{name} is {value!r}: choose one of {", ".join(choices)}')


@dataclasses.dataclass(frozen=True)
class ViTConfig:
  """EVA-CLIP's vision transformer. The defaults are ViT-g/14 as in BLIP-2.

  layer_norm_eps: 1e-6 in Hugging Face's classes, 1e-5 in the published MIC
  class. A checkpoint should run with the value that it was trained with.
  """

  hidden_size: int = 1408
  num_layers: int = 39
  num_heads: int = 16
  mlp_dim: int = 6144
  image_size: int = 224
  patch_size: int = 14
  layer_norm_eps: float = 1e-6

  @property
  def num_patches(self) -> int:
    """The patches of an image, without the class token."""
    return (self.image_size // self.patch_size) ** 2


@dataclasses.dataclass(frozen=True)
class QFormerConfig:
  """A BERT whose queries read an image.

  instruction: InstructBLIP's variant, which embeds the words of an instruction
  and has a second feed-forward for them. BLIP-2's has neither.
  cross_attention_frequency: every so many layers, from the first on, one
  attends to the image.
  """

  hidden_size: int = 768
  num_layers: int = 12
  num_heads: int = 12
  mlp_dim: int = 3072
  num_queries: int = 32
  cross_attention_frequency: int = 2
  instruction: bool = True
  vocab_size: int = 30523
  max_positions: int = 512
  layer_norm_eps: float = 1e-12
  dropout_rate: float = 0.1


@dataclasses.dataclass(frozen=True)
class T5Config:
  """T5 1.1: gated feed-forward, RMS norm, and a head that shares no weights.

  activation: 'gelu' (erf) in BLIP-2's and InstructBLIP's T5, 'gelu_new' (tanh)
  in stock FLAN-T5. Source: dense_act_fn in transformers' T5Config.
  """

  hidden_size: int = 2048
  num_encoder_layers: int = 24
  num_decoder_layers: int = 24
  num_heads: int = 32
  head_dim: int = 64
  mlp_dim: int = 5120
  vocab_size: int = 32128
  relative_buckets: int = 32
  relative_max_distance: int = 128
  layer_norm_eps: float = 1e-6
  activation: str = 'gelu'
  dropout_rate: float = 0.1


@dataclasses.dataclass(frozen=True)
class LoRA:
  """Low-rank adapters on the Dense modules whose path matches `on`.

  They add alpha / rank times the product of their factors: see lora.py. Raises
  UserError for what no adapter can have.
  """

  rank: int = 16
  alpha: float = 16.0
  on: str = '^t5/.*attention/(query|value)$'

  def __post_init__(self):
    if self.rank < 1 or not math.isfinite(self.alpha):
      raise UserError(
        f'LORA_RANK ({self.rank}) must be at least 1 and LORA_ALPHA '
        f'({self.alpha}) finite'
      )
    try:
      re.compile(self.on)
    except re.error as error:
      raise UserError(
        f'LORA_ON {self.on!r} is no regular expression: {error}'
      ) from error


@dataclasses.dataclass(frozen=True)
class Execution:
  """How the model runs; the mathematics stay the same.

  dtype: of activations. param_dtype: of parameters when they are initialised.
  remat: which activations the backward pass computes again: 'none', 'light'
  (attention's scores, norms, gates and dropout), 'minimal' (all but matrix
  products) or 'full' (all).
  dropout_bits: what makes dropout's masks: 'hash' (models/dropout.py), or
  'threefry', JAX's own bits, as former versions and T5X have them.
  scan_layers: True traces one layer and runs `lax.scan` over stacked
  parameters. False loops in Python over each layer's own parameters; it
  compiles longer and decodes faster.
  lora: adapters beside the kernels; None if there are none or they are folded
  into the kernels.
  Raises UserError for a choice of another name.
  """

  dtype: str = 'float32'
  param_dtype: str = 'float32'
  remat: str = 'none'
  scan_layers: bool = True
  lora: LoRA | None = None
  dropout_bits: str = 'hash'

  def __post_init__(self):
    check_choice('dropout_bits', self.dropout_bits, DROPOUT_BITS)
    check_choice('dtype', self.dtype, DTYPES)
    check_choice('param_dtype', self.param_dtype, DTYPES)
    check_choice('remat', self.remat, REMATS)


@dataclasses.dataclass(frozen=True)
class MMICLConfig:
  """The whole model; image_token is the id of 图 in the T5 vocabulary."""

  vit: ViTConfig = ViTConfig()
  qformer: QFormerConfig = QFormerConfig()
  t5: T5Config = T5Config()
  image_token: int = 32100
  execution: Execution = Execution()

  @property
  def has_dropout(self) -> bool:
    """Whether a training step draws random numbers."""
    return self.t5.dropout_rate > 0 or self.qformer.dropout_rate > 0


def to_dict(config: MMICLConfig) -> dict[str, Any]:
  """The configuration as the nested dictionary that model.json holds."""
  return dataclasses.asdict(config)


def from_dict(values: dict[str, Any]) -> MMICLConfig:
  """The inverse of `to_dict`; raises TypeError or KeyError on other keys."""
  values = dict(values)
  if lora := values['execution'].get('lora'):
    values['execution'] = values['execution'] | {'lora': LoRA(**lora)}
  parts = {
    'vit': ViTConfig,
    'qformer': QFormerConfig,
    't5': T5Config,
    'execution': Execution,
  }
  return MMICLConfig(
    image_token=values['image_token'],
    **{name: part(**values[name]) for name, part in parts.items()},
  )


def with_execution(config: MMICLConfig, **changes: Any) -> MMICLConfig:
  """The same model run in another way: with_execution(XL, dtype='bfloat16')."""
  execution = dataclasses.replace(config.execution, **changes)
  return dataclasses.replace(config, execution=execution)


T5_SMALL = T5Config(512, 8, 8, num_heads=6, mlp_dim=1024)
T5_BASE = T5Config(768, 12, 12, num_heads=12, mlp_dim=2048)
T5_XL = T5Config()
T5_XXL = T5Config(4096, num_heads=64, mlp_dim=10240)
BLIP2_QFORMER = QFormerConfig(instruction=False)

TINY = MMICLConfig(
  vit=ViTConfig(32, 2, 2, mlp_dim=64, image_size=28),
  qformer=QFormerConfig(
    32, 2, 2, mlp_dim=64, num_queries=4, vocab_size=96, max_positions=32
  ),
  t5=T5Config(32, 2, 2, num_heads=2, head_dim=16, mlp_dim=64),
)
SMALL = MMICLConfig(
  vit=ViTConfig(384, 12, 6, mlp_dim=1536),
  qformer=QFormerConfig(384, 6, 6, mlp_dim=1536),
  t5=T5_SMALL,
)
BASE = MMICLConfig(vit=ViTConfig(768, 12, 12, mlp_dim=3072), t5=T5_BASE)
XL = MMICLConfig(t5=T5_XL)
XXL = MMICLConfig(t5=T5_XXL)
BLIP2_XL = MMICLConfig(qformer=BLIP2_QFORMER, t5=T5_XL)
BLIP2_XXL = MMICLConfig(qformer=BLIP2_QFORMER, t5=T5_XXL)

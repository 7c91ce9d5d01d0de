"""The table of Hugging Face's parameter names and ours, read both ways.

A row is a name there, a path here, and a layout. `{i}` is a layer's number,
`{layer}` the path of that layer in our tree (see `place`). `bind` applies the
table to a configuration and checks that each of our parameters occurs exactly
once; `source.check_tensors` checks the same of a checkpoint's tensors.
"""

import dataclasses
import functools
from collections.abc import Iterator

import flax.linen as nn
import jax

from mmicl_jax.convert.layouts import (
  CONVOLUTION,
  FLAT,
  LINEAR,
  SAME,
  AxisMap,
  Shape,
  leading,
  linear,
)
from mmicl_jax.models import trees
from mmicl_jax.models.configs import MMICLConfig
from mmicl_jax.models.mmicl import abstract_params


@dataclasses.dataclass(frozen=True)
class Rule:
  """One row: a name in PyTorch, our path, and how the layouts map."""

  torch: str
  jax: str
  layout: AxisMap


def _norm(torch: str, jax_path: str) -> tuple[Rule, ...]:
  return (
    Rule(f'{torch}.weight', f'{jax_path}/scale', SAME),
    Rule(f'{torch}.bias', f'{jax_path}/bias', SAME),
  )


def _dense(
  torch: str, jax_path: str, layout: AxisMap = LINEAR
) -> tuple[Rule, ...]:
  return (
    Rule(f'{torch}.weight', f'{jax_path}/kernel', layout),
    Rule(f'{torch}.bias', f'{jax_path}/bias', FLAT),
  )


def _bert_attention(torch: str, jax_path: str) -> tuple[Rule, ...]:
  parts = ('query', 'key', 'value')
  return (
    *(
      r
      for p in parts
      for r in _dense(f'{torch}.attention.{p}', f'{jax_path}/{p}')
    ),
    *_dense(f'{torch}.output.dense', f'{jax_path}/out', linear(2)),
    *_norm(f'{torch}.output.LayerNorm', f'{jax_path}_norm'),
  )


def _bert_mlp(suffix: str, jax_path: str) -> tuple[Rule, ...]:
  layer = 'qformer.encoder.layer.{i}'
  return (
    *_dense(f'{layer}.intermediate{suffix}.dense', f'{jax_path}_wi'),
    *_dense(f'{layer}.output{suffix}.dense', f'{jax_path}_wo'),
    *_norm(f'{layer}.output{suffix}.LayerNorm', f'{jax_path}_norm'),
  )


def _t5_attention(torch: str, jax_path: str) -> tuple[Rule, ...]:
  names = {'q': 'query', 'k': 'key', 'v': 'value'}
  return (
    *(
      Rule(f'{torch}.{there}.weight', f'{jax_path}/{here}/kernel', LINEAR)
      for there, here in names.items()
    ),
    Rule(f'{torch}.o.weight', f'{jax_path}/out/kernel', linear(2)),
  )


def _t5_mlp(torch: str, jax_path: str) -> tuple[Rule, ...]:
  return tuple(
    Rule(
      f'{torch}.DenseReluDense.{name}.weight',
      f'{jax_path}/mlp/{name}/kernel',
      LINEAR,
    )
    for name in ('wi_0', 'wi_1', 'wo')
  )


_VIT = 'vision_model.encoder.layers.{i}'
_QFORMER = 'qformer.encoder.layer.{i}'
_ENCODER = 'language_model.encoder.block.{i}'
_DECODER = 'language_model.decoder.block.{i}'
_BIAS = 'block.0.layer.0.SelfAttention.relative_attention_bias.weight'

VIT = (
  Rule(
    'vision_model.embeddings.class_embedding', 'vit/class_embedding', leading(2)
  ),
  Rule(
    'vision_model.embeddings.position_embedding',
    'vit/position_embedding',
    leading(1),
  ),
  *_dense(
    'vision_model.embeddings.patch_embedding',
    'vit/patch_embedding',
    CONVOLUTION,
  ),
  *_norm(f'{_VIT}.layer_norm1', 'vit/{layer}/pre_attention_norm'),
  # The rows of qkv are those of query, key and value, each head after head.
  *_dense(f'{_VIT}.self_attn.qkv', 'vit/{layer}/qkv'),
  *_dense(f'{_VIT}.self_attn.projection', 'vit/{layer}/out', linear(2)),
  *_norm(f'{_VIT}.layer_norm2', 'vit/{layer}/pre_mlp_norm'),
  *_dense(f'{_VIT}.mlp.fc1', 'vit/{layer}/wi'),
  *_dense(f'{_VIT}.mlp.fc2', 'vit/{layer}/wo'),
  *_norm('vision_model.post_layernorm', 'vit/final_norm'),
)
QFORMER = (
  *_bert_attention(f'{_QFORMER}.attention', 'qformer/{layer}/self_attention'),
  # Only some layers have it: `bind` leaves out the others.
  *_bert_attention(
    f'{_QFORMER}.crossattention', 'qformer/{layer}/cross_attention'
  ),
  *_bert_mlp('_query', 'qformer/{layer}/query_mlp'),
)
BLIP2_ONLY = _norm('qformer.layernorm', 'qformer/embedding_norm')
INSTRUCTBLIP_ONLY = (
  Rule(
    'qformer.embeddings.word_embeddings.weight', 'qformer/words/embedding', SAME
  ),
  Rule(
    'qformer.embeddings.position_embeddings.weight',
    'qformer/positions/embedding',
    SAME,
  ),
  *_norm('qformer.embeddings.layernorm', 'qformer/embedding_norm'),
  *_bert_mlp('', 'qformer/{layer}/text_mlp'),
)
BRIDGE = (
  Rule('query_tokens', 'query_tokens', leading(1)),
  *_dense('language_projection', 'projector'),
)
T5 = (
  Rule('language_model.shared.weight', 't5/token_embedder/embedding', SAME),
  Rule('language_model.lm_head.weight', 't5/lm_head/kernel', LINEAR),
  Rule(
    f'language_model.encoder.{_BIAS}',
    't5/encoder/relative_bias/embedding',
    SAME,
  ),
  *_t5_attention(
    f'{_ENCODER}.layer.0.SelfAttention', 't5/encoder/{layer}/self_attention'
  ),
  Rule(
    f'{_ENCODER}.layer.0.layer_norm.weight',
    't5/encoder/{layer}/pre_attention_norm/scale',
    SAME,
  ),
  *_t5_mlp(f'{_ENCODER}.layer.1', 't5/encoder/{layer}'),
  Rule(
    f'{_ENCODER}.layer.1.layer_norm.weight',
    't5/encoder/{layer}/pre_mlp_norm/scale',
    SAME,
  ),
  Rule(
    'language_model.encoder.final_layer_norm.weight',
    't5/encoder/final_norm/scale',
    SAME,
  ),
  Rule(
    f'language_model.decoder.{_BIAS}',
    't5/decoder/relative_bias/embedding',
    SAME,
  ),
  *_t5_attention(
    f'{_DECODER}.layer.0.SelfAttention', 't5/decoder/{layer}/self_attention'
  ),
  Rule(
    f'{_DECODER}.layer.0.layer_norm.weight',
    't5/decoder/{layer}/pre_attention_norm/scale',
    SAME,
  ),
  *_t5_attention(
    f'{_DECODER}.layer.1.EncDecAttention', 't5/decoder/{layer}/cross_attention'
  ),
  Rule(
    f'{_DECODER}.layer.1.layer_norm.weight',
    't5/decoder/{layer}/pre_cross_attention_norm/scale',
    SAME,
  ),
  *_t5_mlp(f'{_DECODER}.layer.2', 't5/decoder/{layer}'),
  Rule(
    f'{_DECODER}.layer.2.layer_norm.weight',
    't5/decoder/{layer}/pre_mlp_norm/scale',
    SAME,
  ),
  Rule(
    'language_model.decoder.final_layer_norm.weight',
    't5/decoder/final_norm/scale',
    SAME,
  ),
)

# Tensors that repeat another one, since T5's three input tables are one.
SHARED = 'language_model.shared.weight'
HEAD = 'language_model.lm_head.weight'
ALIASES = {
  'language_model.encoder.embed_tokens.weight': SHARED,
  'language_model.decoder.embed_tokens.weight': SHARED,
}
# Tensors of former versions that no forward pass reads.
UNUSED = frozenset(
  {
    'qformer.embeddings.position_ids',
    'vision_model.embeddings.position_ids',
    'language_model.decoder.block.0.layer.1.EncDecAttention'
    '.relative_attention_bias.weight',
  }
)


@dataclasses.dataclass(frozen=True)
class Slot:
  """The place of one tensor: the parameter at `path`, or its layer `index`.

  shape: the tensor's in our layout, without the axis of layers.
  """

  torch: str
  path: str
  index: int | None
  layout: AxisMap
  shape: Shape

  @property
  def torch_shape(self) -> Shape:
    """The tensor's shape in PyTorch."""
    return self.layout.torch_shape(self.shape)


def rules_for(config: MMICLConfig) -> tuple[Rule, ...]:
  """The rows for the configuration's variant: InstructBLIP or BLIP-2."""
  variant = INSTRUCTBLIP_ONLY if config.qformer.instruction else BLIP2_ONLY
  return (*VIT, *QFORMER, *variant, *BRIDGE, *T5)


def place(config: MMICLConfig, path: str, i: int) -> tuple[str, int | None]:
  """Fills in {layer} for layer i; returns (path, index in the stack or None).

  The Q-Former's layers are in groups, one for each cross-attention.
  """
  scanned = config.execution.scan_layers
  stack, number, inner = 'layers', i, ''
  if path.startswith('qformer/'):
    frequency = config.qformer.cross_attention_frequency
    number, within = divmod(i, frequency)
    stack, inner = 'groups', f'/layer_{within}'
    if number == config.qformer.num_layers // frequency:
      return path.replace('{layer}', f'last_group{inner}'), None
  if scanned:
    return path.replace('{layer}', f'{stack}{inner}'), number
  return path.replace('{layer}', f'{stack}_{number}{inner}'), None


@functools.lru_cache(maxsize=8)
def shapes(config: MMICLConfig) -> dict[str, jax.ShapeDtypeStruct]:
  """The shapes and dtypes of all parameters by path."""
  tree = nn.unbox(abstract_params(config))
  flat = trees.flatten(tree)
  return flat


def bind(config: MMICLConfig) -> list[Slot]:
  """A slot for each tensor of a checkpoint.

  Raises ValueError if the table does not have each parameter exactly once.
  """
  declared = shapes(config)
  slots = [
    slot
    for rule in rules_for(config)
    for slot in _slots(config, rule, declared)
  ]
  claims: dict[str, list[int | None]] = {}
  for slot in slots:
    claims.setdefault(slot.path, []).append(slot.index)
  for path, value in declared.items():
    stacked = claims.get(path, []) != [None]
    wanted = list(range(value.shape[0])) if stacked else [None]
    if sorted(claims.pop(path, []), key=str) != sorted(wanted, key=str):
      raise ValueError(f'{path} is not claimed exactly once by the table')
  names = {slot.torch for slot in slots}
  if claims or len(names) != len(slots):
    raise ValueError(f'the table claims twice or in vain: {sorted(claims)}')
  return slots


def _slots(
  config: MMICLConfig, rule: Rule, declared: dict[str, jax.ShapeDtypeStruct]
) -> Iterator[Slot]:
  if '{layer}' not in rule.jax:
    shape = declared[rule.jax].shape
    yield Slot(rule.torch, rule.jax, None, rule.layout, shape)
    return
  tower = rule.jax.split('/{layer}')[0]
  count = {
    'vit': config.vit.num_layers,
    'qformer': config.qformer.num_layers,
    't5/encoder': config.t5.num_encoder_layers,
    't5/decoder': config.t5.num_decoder_layers,
  }[tower]
  for i in range(count):
    path, index = place(config, rule.jax, i)
    if path not in declared and 'cross_attention' in path:
      continue
    shape = declared[path].shape
    shape = shape if index is None else shape[1:]
    yield Slot(rule.torch.format(i=i), path, index, rule.layout, shape)

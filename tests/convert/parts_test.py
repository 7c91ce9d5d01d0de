"""Towers from separate checkpoints, in the formats they are published in."""

import hf_models
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tensorstore
from flax import traverse_util
from hf_models import torch, transformers

from mmicl_jax.__main__ import main
from mmicl_jax.convert.parts import open_parts
from mmicl_jax.errors import UserError
from mmicl_jax.models.t5 import T5

SIZES = {
  'd_model': 24,
  'd_kv': 4,
  'd_ff': 40,
  'num_layers': 2,
  'num_decoder_layers': 2,
  'num_heads': 3,
  'vocab_size': 32128,
}


@pytest.fixture(scope='module')
def flan(tmp_path_factory):
  """A random FLAN-T5: directory and model."""
  path = tmp_path_factory.mktemp('flan')
  config = transformers.T5Config(
    **SIZES, feed_forward_proj='gated-gelu', tie_word_embeddings=False
  )
  torch.manual_seed(0)
  model = transformers.T5ForConditionalGeneration(config).eval()
  head = model.lm_head.weight.detach()
  model.lm_head.weight = torch.nn.Parameter(torch.randn_like(head) * 0.2)
  model.save_pretrained(path)
  return path, model


@pytest.fixture(scope='module')
def blip2(tmp_path_factory):
  path = tmp_path_factory.mktemp('blip2')
  model = hf_models.hf_model('blip-2')
  model.save_pretrained(path)
  return path, model


def t5_logits(source, tokens, targets):
  flat = {p: source.read(p) for p in source.shapes if p.startswith('t5/')}
  params = traverse_util.unflatten_dict(flat, sep='/')['t5']
  t5 = T5(source.config.t5, source.config.execution)

  def run(module, tokens, targets):
    is_token = tokens != 0
    encoded = module.encode(module.embed(tokens), is_token)
    return module.decode(targets, encoded, is_token)[0]

  return jax.jit(
    lambda p: t5.apply({'params': p}, tokens, targets, method=run)
  )(params)


def assert_is_flan(source, model):
  tokens = np.array([[5, 7, 32100, 1, 0, 0], [3, 4, 5, 6, 7, 1]])
  targets = np.array([[0, 8, 9], [0, 4, 2]])
  with torch.no_grad():
    theirs = model(
      input_ids=torch.tensor(tokens),
      attention_mask=torch.tensor(tokens != 0).long(),
      decoder_input_ids=torch.tensor(targets),
    ).logits.numpy()
  ours = t5_logits(source, jnp.array(tokens), jnp.array(targets))
  limit = 1e-5 * np.abs(theirs).max()
  np.testing.assert_allclose(ours, theirs, rtol=0, atol=limit)


def t5x_tree(model, scanned):
  """The parameters as T5X's examples lay them out."""
  state = {n: p.detach().numpy() for n, p in model.named_parameters()}
  flat = {
    'token_embedder/embedding': state['shared.weight'],
    'decoder/logits_dense/kernel': state['lm_head.weight'].T,
  }
  attention = {'query': 'q', 'key': 'k', 'value': 'v', 'out': 'o'}
  for stack in ('encoder', 'decoder'):
    bias = (
      f'{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight'
    )
    flat[f'{stack}/relpos_bias/rel_embedding'] = state[bias].T
    norm = state[f'{stack}.final_layer_norm.weight']
    flat[f'{stack}/{stack}_norm/scale'] = norm
    layers = []
    for i in range(2):
      block, layer = f'{stack}.block.{i}.layer', {}
      first = 'attention' if stack == 'encoder' else 'self_attention'
      names = [(first, '0.SelfAttention')]
      if stack == 'decoder':
        names.append(('encoder_decoder_attention', '1.EncDecAttention'))
      for ours, theirs in names:
        for a, b in attention.items():
          kernel = state[f'{block}.{theirs}.{b}.weight'].T
          layer[f'{ours}/{a}/kernel'] = kernel
      last = len(names)
      for name in ('wi_0', 'wi_1', 'wo'):
        kernel = state[f'{block}.{last}.DenseReluDense.{name}.weight'].T
        layer[f'mlp/{name}/kernel'] = kernel
      norms = [f'pre_{first}_layer_norm', 'pre_mlp_layer_norm']
      if stack == 'decoder':
        norms.insert(1, 'pre_cross_attention_layer_norm')
      for j, name in enumerate(norms):
        layer[f'{name}/scale'] = state[f'{block}.{j}.layer_norm.weight']
      layers.append(layer)
    for name in layers[0]:
      if scanned:
        stacked = np.stack([layer[name] for layer in layers], axis=1)
        flat[f'{stack}/{stack}/{name}'] = stacked
      else:
        for i, layer in enumerate(layers):
          flat[f'{stack}/layers_{i}/{name}'] = layer[name]
  return flat


def write_orbax(path, flat):
  tree = {
    'target': traverse_util.unflatten_dict(flat, sep='/'),
    'state': {'step': np.array(0)},
  }
  (path / 'checkpoint_7').mkdir()
  ocp.PyTreeCheckpointer().save(path / 'checkpoint_7' / 'state', tree)


def write_former(path, flat):
  for name, value in flat.items():
    folder = path / f'target.{name.replace("/", ".")}'
    spec = {
      'driver': 'zarr',
      'kvstore': {'driver': 'file', 'path': str(folder)},
      'metadata': {'shape': list(value.shape), 'dtype': '<f4'},
      'create': True,
    }
    tensorstore.open(spec).result().write(value).result()


def test_flan_of_hugging_face(flan):
  path, model = flan
  source = open_parts(t5=path)
  assert source.config.t5.activation == 'gelu_new'
  assert_is_flan(source, model)


@pytest.mark.slow
@pytest.mark.parametrize(
  'write, scanned',
  [(write_orbax, True), (write_orbax, False), (write_former, True)],
)
def test_flan_of_t5x(flan, tmp_path, write, scanned):
  _, model = flan
  write(tmp_path, t5x_tree(model, scanned))
  assert_is_flan(open_parts(t5=tmp_path, scan_layers=scanned), model)


def test_towers_of_a_blip2(flan, blip2):
  source = open_parts(t5=flan[0], vit=blip2[0], qformer=blip2[0])
  state = {n: p.detach().numpy() for n, p in blip2[1].named_parameters()}
  for path, name in (
    ('query_tokens', 'query_tokens'),
    ('vit/final_norm/scale', 'vision_model.post_layernorm.weight'),
    ('qformer/embedding_norm/bias', 'qformer.layernorm.bias'),
  ):
    np.testing.assert_array_equal(source.read(path), state[name].squeeze())
  assert source.config.qformer.num_queries == 4
  assert any('random' in note and 'projector' in note for note in source.notes)


def test_modules_that_stand_alone(flan, blip2, tmp_path):
  blip2[1].vision_model.save_pretrained(tmp_path / 'vit')
  blip2[1].qformer.save_pretrained(tmp_path / 'qformer')
  alone = open_parts(
    t5=flan[0],
    vit=tmp_path / 'vit',
    qformer=tmp_path / 'qformer',
    num_queries=4,
  )
  within = open_parts(t5=flan[0], vit=blip2[0], qformer=blip2[0])
  for path in within.shapes:
    if path.startswith(('vit/', 'qformer/')):
      np.testing.assert_array_equal(alone.read(path), within.read(path))


def test_evas_file(flan, blip2, tmp_path):
  state = {n: p.detach() for n, p in blip2[1].vision_model.named_parameters()}
  eva = {
    'cls_token': state['embeddings.class_embedding'],
    'pos_embed': state['embeddings.position_embedding'],
    'patch_embed.proj.weight': state['embeddings.patch_embedding.weight'],
    'patch_embed.proj.bias': state['embeddings.patch_embedding.bias'],
    'head.weight': torch.zeros(3, 32),
  }
  for i in range(3):
    layer = f'encoder.layers.{i}.'
    bias = state[f'{layer}self_attn.qkv.bias'].chunk(3)
    eva[f'blocks.{i}.attn.q_bias'], eva[f'blocks.{i}.attn.v_bias'] = bias[::2]
    eva[f'blocks.{i}.attn.qkv.weight'] = state[f'{layer}self_attn.qkv.weight']
    for a, b in (
      ('norm1', 'layer_norm1'),
      ('norm2', 'layer_norm2'),
      ('attn.proj', 'self_attn.projection'),
      ('mlp.fc1', 'mlp.fc1'),
      ('mlp.fc2', 'mlp.fc2'),
    ):
      for kind in ('weight', 'bias'):
        eva[f'blocks.{i}.{a}.{kind}'] = state[f'{layer}{b}.{kind}']
  torch.save({'model': eva}, tmp_path / 'eva.pth')
  ours = open_parts(t5=flan[0], vit=tmp_path / 'eva.pth')
  whole = open_parts(t5=flan[0], vit=blip2[0])
  bias = ours.read('vit/layers/qkv/bias').reshape(3, 3, -1)
  theirs = whole.read('vit/layers/qkv/bias').reshape(3, 3, -1)
  np.testing.assert_array_equal(bias[:, 1], 0)
  np.testing.assert_array_equal(bias[:, ::2], theirs[:, ::2])
  for name in ('qkv/kernel', 'out/kernel', 'wi/kernel', 'pre_mlp_norm/bias'):
    path = f'vit/layers/{name}'
    shape = whole.read(path).shape
    np.testing.assert_array_equal(
      ours.read(path).reshape(shape), whole.read(path)
    )


def test_random_parts_are_those_of_the_seed(flan):
  one, same, other = (open_parts(t5=flan[0], seed=s) for s in (1, 1, 2))
  path = 'projector/kernel'
  np.testing.assert_array_equal(one.read(path), same.read(path))
  assert not np.array_equal(one.read(path), other.read(path))
  assert abs(one.read(path).std() - 768**-0.5) < 2e-3
  np.testing.assert_array_equal(one.read('projector/bias'), 0)


def test_from_the_command_line(flan, blip2, tmp_path, capsys):
  out = str(tmp_path / 'out')
  command = ['convert', 'to-jax', '--t5', str(flan[0]), '--out', out]
  command += ['--vit', str(blip2[0]), '--qformer', str(blip2[0])]
  assert main([*command, '--activation', 'gelu']) == 0
  assert 'random, with seed 0: projector' in capsys.readouterr().out


def test_wrong_parts_are_named(flan, blip2, tmp_path, capsys):
  with pytest.raises(UserError, match='not the part'):
    open_parts(t5=flan[0], vit=flan[0])
  with pytest.raises(UserError, match='checkpoint'):
    open_parts(t5=tmp_path)
  write_former(tmp_path, {'encoder/other/kernel': np.zeros((2, 2), 'f')})
  with pytest.raises(UserError, match='encoder/other/kernel'):
    open_parts(t5=tmp_path)
  assert main(['convert', 'to-jax', '--out', str(tmp_path / 'x')]) == 2
  assert '--source' in capsys.readouterr().err

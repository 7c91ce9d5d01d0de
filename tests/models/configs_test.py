"""Sizes of the presets against the published models, without their memory."""

import dataclasses
import math
from pathlib import Path

import flax.linen as nn
import jax
import pytest
from flax import traverse_util

from mmicl_jax.models import configs, partitioning
from mmicl_jax.models.mmicl import abstract_params

PRESETS = {
  name: getattr(configs, name)
  for name in ('TINY', 'SMALL', 'BASE', 'XL', 'XXL', 'BLIP2_XL', 'BLIP2_XXL')
}


def count(tree):
  return sum(math.prod(x.shape) for x in jax.tree.leaves(nn.unbox(tree)))


@pytest.mark.parametrize(
  ('preset', 'total', 'language', 'projection'),
  [
    ('XL', 4_022_969_088, 2_849_757_184, 1_574_912),
    ('XXL', 12_310_119_168, 11_135_332_352, 3_149_824),
  ],
)
def test_full_size_has_the_published_number_of_parameters(
  preset, total, language, projection
):
  params = abstract_params(PRESETS[preset])
  counts = {name: count(tree) for name, tree in params.items()}
  assert counts == {
    'vit': 985_952_256,
    'qformer': 185_660_160,
    'query_tokens': 32 * 768,
    'projector': projection,
    't5': language,
  }
  assert sum(counts.values()) == total


def test_blip2_has_no_parameters_for_text_in_its_qformer():
  blip2 = traverse_util.flatten_dict(
    abstract_params(configs.BLIP2_XL)['qformer'], sep='/'
  )
  assert count(blip2) == 105_137_664
  assert not [name for name in blip2 if 'words' in name or 'text_mlp' in name]


def axes(params):
  flat = traverse_util.flatten_dict(params, sep='/')
  return {name: getattr(leaf, 'names', None) for name, leaf in flat.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
  'preset, scan_layers',
  [*((name, True) for name in PRESETS), ('TINY', False), ('XL', False)],
)
def test_every_parameter_names_axes_that_the_table_knows(preset, scan_layers):
  config = configs.with_execution(PRESETS[preset], scan_layers=scan_layers)
  params = abstract_params(config)
  table = dict(partitioning.RULES)
  for name, names in axes(params).items():
    assert names is not None, f'{name} has no logical axes'
    assert set(names) <= {*table, None}, name
    stacked = 'layers/' in name or 'groups/' in name
    assert names.count('layers') == stacked, name
  mesh = jax.sharding.AbstractMesh((1, 4, 2), partitioning.MESH_AXES)
  shardings = partitioning.shardings(params, mesh)
  big = [
    (math.prod(leaf.shape), sharding)
    for leaf, sharding in zip(
      jax.tree.leaves(nn.unbox(params)), jax.tree.leaves(shardings), strict=True
    )
    if leaf.ndim > 1 and preset in ('XL', 'XXL')
  ]
  for size, sharding in big:
    assert size < 2**21 or any(sharding.spec), 'a large array on every device'


def lines(config):
  flat = traverse_util.flatten_dict(abstract_params(config), sep='/')
  for name, leaf in sorted(flat.items()):
    value = nn.unbox(leaf)
    shape = ' '.join(
      f'{axis or "-"}:{size}'
      for axis, size in zip(leaf.names, value.shape, strict=True)
    )
    yield f'{name} {value.dtype} {shape}\n'


def test_names_shapes_and_axes_are_the_recorded_ones():
  """A renamed parameter breaks checkpoints: record it anew on purpose only."""
  recorded = Path(__file__).parent / 'parameters_xl.txt'
  assert ''.join(lines(configs.XL)) == recorded.read_text()


@pytest.mark.parametrize('preset', PRESETS)
def test_a_config_survives_its_dictionary(preset):
  config = PRESETS[preset]
  assert configs.from_dict(configs.to_dict(config)) == config
  changed = configs.with_execution(config, dtype='bfloat16', remat='full')
  assert configs.from_dict(configs.to_dict(changed)) == changed != config


def test_unknown_fields_of_a_dictionary_are_refused():
  values = configs.to_dict(configs.TINY)
  values['t5']['num_layer'] = 3
  with pytest.raises(TypeError, match='num_layer'):
    configs.from_dict(values)


def test_image_size_decides_the_number_of_patches():
  vit = dataclasses.replace(configs.ViTConfig(), image_size=364)
  assert (configs.ViTConfig().num_patches, vit.num_patches) == (256, 676)

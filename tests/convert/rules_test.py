import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from flax import traverse_util

from mmicl_jax.convert import rules
from mmicl_jax.convert.layouts import CONVOLUTION, FLAT, LINEAR, linear
from mmicl_jax.models import configs
from mmicl_jax.models.mmicl import abstract_params

GOLDEN = Path(__file__).with_name('golden_tree.json')


def golden_tree():
  """Name -> [shape, dtype, logical axes] of every parameter."""
  trees = {}
  for name in ('TINY', 'XXL'):
    boxed = abstract_params(getattr(configs, name))
    flat = traverse_util.flatten_dict(boxed, sep='/')
    trees[name] = {
      path: [list(x.value.shape), str(x.value.dtype), list(x.names)]
      for path, x in sorted(flat.items())
    }
  return trees


def test_golden_tree():
  # A renamed or reshaped parameter makes old checkpoints unreadable. Write the
  # file anew only if that is meant: python tests/convert/rules_test.py
  golden, now = json.loads(GOLDEN.read_text()), golden_tree()
  assert golden.keys() == now.keys()
  for name in golden:
    assert golden[name] == now[name], name


@pytest.mark.slow
@pytest.mark.parametrize('scan', [True, False])
@pytest.mark.parametrize('layers', [4, 5])
@pytest.mark.parametrize('instruction', [True, False])
def test_each_parameter_is_claimed_once(scan, layers, instruction):
  config = dataclasses.replace(
    configs.TINY,
    qformer=dataclasses.replace(
      configs.TINY.qformer, num_layers=layers, instruction=instruction
    ),
  )
  slots = rules.bind(configs.with_execution(config, scan_layers=scan))
  names = [slot.torch for slot in slots]
  assert len(set(names)) == len(names)
  assert f'qformer.encoder.layer.{layers - 1}.output_query.dense.bias' in names
  assert (
    'qformer.encoder.layer.1.crossattention.attention.key.bias' in names
  ) is False
  assert 'qformer.encoder.layer.2.crossattention.attention.key.bias' in names


def test_number_of_tensors_is_hugging_faces():
  # Counted in the published InstructBLIP-XL and XXL.
  assert len(rules.bind(configs.XL)) == len(rules.bind(configs.XXL)) == 1363


def test_a_gap_in_the_table_is_found(monkeypatch):
  monkeypatch.setattr(rules, 'BRIDGE', rules.BRIDGE[:-1])
  with pytest.raises(ValueError, match='projector/bias'):
    rules.bind(configs.TINY)


def test_a_double_claim_is_found(monkeypatch):
  monkeypatch.setattr(rules, 'BRIDGE', (*rules.BRIDGE, rules.BRIDGE[0]))
  with pytest.raises(ValueError):
    rules.bind(configs.TINY)


@pytest.mark.parametrize(
  'layout, shape, torch_shape',
  [
    (LINEAR, (6, 2, 3), (6, 6)),
    (LINEAR, (4, 10), (10, 4)),
    (linear(2), (2, 3, 5), (5, 6)),
    (FLAT, (3, 2, 4), (24,)),
    (CONVOLUTION, (7, 7, 3, 5), (5, 3, 7, 7)),
  ],
)
def test_layouts_are_inverse(layout, shape, torch_shape):
  x = np.arange(np.prod(shape)).reshape(shape)
  assert layout.torch_shape(shape) == torch_shape
  there = layout.to_torch(x, torch_shape)
  assert there.shape == torch_shape
  np.testing.assert_array_equal(layout.to_jax(there, shape), x)


def test_heads_are_the_slow_axis_of_a_linear():
  # [out, in] with out = heads * kv: row 1 * 3 + 2 is head 1's third.
  kernel = LINEAR.to_jax(np.arange(24).reshape(6, 4), (4, 2, 3))
  assert kernel[0, 1, 2] == 5 * 4


if __name__ == '__main__':
  trees = {
    name: '{\n'
    + ',\n'.join(
      f'  {json.dumps(path)}: {json.dumps(value)}'
      for path, value in tree.items()
    )
    + '\n}'
    for name, tree in golden_tree().items()
  }
  body = ',\n'.join(f'{json.dumps(n)}: {text}' for n, text in trees.items())
  GOLDEN.write_text('{' + body + '}\n')

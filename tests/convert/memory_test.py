"""Conversion needs memory for a few parameters, not for the model.

Run as a script it prints the numbers of docs/convert.md:
  python tests/convert/memory_test.py SCALE
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from mmicl_jax.models import configs

sys.path.append(str(Path(__file__).parents[1] / 'helpers'))
import peak_memory  # noqa: E402

# XXL in bfloat16, with the published shards.
TOTAL, SHARD, LARGEST = 24.6e9, 10e9, 24 * 4096 * 10240 * 2


def reduced(scale):
  """XXL with all widths divided so that its bytes are divided by `scale`."""
  s = math.sqrt(scale)

  def width(n, multiple):
    return max(multiple, round(n / s / multiple) * multiple)

  head = 64
  return configs.MMICLConfig(
    vit=configs.ViTConfig(width(1408, 16), 39, 4, mlp_dim=width(6144, 16)),
    qformer=configs.QFormerConfig(
      width(768, 12),
      num_heads=4,
      mlp_dim=width(3072, 12),
      vocab_size=round(30523 / s),
    ),
    t5=configs.T5Config(
      width(4096, head),
      num_heads=max(1, round(64 / s)),
      mlp_dim=width(10240, head),
      vocab_size=width(32128, 128),
    ),
    image_token=20,
    execution=configs.Execution(dtype='bfloat16', param_dtype='bfloat16'),
  )


def measure(folder, scale):
  import jax
  import ml_dtypes

  from mmicl_jax.convert import rules
  from mmicl_jax.convert.disk import to_jax, to_pytorch
  from mmicl_jax.convert.saving import write_pretrained

  def write(config, path, shard):
    shapes = {
      name: jax.ShapeDtypeStruct(x.shape, ml_dtypes.bfloat16)
      for name, x in rules.shapes(config).items()
    }

    def parameter(name):
      rng = np.random.default_rng(0)
      out = np.empty(shapes[name].shape, ml_dtypes.bfloat16)
      for row in out.reshape(-1, out.shape[-1]):
        row[:] = rng.standard_normal(row.shape, np.float32)
      return out

    write_pretrained(config, shapes, parameter, path, shard_bytes=shard)
    return [math.prod(x.shape) * 2 for x in shapes.values()]

  # Once at a tiny size: what libraries take at their first use is not ours.
  write(
    configs.with_execution(configs.TINY, param_dtype='bfloat16'),
    folder / 'warm',
    10**6,
  )
  to_jax(folder / 'warm', folder / 'warm_ours')
  to_pytorch(folder / 'warm_ours', folder / 'warm_back')

  shard = int(SHARD / scale)
  sizes = write(reduced(scale), folder / 'hf', shard)
  allowed = 1.5 * shard + max(sizes)
  return {
    'total': sum(sizes),
    'largest shard': shard,
    'largest tensor': max(sizes),
    'allowed': allowed,
    'to-jax': peak_memory.above(lambda: to_jax(folder / 'hf', folder / 'ours')),
    'to-pytorch': peak_memory.above(
      lambda: to_pytorch(folder / 'ours', folder / 'back', shard_bytes=shard)
    ),
  }


@pytest.mark.slow
@pytest.mark.skipif(
  not Path('/proc/self/clear_refs').exists(), reason='no /proc of Linux'
)
def test_peak_is_far_below_the_model(tmp_path):
  result = peak_memory.run(__file__, 100, tmp_path)
  assert result['total'] > 1.3 * result['allowed']
  # The margin: libraries and malloc take their own share on other machines.
  assert result['to-jax'] < 0.7 * result['allowed'], result
  assert result['to-pytorch'] < 0.6 * result['allowed'], result


if __name__ == '__main__':
  import tempfile

  with tempfile.TemporaryDirectory(dir=(sys.argv[2:] or [None])[0]) as name:
    print(json.dumps(measure(Path(name), float(sys.argv[1]))))

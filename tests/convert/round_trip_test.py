"""PyTorch to JAX and back, through files: the same bits."""

import hf_models
import jax
import numpy as np
import pytest
from hf_models import torch

from mmicl_jax.__main__ import main
from mmicl_jax.checkpoints import store
from mmicl_jax.convert.loading import load_pretrained

CASES = [('instructblip', 'bfloat16', True), ('blip-2', 'float32', False)]


@pytest.mark.slow
@pytest.mark.parametrize('kind, dtype, safe', CASES)
def test_bit_exact_and_loadable(tmp_path, kind, dtype, safe):
  model = hf_models.hf_model(kind).to(getattr(torch, dtype))
  there, here, back = (tmp_path / name for name in ('there', 'here', 'back'))
  model.save_pretrained(there, max_shard_size='30KB')
  if not safe:
    for path in there.glob('model*'):
      path.unlink()
    torch.save(model.state_dict(), there / 'pytorch_model.bin')
  command = ['convert', 'to-jax', '--source', str(there), '--out', str(here)]
  assert main(command) == 0
  command = ['convert', 'to-pytorch', '--checkpoint', str(here)]
  assert main([*command, '--out', str(back), '--shard_gb', '4e-5']) == 0
  assert len(list(back.glob('*.safetensors'))) > 2

  again, info = type(model).from_pretrained(
    back, output_loading_info=True, dtype=getattr(torch, dtype)
  )
  assert not any(info.values())
  theirs = again.state_dict()
  for name, value in model.state_dict().items():
    assert theirs[name].dtype == value.dtype
    assert torch.equal(theirs[name], value), name
  text, first = again.config.text_config, model.config.text_config
  assert text.dense_act_fn == first.dense_act_fn == 'gelu'
  assert text.scale_decoder_outputs == first.scale_decoder_outputs

  _, loaded, _ = load_pretrained(there)
  saved = store.load_weights(here)

  def same(a, b):
    assert a.dtype == b.dtype == dtype
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))

  jax.tree.map(same, loaded, saved)

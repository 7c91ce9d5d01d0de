"""What `mmicl bench data` measures; no times are tested."""

import dataclasses

import numpy as np
import pytest

from mmicl_jax.__main__ import main
from mmicl_jax.bench import loading, padding
from mmicl_jax.data.fitting import FeatureSpec, fit
from mmicl_jax.data.images import load_image
from mmicl_jax.data.records import JsonlIndex
from mmicl_jax.models import configs
from mmicl_jax.tokenizer import Tokenizer

CONFIG = dataclasses.replace(
  configs.TINY,
  qformer=dataclasses.replace(configs.TINY.qformer, num_queries=32),
)


def test_buckets_and_packing_leave_little_padding():
  one, buckets, packed = padding.measure_waste()
  assert one['inputs'] > 0.5 and one['images'] > 0.5
  assert max(buckets['inputs'], buckets['images']) < 0.15
  assert max(packed['inputs'], packed['images']) < 0.05
  assert packed['examples_per_row'] > 2
  assert 'packed rows' in padding.waste_table([one, buckets, packed])


def test_both_steps_hold_whole_examples():
  padded, packed = (padding.PackedCase(pack, 1) for pack in (False, True))
  for case in (padded, packed):
    batch = case.inputs(CONFIG)
    tokens = batch['encoder_input_tokens']
    slots = (tokens == CONFIG.image_token).sum() // 32
    pixels = batch['encoder_images']
    assert pixels.any(axis=(2, 3, 4)).sum() == slots
    assert tokens.shape == (4, 440) and batch['decoder_loss_weights'].any()
  assert padded.examples == 4 < packed.examples
  assert padded.inputs(CONFIG)['encoder_images'].shape[:2] == (4, 6)
  assert 'encoder_segment_ids' in packed.inputs(CONFIG)


@pytest.mark.slow
def test_both_sides_read_the_same_images(tmp_path, monkeypatch):
  monkeypatch.setattr(loading, 'FILES', 6)
  monkeypatch.setattr(loading, 'ROUND', 2)
  paths = loading.write_data(tmp_path)
  row = loading.measure_loading(tmp_path, paths, 1, True, 1)
  assert all(rate > 0 for (rate,) in row['images_per_second'].values())
  assert 'packed' in loading.loading_table([row])
  spec = FeatureSpec(loading.TOKENS, 8, loading.IMAGES, 4, 32)
  example = JsonlIndex(tmp_path / 'train.jsonl')[0].example
  words = Tokenizer(tmp_path / 'spiece.model')
  assert not fit(example, words, spec).lost  # shortening it would take time
  pixel = load_image(paths[0], loading.SIZE)[0, 0, 0]
  assert abs(loading.open_alone(paths[0]) - int(np.asarray(pixel))) <= 1


def test_other_numbers_of_visual_tokens_are_refused(capsys):
  assert main(['bench', 'data', '--sizes', 'tiny']) == 2
  assert 'take small' in capsys.readouterr().err

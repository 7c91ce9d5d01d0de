"""What TensorBoard shows of a batch is what the model is shown."""

import io

import numpy as np
import pytest
import tiny_records
from PIL import Image

from mmicl_jax.data.loader import record_loader
from mmicl_jax.tokenizer import Tokenizer
from mmicl_jax.training.preview import GAP, sample_prompts


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  return tiny_records.write(tmp_path_factory.mktemp('records'), 3)


def test_texts_and_images_of_the_first_rows(data):
  path = str(data / 'spiece.model')
  loader = record_loader(
    str(data / 'train.jsonl'),
    tiny_records.config(data),
    path,
    3,
    inputs_length=64,
    targets_length=8,
    max_images=2,
    shuffle=False,
  )
  batch, _ = next(iter(loader))
  batch['encoder_images'][1, 1] = 7  # a second image
  batch['encoder_images'][2] = 0  # none
  (text, png), (_, two), (_, none) = sample_prompts(batch, Tokenizer(path))
  assert text.startswith('image 0 is<image0>图 . What colour is image 0?')
  assert text.endswith('**red</s>**')
  pixels = np.asarray(Image.open(io.BytesIO(png)))
  np.testing.assert_array_equal(pixels, batch['encoder_images'][0, 0])
  assert Image.open(io.BytesIO(two)).size == (14 + GAP + 14, 14)
  assert none is None
  assert len(sample_prompts(batch, Tokenizer(path), 1)) == 1


def test_packed_rows_show_their_own_images(data):
  rng = np.random.default_rng(0)
  images = rng.integers(1, 256, (2, 3, 14, 14, 3), np.uint8)
  images[1, 2] = 0  # an empty slot
  batch = {
    'encoder_input_tokens': np.full((4, 3), 5),
    'decoder_target_tokens': np.full((4, 2), 5),
    'encoder_images': images,
    'encoder_image_starts': np.array([0, 2, 0, 0]),
  }
  tokenizer = Tokenizer(data / 'spiece.model')
  pngs = [png for _, png in sample_prompts(batch, tokenizer)]
  widths = [Image.open(io.BytesIO(png)).size[0] if png else 0 for png in pngs]
  assert widths == [2 * 14 + GAP, 14, 0, 2 * 14 + GAP]
  shown = np.asarray(Image.open(io.BytesIO(pngs[1])))
  np.testing.assert_array_equal(shown, images[0, 2])

"""A few records with images, a vocabulary, and a model that fits them."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from mmicl_jax import tokenizer
from mmicl_jax.models import configs

COLOURS = ('red', 'green', 'blue', 'white')
TEXT = 'What colour is image 0? red green blue white. Which one is it, as seen?'


def write(folder: Path, count: int) -> Path:
  """Writes train.jsonl, eval.jsonl, images and spiece.model; returns folder."""
  rng = np.random.default_rng(0)
  lines = []
  for i in range(count):
    pixels = rng.integers(0, 256, (20 + i, 24, 3), np.uint8)
    Image.fromarray(pixels).save(folder / f'{i}.png')
    record = {
      'input_text': 'image 0 is <image0>图. What colour is image 0?',
      'input_image': [f'{i}.png'],
      'output_text': COLOURS[i % 4],
      'question': 'what colour is it?',
    }
    lines.append(json.dumps(record, ensure_ascii=False))
  for name, some in (('train', lines), ('eval', lines[:2])):
    (folder / f'{name}.jsonl').write_text('\n'.join(some) + '\n', 'utf-8')
  tokenizer.train_sentencepiece([TEXT] * 9, folder / 'spiece.model', 60)
  return folder


def config(folder: Path) -> configs.MMICLConfig:
  """A model of the vocabulary in `folder`."""
  words = tokenizer.Tokenizer(folder / 'spiece.model')
  return model(words.vocab_size, words.image_id)


def model(vocab_size: int, image_token: int) -> configs.MMICLConfig:
  """Compiles in seconds: images 14 pixels square, 2 queries, dropout on."""
  return configs.MMICLConfig(
    vit=configs.ViTConfig(8, 1, 2, mlp_dim=8, image_size=14),
    qformer=configs.QFormerConfig(
      8,
      1,
      2,
      mlp_dim=8,
      num_queries=2,
      vocab_size=8,
      max_positions=4,
      instruction=False,
    ),
    t5=configs.T5Config(8, 1, 1, 2, 4, 8, vocab_size=vocab_size),
    image_token=image_token,
  )

"""What stands in for downloads and long runs where MMICL_SMOKE is 1.

The tests run the notebooks so, on a CPU: the models are tiny and know nothing.
"""

import json
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from mmicl_jax import Tokenizer, presets
from mmicl_jax.checkpoints import model_dir, store
from mmicl_jax.models.mmicl import init_params
from mmicl_jax.tokenizer import train_sentencepiece

WORDS = ('dax', 'wug', 'zero', 'one', 'two', 'three')
TEXT = 'image 0 is. Which digit is it? yes no 123456789 ' + ' '.join(WORDS)


def model(folder):
  """Writes a MODEL_DIR of random weights; returns the settings of a run."""
  folder = Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  vocabulary = folder / model_dir.VOCABULARY
  train_sentencepiece([TEXT] * 9, vocabulary, 60)
  words = Tokenizer(vocabulary)
  size, image = words.vocab_size, words.image_id
  config = presets.model('tiny', vocab_size=size, image_token=image)
  params = jax.jit(init_params, static_argnums=0)(config, jax.random.key(0))
  store.save_weights(folder, params, step=0)
  model_dir.write_config(folder, config)
  return [
    '--gin_file=models/tiny.gin',
    f'--gin.presets.model.vocab_size={size}',
    f'--gin.presets.model.image_token={image}',
    *('--gin_file=stages/lora.gin', '--gin_file=meshes/cpu.gin'),
    *('--gin.BATCH_SIZE=2', '--gin.INPUTS_LENGTH=128', '--gin.MAX_IMAGES=3'),
    *('--gin.TARGETS_LENGTH=8', '--gin.TRAIN_STEPS=2'),
  ]


def demo(folder):
  """Writes what the notebooks read of the output of `mmicl demo`."""
  folder = Path(folder)
  model(folder / 'stage_2')
  (folder / 'held_out/images').mkdir(parents=True)
  noise = np.random.default_rng(0)
  for i in range(6):
    pixels = noise.integers(0, 256, (28, 28, 3), np.uint8)
    Image.fromarray(pixels).save(folder / f'held_out/images/{i}.png')
  for shots in (0, 2, 4):
    records = [_record(shots, i) for i in range(2)]
    text = ''.join(json.dumps(r, ensure_ascii=False) + '\n' for r in records)
    path = folder / f'held_out/icl_words_{shots}.jsonl'
    path.write_text(text, 'utf-8')


def _record(shots, number):
  places = range(shots + 1)
  names = [WORDS[(k + number) % 2] for k in places]
  turns = [f'<image{k}>图 is' for k in places]
  shown = [f'{t} {name}' for t, name in zip(turns, names[:-1], strict=False)]
  return {
    'input_text': '\n\n'.join([*shown, turns[-1]]),
    'input_image': [f'images/{k}.png' for k in places],
    'output_text': names[-1],
    'id': f'icl_words_{shots}-{number}',
    'meta': {'words': ['dax', 'wug'], 'shots': shots},
  }

"""It learns: four examples by heart, told through the public API."""

import json

import pytest
from PIL import Image

import mmicl_jax as mmicl
from mmicl_jax import __main__ as cli
from mmicl_jax import tokenizer

COLOURS = ('red', 'green', 'blue', 'white')
QUESTION = '{image} or {image}: what colour is the second?'


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  """Four records that differ in their images alone; a vocabulary."""
  folder = tmp_path_factory.mktemp('four')
  for colour in COLOURS:
    Image.new('RGB', (20, 20), colour).save(folder / f'{colour}.png')
  with open(folder / 'four.jsonl', 'w', encoding='utf-8') as file:
    for query in queries(folder):
      example = mmicl.assemble(query)
      record = {
        'input_text': example.inputs,
        'input_image': [str(image) for image in example.images],
        'output_text': query.answer,
      }
      file.write(json.dumps(record, ensure_ascii=False) + '\n')
  texts = [f'image {i} is or what colour is the second?' for i in range(9)]
  tokenizer.train_sentencepiece(
    [*texts, ' '.join(COLOURS)], folder / 'spiece.model', 60
  )
  return folder


def queries(folder):
  """The second image names the answer; the first is the next one's."""
  for first, second in zip(COLOURS[1:] + COLOURS[:1], COLOURS, strict=True):
    images = [str(folder / f'{name}.png') for name in (first, second)]
    yield mmicl.Turn(QUESTION, images=images, answer=second)


@pytest.mark.slow
def test_four_examples_are_learnt_by_heart(data, tmp_path):
  words = mmicl.Tokenizer(data / 'spiece.model')
  bindings = {
    'MODEL_DIR': repr(str(tmp_path)),
    'DATA': repr(str(data / 'four.jsonl')),
    'VOCABULARY': repr(str(data / 'spiece.model')),
    'TRAINABLE': repr('all'),
    'TRAIN_STEPS': 300,
    'BATCH_SIZE': 4,
    'NUM_MICROBATCHES': 1,
    'INPUTS_LENGTH': 96,
    'TARGETS_LENGTH': 12,
    'MAX_IMAGES': 2,
    'PEAK_RATE': 3e-3,
    'presets.model.image_token': words.image_id,
    'presets.model.vocab_size': words.vocab_size,
  }
  files = ('models/tiny', 'stages/tune', 'meshes/cpu', 'runs/train')
  command = ['train', *(f'--gin_file={name}.gin' for name in files)]
  command += [f'--gin.{name}={value}' for name, value in bindings.items()]
  assert cli.main(command) == 0

  model = mmicl.load(tmp_path)
  answers = model.generate(list(queries(data)), max_new_tokens=12)
  assert [answer.text for answer in answers] == list(COLOURS)
  # And it says so because of the image: each candidate's likelihood agrees.
  scores = model.score(list(queries(data)), candidates=COLOURS)
  assert scores.argmax(axis=1).tolist() == [0, 1, 2, 3]

"""A run on grouped and packed records, from gin files: it says its shapes."""

import json

import pytest
import tiny_records
from small_run import assert_bits_equal

from mmicl_jax.configure import gin_files
from mmicl_jax.training import loop

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  folder = tiny_records.write(tmp_path_factory.mktemp('records'), 6)
  text = {'input_text': 'Which one?', 'input_image': [], 'output_text': 'red'}
  with (folder / 'train.jsonl').open('a') as file:
    file.write(f'{json.dumps(text)}\n' * 6)
  return folder


def train(data, name, steps):
  config = tiny_records.config(data)
  values = {
    'MODEL_DIR': repr(str(data / name)),
    'DATA': repr(str(data / 'train.jsonl')),
    'EVAL_DATA': repr(str(data / 'eval.jsonl')),
    'VOCABULARY': repr(str(data / 'spiece.model')),
    'TRAIN_STEPS': steps,
    'BATCH_SIZE': 4,
    'NUM_MICROBATCHES': 2,
    'INPUTS_LENGTH': 64,
    'TARGETS_LENGTH': 12,
    'MAX_IMAGES': 1,
    'BUCKETS': '((64, 12, 1.5),)',
    'PACK': True,
    'LOG_EVERY': 1,
    'EVAL_EVERY': 2,
    'SAVE_EVERY': 2,
    'TENSORBOARD': False,
    'presets.model.image_token': config.image_token,
    'presets.model.vocab_size': config.t5.vocab_size,
  }
  files = ['models/tiny', 'stages/tune', 'meshes/cpu', 'runs/train']
  gin_files.parse_gin(
    [f'{file}.gin' for file in files],
    [f'{key}={value}' for key, value in values.items()],
  )
  return gin_files.call_configured(loop.train)


def test_a_packed_run_goes_on_as_if_nothing_had_happened(data, capfd):
  whole = train(data, 'whole', 4)
  said = capfd.readouterr()
  assert (
    'to compile: at most 1 (4 x (64 + 12) tokens with' in said.err + said.out
  )
  assert whole.metrics['eval/loss'] > 0
  assert whole.metrics['tokens'] > 4 * 3  # more than one answer in a row
  train(data, 'halves', 2)
  assert_bits_equal(train(data, 'halves', 4).params, whole.params)

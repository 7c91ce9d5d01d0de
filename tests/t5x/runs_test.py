"""One gin description, two trainers: the same bits, and each resumes the other.

T5X's commands run as processes of their own, as a user starts them.
"""

import json
import os
import shutil

import numpy as np
import pytest
import t5x_commands
import tiny_records
from same_bits import assert_same_bits, saved

import mmicl_jax
from mmicl_jax import __main__ as cli
from mmicl_jax import tokenizer
from mmicl_jax.data.records import JsonlIndex

# What a user would write once, for both trainers.
SHARED = """
include 'gin_configs/models/tiny.gin'
include 'gin_configs/stages/{stage}.gin'
include 'gin_configs/meshes/cpu.gin'
from __gin__ import dynamic_registration
from mmicl_jax import presets

DATA = '{data}/train.jsonl'
EVAL_DATA = '{data}/eval.jsonl'
VOCABULARY = '{data}/spiece.model'
INPUTS_LENGTH = 48
TARGETS_LENGTH = 8
MAX_IMAGES = 1
TRAIN_STEPS = 20
SAVE_EVERY = 10
EVAL_EVERY = 10
EVAL_STEPS = 1
BATCH_SIZE = 4
NUM_MICROBATCHES = 2
LOSS_MEAN = 'microbatch'
SHUFFLE = False
INIT_FROM = {init_from!r}
presets.model.vocab_size = {vocab_size}
presets.model.image_token = {image_token}
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  t5x_commands.need()
  return tiny_records.write(tmp_path_factory.mktemp('both'), 7)


def describe(folder, stage, init_from=None):
  words = tokenizer.Tokenizer(folder / 'spiece.model')
  path = folder / f'{stage}.gin'
  path.write_text(
    SHARED.format(
      stage=stage,
      data=folder,
      init_from=None if init_from is None else str(init_from),
      vocab_size=words.vocab_size,
      image_token=words.image_id,
    )
  )
  return path


def ours(description, directory):
  arguments = ['runs/train.gin', description]
  status = cli.main(
    ['train', *(f'--gin_file={name}' for name in arguments)]
    + [f'--gin.MODEL_DIR={str(directory)!r}']
  )
  assert status == 0


def theirs(description, directory, devices=1, **bindings):
  t5x_commands.run(
    'train',
    [description],
    {'MODEL_DIR': os.path.relpath(directory, t5x_commands.ROOT), **bindings},
    devices=devices,
  )


@pytest.fixture(scope='module')
def stage1(folder):
  """(description, our MODEL_DIR, T5X's) after 20 steps of stage 1."""
  description = describe(folder, 'pretrain')
  found = description, folder / 'ours1', folder / 't5x1'
  ours(description, found[1])
  theirs(description, found[2])
  return found


@pytest.fixture(scope='module')
def stage2(folder, stage1):
  """The same after 20 steps of stage 2, from our weights of stage 1."""
  description = describe(folder, 'tune', stage1[1])
  found = description, folder / 'ours2', folder / 't5x2'
  ours(description, found[1])
  theirs(description, found[2])
  return found


@pytest.fixture(scope='module')
def adapters(folder, stage1):
  """The same after 20 steps of adapters on our weights of stage 1."""
  description = describe(folder, 'lora', stage1[1])
  found = description, folder / 'ours_lora', folder / 't5x_lora'
  ours(description, found[1])
  theirs(description, found[2])
  assert any(name.endswith('lora_a') for name in saved(found[1], 20))
  return found


@pytest.fixture(params=['stage1', 'stage2', 'adapters'])
def stage(request):
  return request.getfixturevalue(request.param)


def test_twenty_steps_have_the_same_bits(stage):
  _, one, other = stage
  names = saved(one, 20)
  assert any('/mu/' in name for name in names)
  assert names['state/step'] == 20
  assert_same_bits(one, other, 10)
  assert_same_bits(one, other)
  changed = [n for n, x in saved(one, 10).items() if (x != names[n]).any()]
  assert any(name.startswith('target/') for name in changed)
  for name in ('ledger.json', 'model.json', 'spiece.model'):
    assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_each_goes_on_where_the_other_stopped(stage, tmp_path):
  description, one, other = stage
  for start, name in ((one, 'ours'), (other, 't5x')):
    shutil.copytree(start / 'checkpoint_10', tmp_path / name / 'checkpoint_10')
  theirs(description, tmp_path / 'ours')
  ours(description, tmp_path / 't5x')
  assert_same_bits(tmp_path / 'ours', one)
  assert_same_bits(tmp_path / 't5x', one)


@pytest.mark.parametrize('sizes', [(-1, 1, 1), (1, 2, 2)])
def test_four_devices_train_as_one_does(folder, tmp_path, sizes):
  text = describe(folder, 'pretrain').read_text()
  size = tokenizer.Tokenizer(folder / 'spiece.model').vocab_size
  # A file of its own; an odd vocabulary cannot be split.
  description = tmp_path / 'four.gin'
  description.write_text(
    f'{text}presets.model.vocab_size = {size + 1}\nTRAIN_STEPS = 2\n'
    'NUM_MICROBATCHES = 1\n'
  )
  ours(description, tmp_path / 'ours')
  mesh = {
    f'partitioning.make_mesh.{axis}': size
    for axis, size in zip(('data', 'fsdp', 'tensor'), sizes, strict=True)
  }
  theirs(description, tmp_path / 't5x', devices=4, **mesh)
  one, other = (saved(tmp_path / name, 2) for name in ('ours', 't5x'))
  assert one.keys() == other.keys() and size % 2 == 0
  moments = [name for name in one if '/mu/' in name]  # sums of gradients
  assert moments
  largest = max(np.abs(one[name]).max() for name in moments)
  for name in moments:
    # The gradient of a key's bias is zero, by softmax's invariance: what is
    # there is rounding, to be measured by the other gradients.
    scale = max(np.abs(one[name]).max(), 1e-3 * largest)
    np.testing.assert_allclose(
      other[name], one[name], rtol=1e-3, atol=1e-4 * scale, err_msg=name
    )


def test_infer_answers_as_the_model_does(stage, folder, tmp_path):
  description, one, _ = stage
  settings = {'CHECKPOINT_PATH': str(one), 'SPLIT': 'validation'}
  settings |= {'BATCH_SIZE': 2}
  where = {'INFER_OUTPUT_DIR': str(tmp_path)}
  t5x_commands.run('infer', [description], settings | where)
  (path,) = tmp_path.glob('*.jsonl-*-of-00001')
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  records = JsonlIndex(folder / 'eval.jsonl')
  assert len(lines) == len(records)
  answers = mmicl_jax.load(one).generate(
    [record.example for record in records], max_new_tokens=8
  )
  for line, record, answer in zip(lines, records, answers, strict=True):
    # texts alone: no pixels where inference prints
    assert line['inputs'].keys() == {
      'inputs_pretokenized',
      'targets_pretokenized',
    }
    assert line['inputs']['targets_pretokenized'] == record.targets
    assert line['prediction'] == answer.text


def test_eval_writes_metrics(stage, tmp_path):
  description, one, _ = stage
  settings = {'CHECKPOINT_PATH': str(one), 'SPLIT': 'validation'}
  settings |= {'BATCH_SIZE': 2, 'EVAL_OUTPUT_DIR': str(tmp_path)}
  t5x_commands.run('eval', [description], settings)
  (path,) = tmp_path.rglob('*-metrics.jsonl')
  values = json.loads(path.read_text().splitlines()[0])
  assert 0 <= values['exact_match'] <= 100

"""T5X's commands end with one sentence and 2 where `mmicl` does."""

import jax
import optax
import pytest
import t5x_commands
import tiny_records

from mmicl_jax import tokenizer
from mmicl_jax.checkpoints import checkpointer
from mmicl_jax.checkpoints.tree import state_tree
from mmicl_jax.models import mmicl
from mmicl_jax.presets import model
from mmicl_jax.runtime import lock
from mmicl_jax.training import stages

SETTINGS = """
include 'gin_configs/models/tiny.gin'
include 'gin_configs/meshes/cpu.gin'
from __gin__ import dynamic_registration
from mmicl_jax import presets
DATA = '{data}/train.jsonl'
VOCABULARY = '{data}/spiece.model'
TRAIN_STEPS = 2
BATCH_SIZE = 2
presets.model.vocab_size = {vocab_size}
presets.model.image_token = {image_token}
"""


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  t5x_commands.need()
  folder = tiny_records.write(tmp_path_factory.mktemp('wrong'), 2)
  words = tokenizer.Tokenizer(folder / 'spiece.model')
  sizes = {'vocab_size': words.vocab_size, 'image_token': words.image_id}
  text = SETTINGS.format(data=folder, **sizes)
  (folder / 'settings.gin').write_text(text)
  config = model('tiny', **sizes)
  params = mmicl.init_params(config, jax.random.PRNGKey(0))
  stage1 = checkpointer.Checkpointer(folder / 'stage1')
  state = optax.adam(0.1).init(stages.split_params(params, 'pretrain')[0])
  stage1.save(1, state_tree(params, 1, state))
  stage1.close()
  (folder / 'empty.jsonl').write_text('')
  return folder


def assert_one_sentence(error, match):
  (line,) = [x for x in error.splitlines() if x.startswith('mmicl: ')]
  assert match in line
  assert 'Traceback' not in error


def contents(directory):
  files = (path for path in directory.rglob('*') if path.is_file())
  return {path: path.read_bytes() for path in files}


@pytest.mark.parametrize(
  'files, bindings, match',
  [
    ([], {'TRAIN_STEPSS': 3}, 'did you mean TRAIN_STEPS'),
    ([], {'presets.model.vocab_sise': 3}, 'did you mean vocab_size'),
    ([], {'TRAIN_STEPS': 'ten'}, "TRAIN_STEPS is 'ten': give a whole number"),
    (['stages/nowhere'], {}, 'gin_configs/stages/nowhere.gin was not found'),
    (
      [],
      {'EVAL_DATA': '{data}/eval.jsonl', 'SAVE_EVERY': 5, 'EVAL_EVERY': 4},
      'make one a multiple of the other',
    ),
    ([], {'FROZEN_DTYPE': 'bf16'}, "FROZEN_DTYPE is 'bf16': choose one of"),
    ([], {'TASK_MODULE': 'nothing'}, "TASK_MODULE 'nothing' cannot be"),
    (['stages/pretrain'], {}, 'drop the other'),
    ([], {'TRAINABLE': 'stage2'}, "unknown profile 'stage2'"),
    ([], {'DATA': 'none.jsonl'}, 'none.jsonl does not exist'),
    ([], {'DATA': '{data}/empty.jsonl'}, 'empty.jsonl: no records'),
    ([], {'TASK': 'mic'}, "has no task 'mic'"),
    ([], {'USE_CACHED_TASKS': True}, 'mic_records is not cached'),
    ([], {'BATCH_SIZE': 3, 'NUM_MICROBATCHES': 2}, 'into 2 microbatches'),
    ([], {'BATCH_SIZE': 3}, 'over 2 shards'),
    ([], {'MODEL_DIR': '{data}/stage1'}, 'another trainable set or optimizer'),
    ([], {'presets.model.vocab_size': 999}, 'of another architecture'),
  ],
)
def test_train(data, tmp_path, files, bindings, match):
  bindings = {
    'MODEL_DIR': str(tmp_path / 'new'),
    'INIT_FROM': str(data / 'stage1'),
    'LOSS_MEAN': 'microbatch',
  } | {
    name: x.format(data=data) if isinstance(x, str) else x
    for name, x in bindings.items()
  }
  before = contents(data)
  error = t5x_commands.run(
    'train',
    [
      *(f'gin_configs/{name}.gin' for name in ['stages/tune', *files]),
      data / 'settings.gin',
    ],
    bindings,
    status=2,
    devices=2 if 'shards' in match else 1,
  )
  assert_one_sentence(error, match)
  assert contents(data) == before
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('command', ['eval', 'infer'])
@pytest.mark.parametrize(
  'bindings, match',
  [
    ({'SPLIT': 'validation'}, 'no records for the split'),
    ({'presets.model.vocab_size': 999}, 'of another architecture'),
  ],
)
def test_eval_and_infer(data, tmp_path, command, bindings, match):
  error = t5x_commands.run(
    command,
    [data / 'settings.gin'],
    {
      'CHECKPOINT_PATH': str(data / 'stage1'),
      f'{command.upper()}_OUTPUT_DIR': str(tmp_path / 'new'),
      **bindings,
    },
    status=2,
  )
  assert_one_sentence(error, match)


def test_a_bad_record_ends_a_run(data, tmp_path):
  lines = (data / 'train.jsonl').read_text('utf-8').splitlines()
  lines[1] = lines[1].replace('1.png', 'gone.png')
  (data / 'bad.jsonl').write_text('\n'.join(lines), 'utf-8')
  error = t5x_commands.run(
    'train',
    ['gin_configs/stages/tune.gin', data / 'settings.gin'],
    {'MODEL_DIR': str(tmp_path / 'new'), 'DATA': str(data / 'bad.jsonl')},
    status=2,
  )
  assert_one_sentence(error, f'{data}/gone.png could not be read')
  assert error.rstrip().splitlines()[-1].startswith('mmicl: ')


def test_a_second_run_in_the_same_directory(data, tmp_path):
  with lock.only_writer(tmp_path / 'new'):
    error = t5x_commands.run(
      'train',
      ['gin_configs/stages/tune.gin', data / 'settings.gin'],
      {'MODEL_DIR': str(tmp_path / 'new')},
      status=2,
    )
  assert_one_sentence(error, 'is being written by another process')
  assert not (tmp_path / 'new').exists()


def test_a_run_that_is_beyond_its_last_step(data, tmp_path):
  bindings = {'MODEL_DIR': str(tmp_path / 'new'), 'SAVE_EVERY': 1}
  files = ['gin_configs/stages/tune.gin', data / 'settings.gin']
  told = t5x_commands.run('train', files, bindings)
  assert len(told.splitlines()) < 60, told  # no dumps
  error = t5x_commands.run('train', files, bindings | {'TRAIN_STEPS': 1}, 2)
  assert_one_sentence(error, 'has checkpoint_2, and TRAIN_STEPS is 1')

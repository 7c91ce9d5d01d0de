"""Settings at their edges, of `mmicl train` and of the other commands."""

import contextlib
import io
import itertools
import os
from unittest import mock

import tiny_records

from mmicl_jax.__main__ import main
from mmicl_jax.errors import UserError
from mmicl_jax.training import loop

NUMBERS = (
  *(
    'TRAIN_STEPS',
    'BATCH_SIZE',
    'NUM_MICROBATCHES',
    'SAVE_EVERY',
    'EVAL_EVERY',
  ),
  *(
    'LOG_EVERY',
    'KEEP',
    'SEED',
    'INPUTS_LENGTH',
    'TARGETS_LENGTH',
    'MAX_IMAGES',
  ),
  *('WORKERS', 'PEAK_RATE', 'WARMUP_STEPS', 'WARMUP', 'EVAL_STEPS'),
  *('presets.model.dropout_rate', 'presets.model.vocab_size'),
  *('presets.model.image_token', 'partitioning.make_mesh.data'),
  *('partitioning.make_mesh.fsdp', 'partitioning.make_mesh.tensor'),
)
WORDS = (
  *('BEST_BY', 'FROZEN_DTYPE', 'TRAINABLE', 'INIT_FROM', 'DATA', 'EVAL_DATA'),
  *('VOCABULARY', 'DATA_DIR', 'TEMPLATES', 'SKIP_BAD_RECORDS', 'SHUFFLE'),
  *('LOSS_MEAN', 'TENSORBOARD', 'FEATURE_CACHE', 'QFORMER_VOCABULARY'),
  *('presets.model.dtype', 'presets.model.remat', 'presets.model.scan_layers'),
  *('presets.model.preset', 'NO_SUCH_NAME', 'FROZEN_WHOLE'),
  'presets.model.dropout_bits',
)
VALUES = (
  *('0', '1', '2', '-1', '3', '2.5', '-0.5', '1e400', '1e-300', '1e30'),
  *('2147483648', '9223372036854775808', '1' + '0' * 40, 'None', 'True'),
  *("''", "'ten'", "'/'", "'bf16'", "'bfloat16'", "'full'", "'('", '[]', '{}'),
  *("['a', 'b']", '(1, 2)', "'图'", '%', '@x()', '', "'tune'", "'lora'"),
)
TEXTS = (
  *('', ' ', '0', '1', '-1', '1e400', 'nan', '9' * 40, 'ten', '图', '/', '.'),
  *('None', '[]', 'a' * 5000, '\udcff', '{image}', '1,2', 'data=2', '--json'),
)


class Begun(Exception):
  """All settings were taken."""


def _status(arguments):
  """What a command returns; raises UserError with what it says."""
  said = io.StringIO()
  with contextlib.redirect_stdout(io.StringIO()):
    with contextlib.redirect_stderr(said):
      try:
        status = main(arguments)
      except SystemExit as exit:
        status = exit.code
  if status == 2:
    lines = said.getvalue().strip().splitlines()
    shown = [line for line in lines if line.startswith('mmicl: ')]
    assert len(shown) == 1 or lines == [], said.getvalue()
    raise UserError(shown[0] if shown else 'problems were found')
  assert status in (0, 1), (status, said.getvalue())


def train(folder):
  """The settings of `mmicl train`, up to the first parameter."""
  tiny_records.write(folder, 4)
  config = tiny_records.config(folder)
  base = {
    'MODEL_DIR': repr(str(folder / 'run')),
    'DATA': repr(str(folder / 'train.jsonl')),
    'VOCABULARY': repr(str(folder / 'spiece.model')),
    'TRAIN_STEPS': '2',
    'BATCH_SIZE': '2',
    'INPUTS_LENGTH': '64',
    'TARGETS_LENGTH': '8',
    'MAX_IMAGES': '1',
    'presets.model.image_token': str(config.image_token),
    'presets.model.vocab_size': str(config.t5.vocab_size),
  }
  files = ['models/tiny', 'stages/tune', 'meshes/cpu', 'runs/train']

  def case(rng):
    given = dict(base)
    for _ in range(rng.choice((1, 1, 1, 2))):
      name = rng.choice(NUMBERS if rng.random() < 0.6 else WORDS)
      given[name] = rng.choice(VALUES)
    arguments = [
      'train',
      *(f'--gin_file={file}.gin' for file in files),
      *(f'--gin.{name}={value}' for name, value in given.items()),
    ]
    with mock.patch.object(loop.Trainee, 'begin', side_effect=Begun):
      with contextlib.suppress(Begun):
        _status(arguments)

  return case


def commands(folder):
  """Options of the other commands, up to the first model."""
  tiny_records.write(folder, 4)
  (folder / 'empty').mkdir()
  numbers = itertools.count()
  record_file = str(folder / 'train.jsonl')

  def output():
    return str(folder / f'out{next(numbers)}')

  def case(rng):
    odd = rng.choice(TEXTS)
    checkpoint = str(folder / rng.choice(('absent', 'empty', 'train.jsonl')))
    ask = ['generate', '--checkpoint', checkpoint, '--prompt', 'a']
    option = rng.choice(
      ('num_beams', 'max_new_tokens', 'min_new_tokens', 'length_penalty')
      + ('early_stopping', 'num_return_sequences', 'temperature', 'top_k')
      + ('top_p', 'repetition_penalty', 'stop', 'seed', 'beam_search', 'mesh')
      + ('batch_size', 'max_input_length', 'image', 'shots', 'style', 'dtype')
      + ('weights', 'data_dir', 'prompt', 'no_such_option')
    )
    arguments = rng.choice(
      (
        [*ask, f'--{option}', odd],
        [*ask, f'--{option}={odd}'],
        ['generate', '--checkpoint', odd, '--prompt', 'a'],
        ['data', 'check', record_file, '--data_dir', odd],
        ['data', 'check', odd, '--json'],
        ['data', 'stats', odd],
        ['data', 'show', record_file, '--out', output(), '--limit', odd],
        ['data', 'show', odd, '--out', output()],
        ['data', 'cache-features', record_file]
        + ['--checkpoint', checkpoint, '--out', output(), '--batch_size', odd],
        ['data', 'cache-features', odd, '--checkpoint', checkpoint]
        + ['--out', output()],
        ['convert', 'to-jax', '--source', odd, '--out', output()],
        ['convert', 'to-jax', '--source', checkpoint, '--out', output()]
        + [
          f'--{rng.choice(("vit_eps", "qformer_rows", "dtype", "seed"))}',
          odd,
        ],
        ['convert', 'to-jax', '--t5', odd, '--out', output()],
        ['convert', 'to-pytorch', '--checkpoint', odd, '--out', output()],
        ['convert', 'to-pytorch', '--checkpoint', checkpoint, '--out', output()]
        + ['--shard_gb', odd],
        ['convert', 'check', '--source', checkpoint]
        + [f'--{rng.choice(("images", "words", "tolerance", "inputs"))}', odd],
        [odd],
        ['env', odd],
        [],
      )
    )
    before = os.getcwd()
    os.chdir(folder / 'empty')
    try:
      _status(arguments)
    finally:
      os.chdir(before)
    assert not os.listdir(folder / 'empty'), 'something was left here'

  return case

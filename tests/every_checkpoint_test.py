"""Each command takes each checkpoint that the project writes.

Where it cannot, it says so in one sentence (REFUSED).
"""

import shutil

import every_checkpoint
import numpy as np
import pytest
import small_run
import tiny_records
from every_checkpoint import KINDS, STEP

from mmicl_jax.__main__ import main
from mmicl_jax.checkpoints.steps import latest_step
from mmicl_jax.checkpoints.store import load_weights
from mmicl_jax.models import lora

ADAPTERS = ('adapters', 'adapters on bfloat16')
REFUSED = {
  ('begin stage 2', kind): r'lora_a has shape .* there and none'
  for kind in ADAPTERS
} | {
  ('resume', kind): 'with another trainable set or optimizer'
  for kind in ('converted', 'converted adapters')
}


@pytest.fixture(scope='module', autouse=True)
def one_step():
  with small_run.one_step_for_equal_runs():
    yield


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  return tiny_records.write(tmp_path_factory.mktemp('data'), 2)


@pytest.fixture(scope='module')
def checkpoints(data, tmp_path_factory):
  folder = tmp_path_factory.mktemp('checkpoints')
  every_checkpoint.make_all(folder, data)
  return folder


def run(directory, config, kind, steps, init_from=None):
  profile, _, frozen = every_checkpoint.RUNS.get(
    kind, every_checkpoint.RUNS['stage 2']
  )
  return small_run.run(
    directory,
    steps,
    config=config,
    trainable=profile,
    frozen_dtype=frozen,
    train=small_run.Data(config=config),
    learning_rate=every_checkpoint.SCHEDULE,
    num_microbatches=1,
    init_from=init_from,
  )


def generate(folder, kind, data, out, *more):
  """An answer to a record."""
  command = ['generate', '--checkpoint', str(folder / kind), *more]
  command += ['--input', str(data / 'eval.jsonl'), '--output', str(out / 'a')]
  assert main([*command, '--max_new_tokens', '2']) == 0
  assert len((out / 'a').read_text().splitlines()) == 2


def generate_int8(folder, kind, data, out):
  generate(folder, kind, data, out, '--weights', 'int8')


def begin_stage_2(folder, kind, data, out):
  layers = 'layers apart' if kind == 'layers apart' else 'stage 2'
  config = every_checkpoint.config_of(data, layers)
  assert run(out / 'run', config, 'stage 2', 1, folder / kind).step == 1


def begin_adapters(folder, kind, data, out):
  """Adapters of the checkpoint are trained on; others begin anew."""
  config = every_checkpoint.config_of(data, 'adapters')
  if kind == 'layers apart':
    config = every_checkpoint.configs.with_execution(config, scan_layers=False)
  before = load_weights(folder / kind)
  after = run(out / 'run', config, 'adapters', 1, folder / kind).params
  old, new = lora.split_adapters(before)[1], lora.split_adapters(after)[1]
  if old:
    old, new = small_run.flat(old), small_run.flat(new)
    for name, x in new.items():  # one step moves them a little
      assert np.abs(x - old[name]).max() < 0.1 * np.abs(old[name]).max(), name


def resume(folder, kind, data, out):
  shutil.copytree(folder / kind, out / 'run')
  config = every_checkpoint.config_of(data, kind)
  assert run(out / 'run', config, kind, STEP + 1).step == STEP + 1
  assert latest_step(out / 'run') == STEP + 1


def export(folder, kind, data, out):
  command = ['convert', 'to-pytorch', '--checkpoint', str(folder / kind)]
  assert main([*command, '--out', str(out / 'hf')]) == 0


def check(folder, kind, data, out):
  """With its own export."""
  pytest.importorskip('transformers')
  pytest.importorskip('torch')
  command = ['convert', 'check', '--source', str(folder / f'{kind}_hf')]
  command += ['--checkpoint', str(folder / kind), '--images', '1,0']
  assert main([*command, '--max_new_tokens', '2']) == 0


def cache_features(folder, kind, data, out):
  command = ['data', 'cache-features', str(data / 'train.jsonl')]
  command += ['--checkpoint', str(folder / kind), '--out', str(out / 'cache')]
  assert main([*command, '--data_dir', str(data)]) == 0


def bench(folder, kind, data, out):
  command = ['bench', 'quality', '--checkpoint', str(folder / kind)]
  assert main([*command, '--input', str(data / 'eval.jsonl')]) == 0


COMMANDS = {
  'generate': generate,
  'generate int8': generate_int8,
  'begin stage 2': begin_stage_2,
  'begin adapters': begin_adapters,
  'resume': resume,
  'convert to-pytorch': export,
  'convert check': check,
  'cache-features': cache_features,
  'bench quality': bench,
}


@pytest.mark.slow
@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('command', COMMANDS)
def test_command_takes_checkpoint(
  command, kind, checkpoints, data, tmp_path, capsys
):
  call = COMMANDS[command]
  if words := REFUSED.get((command, kind)):
    from mmicl_jax.errors import UserError

    with pytest.raises(UserError, match=words):
      call(checkpoints, kind, data, tmp_path)
    return
  call(checkpoints, kind, data, tmp_path)

"""Runs, answers, caches and conversions on a bucket equal those on a disk."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import fsspec
import numpy as np
import object_store
import ports
import pytest
import small_run
import tiny_records

from mmicl_jax import __main__ as cli
from mmicl_jax.checkpoints import staged, store
from mmicl_jax.convert import loading
from mmicl_jax.runtime import remote

pytestmark = pytest.mark.slow
BUCKET = object_store.BUCKET


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  return tiny_records.write(tmp_path_factory.mktemp('data'), 6)


@pytest.fixture
def server(monkeypatch):
  with object_store.serving(monkeypatch) as found:
    yield found


@pytest.fixture
def bucket(server, data):
  """The records with their images, the vocabulary and gin files."""
  for path in data.iterdir():
    fsspec.filesystem('s3').put_file(str(path), f'bucket/data/{path.name}')
  return server


def arguments(place, data, **more):
  words = tiny_records.tokenizer.Tokenizer(data / 'spiece.model')
  bindings = {
    'DATA': repr(f'{place}/train.jsonl'),
    'VOCABULARY': repr(f'{place}/spiece.model'),
    'EVAL_DATA': repr(f'{place}/eval.jsonl'),
    'EVAL_EVERY': 4,
    'SAVE_EVERY': 2,
    'BATCH_SIZE': 2,
    'INPUTS_LENGTH': 48,
    'TARGETS_LENGTH': 4,
    'MAX_IMAGES': 1,
    'KEEP': 2,
    'PEAK_RATE': 1e-2,
    'presets.model.image_token': words.image_id,
    'presets.model.vocab_size': words.vocab_size,
  }
  files = ['models/tiny', 'stages/tune', 'meshes/cpu', 'runs/train']
  return (
    ['train']
    + [f'--gin_file={name}.gin' for name in files]
    + [f'--gin.{name}={value}' for name, value in (bindings | more).items()]
  )


def train(*given, **more):
  assert cli.main(arguments(*given, **more)) == 0


def names(prefix):
  return set(remote.listing(f'{BUCKET}/{prefix}'))


def assert_same_weights(one, other):
  small_run.assert_bits_equal(
    store.load_weights(one), store.load_weights(other)
  )


def test_a_run_on_a_bucket_is_that_on_a_disk(bucket, data, tmp_path, capsys):
  here, there = tmp_path / 'run', f'{BUCKET}/run'
  train(data, data, MODEL_DIR=repr(str(here)), TRAIN_STEPS=5)
  (tmp_path / 'steps.gin').write_text('TRAIN_STEPS = 5\n')
  (tmp_path / 'run.gin').write_text(f"include '{BUCKET}/gin/steps.gin'\n")
  for name in ('steps.gin', 'run.gin'):
    fsspec.filesystem('s3').put_file(tmp_path / name, f'bucket/gin/{name}')
  given = (f'{BUCKET}/data', data)
  train(*given, MODEL_DIR=repr(there), TRAIN_STEPS=3)
  assert staged.complete_steps(there, names('run')) == {2, 3}
  more = [f'--gin_file={BUCKET}/gin/run.gin']
  assert cli.main(arguments(*given, MODEL_DIR=repr(there)) + more) == 0
  assert 'resuming at step 3 from s3://bucket/run' in capsys.readouterr().err
  assert staged.complete_steps(there, names('run')) == {4, 5}
  assert_same_weights(here, there)
  beside = {'model.json', 'spiece.model', 'config.gin', 'ledger.json'}
  assert beside <= names('run')

  # What follows reads that run, and its results are those of the disk's.
  answers(here, there, data, tmp_path, bucket)
  features(here, there, data, tmp_path)
  conversions(here, there, tmp_path)
  assert not [n for n in os.listdir() if n.startswith(('s3:', 'gs:'))]


def answers(here, there, data, tmp_path, bucket):
  output = f'{BUCKET}/answers/a.jsonl'
  options = ['--batch_size', '2', '--max_new_tokens', '3']
  local = tmp_path / 'a.jsonl'
  from_here = ['--input', str(data / 'train.jsonl'), '--output', str(local)]
  from_there = ['--input', f'{BUCKET}/data/train.jsonl', '--output', output]
  ask = ['generate', '--checkpoint', str(here), *options, *from_here]
  assert cli.main(ask) == 0
  ask = ['generate', '--checkpoint', there, *options, *from_there]
  ask += ['--cache_dir', f'{BUCKET}/seen']
  assert cli.main(ask) == 0
  assert remote.read_bytes(output) == local.read_bytes()
  assert any(name.endswith('.keys.npy') for name in names('seen'))
  # Cut off as a killed run leaves it, it goes on; --overwrite makes it anew.
  remote_file = fsspec.filesystem('s3')
  remote_file.pipe_file('bucket/answers/a.jsonl', local.read_bytes()[:300])
  assert cli.main(ask) == 0
  assert remote.read_bytes(output) == local.read_bytes()
  assert cli.main([*ask, '--overwrite']) == 0
  assert remote.read_bytes(output) == local.read_bytes()
  assert names('answers') == {'a.jsonl'}


def features(here, there, data, tmp_path):
  fill = ['data', 'cache-features', '--dtype', 'float32', '--batch_size', '2']
  cache = str(tmp_path / 'cache')
  more = [str(data / 'train.jsonl'), '--checkpoint', str(here), '--out', cache]
  assert cli.main([*fill, *more]) == 0
  more = [f'{BUCKET}/data/train.jsonl', '--checkpoint', there]
  assert cli.main([*fill, *more, '--out', f'{BUCKET}/cache']) == 0
  assert names('cache') == set(os.listdir(cache))
  settings = {'TRAIN_STEPS': 2, 'EVAL_DATA': None}
  from_here = {'INIT_FROM': repr(str(here)), 'FEATURE_CACHE': repr(cache)}
  two = tmp_path / 'two'
  train(data, data, MODEL_DIR=repr(str(two)), **settings, **from_here)
  train(
    f'{BUCKET}/data',
    data,
    MODEL_DIR=repr(f'{BUCKET}/two'),
    INIT_FROM=repr(there),
    FEATURE_CACHE=repr(f'{BUCKET}/cache'),
    WORKERS=1,
    **settings,
  )
  assert_same_weights(two, f'{BUCKET}/two')


def conversions(here, there, tmp_path):
  convert = ['convert', 'to-pytorch', '--checkpoint']
  assert cli.main([*convert, str(here), '--out', str(tmp_path / 'hf')]) == 0
  assert cli.main([*convert, there, '--out', f'{BUCKET}/hf']) == 0
  assert names('hf') == set(os.listdir(tmp_path / 'hf'))
  _, params, _ = loading.load_pretrained(f'{BUCKET}/hf')
  small_run.assert_bits_equal(params, store.load_weights(here))
  back = ['convert', 'to-jax', '--source', f'{BUCKET}/hf']
  assert cli.main([*back, '--out', f'{BUCKET}/back']) == 0
  assert_same_weights(here, f'{BUCKET}/back')


def test_a_run_that_is_killed_while_it_sends_loses_nothing_before(
  bucket, data, tmp_path
):
  given = f'{BUCKET}/data', data
  settings = {'TRAIN_STEPS': 4, 'EVAL_DATA': None}
  there = f'{BUCKET}/run'
  killed = threading.Event()

  def wait_after_the_first_file(method, path):
    """All later files are held until the run is gone, and then refused."""
    if method == 'PUT' and 'checkpoint_4/' in path and stored():
      return killed.wait()

  def stored():
    return any(name.startswith('checkpoint_4/') for name in names('run'))

  bucket.watch = wait_after_the_first_file
  command = arguments(*given, MODEL_DIR=repr(there), **settings)
  child = subprocess.Popen(
    [sys.executable, '-m', 'mmicl_jax', *command],
    env=os.environ | {'TMPDIR': str(tmp_path)},
    cwd=Path(__file__).parents[1],
    stderr=subprocess.DEVNULL,
  )
  while not stored():
    assert child.poll() is None, 'the run has ended'
    time.sleep(0.05)
  child.send_signal(signal.SIGKILL)
  child.wait()
  killed.set()
  bucket.watch = None
  assert staged.complete_steps(there, names('run')) == {2}
  assert stored()
  train(*given, MODEL_DIR=repr(there), **settings)
  assert staged.complete_steps(there, names('run')) == {2, 4}
  train(*given, MODEL_DIR=repr(str(tmp_path / 'whole')), **settings)
  assert_same_weights(tmp_path / 'whole', there)


def test_a_store_that_fails_for_a_while_costs_time_alone(
  bucket, data, monkeypatch
):
  monkeypatch.setattr(remote, 'PAUSES', (0.01,) * 5)
  settings = {'TRAIN_STEPS': 2, 'EVAL_DATA': None, 'SAVE_EVERY': 1}
  seen = []

  def fail(method, path):
    if 'checkpoint_' in path and len(seen) < 4:
      seen.append(path)  # requests at one time may be one more
      return True

  bucket.watch = fail
  there = f'{BUCKET}/run'
  train(f'{BUCKET}/data', data, MODEL_DIR=repr(there), **settings)
  assert len(seen) >= 4
  assert staged.complete_steps(there, names('run')) == {1, 2}


def test_a_store_that_fails_for_ever_is_one_sentence(
  bucket, data, monkeypatch, capsys
):
  monkeypatch.setattr(remote, 'PAUSES', (0.01,) * 2)
  settings = {'TRAIN_STEPS': 3, 'EVAL_DATA': None, 'SAVE_EVERY': 1}
  there = f'{BUCKET}/run'
  bucket.watch = lambda method, path: (
    'checkpoint_' in path and 'checkpoint_1/' not in path
  )
  command = arguments(f'{BUCKET}/data', data, MODEL_DIR=repr(there), **settings)
  capsys.readouterr()
  assert cli.main(command) == 2
  line = capsys.readouterr().err.splitlines()[-1]
  assert line.startswith('mmicl: s3://bucket/run/checkpoint_2/')
  assert 'could not be written (Internal Server Error)' in line
  bucket.watch = None
  assert staged.complete_steps(there, names('run')) == {1}
  train(f'{BUCKET}/data', data, MODEL_DIR=repr(there), **settings)
  assert staged.complete_steps(there, names('run')) == {2, 3}


def test_one_process_begins_on_gs_and_two_go_on(data, tmp_path, monkeypatch):
  """One sends what Orbax wrote here; of two Orbax itself writes there."""
  settings = {'EVAL_DATA': None, 'SAVE_EVERY': 2, 'KEEP': 1}
  settings |= {'presets.model.dropout_rate': 0.0}
  here, there = tmp_path / 'run', 'gs://bucket/run'
  train(data, data, MODEL_DIR=repr(str(here)), TRAIN_STEPS=5, **settings)
  with object_store.serving_google(monkeypatch):
    train(data, data, MODEL_DIR=repr(there), TRAIN_STEPS=2, **settings)
    settings |= {'MODEL_DIR': repr(there), 'TRAIN_STEPS': 5}
    port = ports.free()
    runs = [
      subprocess.Popen(
        [sys.executable, '-m', 'mmicl_jax', *arguments(data, data, **settings)]
        + [f'--coordinator_address=localhost:{port}', '--process_count=2']
        + [f'--process_index={i}'],
        cwd=Path(__file__).parents[1],
        stderr=subprocess.PIPE,
        text=True,
      )
      for i in range(2)
    ]
    said = [run.communicate()[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert 'resuming at step 2 from gs://bucket/run' in said[0]
    steps = staged.complete_steps(there, remote.listing(there))
    assert steps == {5}
    one, two = map(small_run.flat, map(store.load_weights, (here, there)))
  for name, value in one.items():
    np.testing.assert_allclose(value, two[name], rtol=1e-3, atol=1e-5)
  assert not [n for n in os.listdir() if n.startswith('gs:')]

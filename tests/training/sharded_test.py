"""The losses of a mesh are those of one device: in one process and in two."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import ports
import pytest
import small_run
import tiny_records
import virtual_devices

from mmicl_jax.checkpoints.steps import latest_step
from mmicl_jax.cost import chips
from mmicl_jax.errors import UserError
from mmicl_jax.models import configs, partitioning
from mmicl_jax.runtime.hosts import join_hosts, share
from mmicl_jax.training import optim, stages
from mmicl_jax.training import state as training_state
from mmicl_jax.training.settings import ModelSettings, StepSettings
from mmicl_jax.training.step import to_device

STEPS = 20
# Four heads, so that a tensor axis of 4 splits them.
SMALL = configs.with_execution(small_run.CONFIG, remat='full')
CONFIG = dataclasses.replace(
  SMALL, t5=dataclasses.replace(SMALL.t5, num_heads=4, mlp_dim=16)
)


def losses(mesh, steps=STEPS, frozen_room=0.0):
  settings = StepSettings(steps, 16, optim.constant(1e-3), num_microbatches=2)
  layout = training_state.RunLayout.of(
    CONFIG, 'tune', settings.chain(), mesh, frozen_room=frozen_room
  )
  state, frozen = layout.random(jax.random.PRNGKey(0))
  step = training_state.compiled_step(layout, settings)
  data, seen = iter(small_run.Data(16, CONFIG)), []
  for _ in range(steps):
    batch = to_device(next(data)[0], mesh)
    given = state
    state, metrics = step(state, frozen, batch)
    # The state's memory is used again; the frozen half is kept.
    assert all(x.is_deleted() for x in jax.tree.leaves(given))
    assert not any(x.is_deleted() for x in jax.tree.leaves(frozen))
    seen.append(float(metrics['loss']))
  return seen, state


@pytest.mark.slow
@pytest.mark.devices(8)
def test_every_mesh_trains_as_one_device_does():
  one, _ = losses(partitioning.make_mesh(1, 1, 1, jax.devices()[:1]))
  for shape, room in (
    ((8, 1, 1), 0.0),
    ((2, 2, 2), 0.0),
    ((1, 2, 4), 0.0),
    ((1, 4, 2), math.inf),  # the frozen half is not split over fsdp
  ):
    eight, state = losses(partitioning.make_mesh(*shape), frozen_room=room)
    np.testing.assert_allclose(eight, one, rtol=1e-5, err_msg=str(shape))
    # Parameters and moments lie in pieces, alike.
    weight, moment = (
      tree['t5']['decoder']['layers']['cross_attention']['query']['kernel']
      for tree in (state.params, state.opt_state[1][0].mu)
    )
    assert weight.sharding == moment.sharding
    shard = weight.addressable_shards[0].data
    assert shard.size * shape[1] * shape[2] == weight.size
    assert stages.split_params(state.params, 'tune')[1] == {}


def test_the_frozen_half_is_whole_where_there_is_room():
  axes = {'data': 1, 'fsdp': 2, 'tensor': 2}
  mesh = jax.sharding.AbstractMesh(tuple(axes.values()), tuple(axes))
  chain = StepSettings(1, 8, optim.constant(1e-3)).chain()

  def axes_of(frozen_room):
    layout = training_state.RunLayout.of(
      CONFIG, 'tune', chain, mesh, 'bfloat16', frozen_room
    )
    leaves = jax.tree.leaves(layout.frozen)
    held = sum(
      math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
      for x in leaves
    )
    return held, {axis for x in leaves for axis in x.sharding.spec} - {None}

  _, split = axes_of(0.0)
  held, whole = axes_of(math.inf)
  assert split == {'fsdp', 'tensor'} and whole == {'tensor'}
  assert axes_of(float(held))[1] == whole and axes_of(held - 1.0)[1] == split


@pytest.mark.parametrize(
  'whole, kind, room',
  [
    (None, 'TPU v5 lite', 8 * 2**30),
    (None, 'TPU v5', 95 * 2**29),
    (None, 'cpu', 0),
    (True, 'cpu', math.inf),
    (False, 'TPU v5 lite', 0),
  ],
)
def test_how_much_a_whole_frozen_half_may_take(whole, kind, room):
  model = ModelSettings(CONFIG, 'tune', frozen_whole=whole)
  assert model.frozen_room(chips.tpu_memory(kind)) == room


def command(data, name, steps, *more):
  """`mmicl train` on the records in `data`, losses to name.jsonl."""
  config = tiny_records.config(data)
  bindings = {
    'MODEL_DIR': repr(str(data / name)),
    'DATA': repr(str(data / 'train.jsonl')),
    'VOCABULARY': repr(str(data / 'spiece.model')),
    'TRAIN_STEPS': steps,
    'BATCH_SIZE': 8,
    'INPUTS_LENGTH': 48,
    'TARGETS_LENGTH': 8,
    'MAX_IMAGES': 1,
    'LOG_EVERY': 1,
    'TENSORBOARD': False,
    'presets.model.image_token': config.image_token,
    'presets.model.vocab_size': config.t5.vocab_size,
    'presets.model.dropout_rate': 0.0,
    'loss_file.writer.path': repr(str(data / f'{name}.jsonl')),
  }
  files = ['models/tiny', 'stages/tune', 'meshes/cpu', 'runs/train']
  return [
    *(sys.executable, '-m', 'mmicl_jax', 'train'),
    *(f'--gin_file={file}.gin' for file in files),
    f'--gin_file={data / "losses.gin"}',
    *(f'--gin.{key}={value}' for key, value in bindings.items()),
    *more,
  ]


def environment(devices):
  return os.environ | {
    'PYTHONPATH': os.pathsep.join(filter(None, sys.path)),
    **virtual_devices.variables(devices),
  }


def start(data, name, steps, hosts, devices, *more):
  """The processes of a run."""
  port = ports.free()
  flags = [
    f'--coordinator_address=localhost:{port}',
    f'--process_count={hosts}',
  ]
  runs = []
  for i in range(hosts):
    joined = [*flags, f'--process_index={i}'] if hosts > 1 else []
    runs.append(
      subprocess.Popen(
        command(data, name, steps, *joined, *more),
        env=environment(devices),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
      )
    )
  return runs


def end(runs):
  """Exit codes and what the hosts said."""
  try:
    # The limit ends what would hang; a busy machine needs minutes.
    said = [run.communicate(timeout=1800)[0] for run in runs]
  finally:
    for run in runs:
      run.kill()
  return [run.returncode for run in runs], said


def train(data, name, steps, hosts=1, devices=1, *more):
  return end(start(data, name, steps, hosts, devices, *more))


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  folder = tiny_records.write(tmp_path_factory.mktemp('data'), 5)
  (folder / 'losses.gin').write_text(
    'from __gin__ import dynamic_registration\n'
    'import loss_file\n'
    'from mmicl_jax.training import loop\n'
    'loop.train.on_metrics = @loss_file.writer()\n'
  )
  return folder


def read(data, name):
  lines = (data / f'{name}.jsonl').read_text().splitlines()
  return {step: loss for step, loss in map(json.loads, lines)}


@pytest.mark.slow
def test_two_processes_train_as_one_device_does(data):
  """And go on from each other's checkpoints, on what all of them see."""
  codes, said = train(data, 'one', STEPS)
  assert codes == [0], said
  mesh = '--gin.partitioning.make_mesh.'
  shape = [f'{mesh}data=1', f'{mesh}fsdp=4', f'{mesh}tensor=2']
  codes, said = train(data, 'two', STEPS - 4, 2, 4, *shape)
  assert codes == [0, 0], said
  codes, said = train(data, 'two', STEPS, 2, 4, *shape)
  assert codes == [0, 0], said
  assert f'resuming at step {STEPS - 4}' in said[0]
  one, two = read(data, 'one'), read(data, 'two')
  assert list(two) == list(range(1, STEPS + 1))
  np.testing.assert_allclose(
    [*two.values()], [*one.values()], rtol=1e-5, atol=0
  )


@pytest.mark.slow
def test_a_bad_record_of_one_process_costs_no_step(data):
  """Nor the batch that the other one had read: the run goes on before it."""
  records = (data / 'train.jsonl').read_text().splitlines()
  broken = json.loads(records[3]) | {'input_image': ['absent.png']}
  records[3] = json.dumps(broken)
  (data / 'broken.jsonl').write_text('\n'.join(records) + '\n')
  path = repr(str(data / 'broken.jsonl'))
  more = [f'--gin.DATA={path}', '--gin.SHUFFLE=False', '--gin.BATCH_SIZE=2']
  codes, said = train(data, 'broken', 3, 2, 1, *more)
  assert codes == [2, 2], said
  assert 'broken.jsonl:4' in said[1] and 'Traceback' not in said[1]
  assert 'another process failed' in said[0]
  assert latest_step(data / 'broken') == 1
  places = (data / 'broken' / 'checkpoint_1' / 'dataset').glob('*.json')
  assert [json.loads(p.read_text())['step'] for p in places] == [1, 1]


@pytest.mark.slow
def test_a_hook_that_fails_in_one_process_costs_no_step(data):
  codes, said = train(
    data,
    'hook',
    9,
    2,
    1,
    f'--gin.loss_file.writer.path={str(data)!r}',  # a folder
  )
  assert codes == [2, 2], said
  assert 'Is a directory' in said[0]
  assert 'another process failed' in said[1]
  assert latest_step(data / 'hook') == 1


@pytest.mark.slow
def test_an_evaluation_that_fails_in_one_process_costs_no_step(data):
  """Process 1 alone reads the bad record; nothing was saved before."""
  records = (data / 'train.jsonl').read_text().splitlines()
  records += [json.dumps(json.loads(records[0]) | {'input_image': ['no.png']})]
  assert len(records) == 6
  (data / 'held_out.jsonl').write_text('\n'.join(records) + '\n')
  path = repr(str(data / 'held_out.jsonl'))
  more = [f'--gin.EVAL_DATA={path}', '--gin.EVAL_EVERY=3']
  codes, said = train(data, 'evaluated', 9, 2, 1, *more)
  assert codes == [2, 2], said
  assert 'held_out.jsonl:6' in said[1]
  assert 'another process failed' in said[0]
  assert latest_step(data / 'evaluated') == 3


@pytest.mark.slow
def test_sigterm_of_one_process_saves_once_and_ends_both(data):
  """Though they evaluate now and then, where they notice it too."""
  path = repr(str(data / 'train.jsonl'))
  more = [f'--gin.EVAL_DATA={path}', '--gin.EVAL_EVERY=2']
  runs = start(data, 'stopped', 10**6, 2, 1, *more)
  losses = data / 'stopped.jsonl'
  while not losses.exists() and all(run.poll() is None for run in runs):
    time.sleep(0.1)
  runs[1].send_signal(signal.SIGTERM)
  codes, said = end(runs)
  assert codes == [0, 0], said
  saved = f'saved at step {max(read(data, "stopped"))}\n'
  assert saved in said[0] and 'SIGTERM: saved' not in said[1]


@pytest.mark.slow
@pytest.mark.skipif(
  (os.cpu_count() or 1) < 4, reason='four processes need four cores'
)
def test_four_processes_two_and_two_read_the_same_rows(data):
  codes, said = train(data, 'single', 6)
  assert codes == [0], said
  mesh = '--gin.partitioning.make_mesh.'
  shape = [f'{mesh}data=1', f'{mesh}fsdp=2', f'{mesh}tensor=4']
  codes, said = train(data, 'four', 6, 4, 2, *shape)
  assert codes == [0] * 4, said
  one, four = read(data, 'single'), read(data, 'four')
  np.testing.assert_allclose([*four.values()], [*one.values()], rtol=1e-5)


def test_processes_share_rows_where_the_mesh_says_so():
  # Four devices in two processes: rows apart, or the same rows.
  assert share([[0], [0], [1], [1]], 1) == (1, 2)
  assert share([[0, 1], [0, 1]], 1) == (0, 1)
  # Four processes in a square: two and two share.
  square = [[0, 1], [0, 1], [2, 3], [2, 3]]
  assert [share(square, i) for i in range(4)] == [
    *((0, 2), (0, 2)),
    *((1, 2), (1, 2)),
  ]
  with pytest.raises(UserError, match='parts of the same rows'):
    share([[0, 0], [0, 1], [1, 1]], 0)


@pytest.mark.parametrize(
  'given, match',
  [
    ((None, 2, None), 'belong together'),
    (('a:1', 2, 2), 'number the processes from 0'),
  ],
)
def test_flags_that_do_not_fit(given, match):
  with pytest.raises(UserError, match=match):
    join_hosts(False, *given)

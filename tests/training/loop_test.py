import dataclasses
import functools
import json
import logging
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_run import (
  CONFIG,
  STEPS,
  Data,
  assert_bits_equal,
  flat,
  one_step_for_equal_runs,
  run,
)

from mmicl_jax.checkpoints import checkpointer, model_dir, store
from mmicl_jax.errors import UserError
from mmicl_jax.models import partitioning
from mmicl_jax.runtime import lock
from mmicl_jax.training import optim, stages
from mmicl_jax.training import state as training_state
from mmicl_jax.training import step as train_step

pytestmark = pytest.mark.slow  # one model is compiled for all of them


@pytest.fixture(scope='module', autouse=True)
def one_step():
  with one_step_for_equal_runs():
    yield


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """One uninterrupted run, and the metrics it reported."""
  directory, seen = tmp_path_factory.mktemp('whole'), {}
  result = run(directory, on_metrics=lambda s, m: seen.update({s: dict(m)}))
  return directory, result, seen


@pytest.fixture(scope='module')
def initial(tmp_path_factory):
  """A weights-only checkpoint of the values `whole` starts from."""
  directory = tmp_path_factory.mktemp('initial')
  layout = training_state.RunLayout.of(
    CONFIG, 'tune', optim.adamw(optim.constant(1.0)), partitioning.make_mesh()
  )
  key, _ = jax.random.split(jax.random.PRNGKey(0))
  state, frozen = layout.random(key)
  params = stages.merge_params(state.params, frozen)
  store.save_weights(directory, params)
  return directory, jax.device_get(params)


def test_frozen_parameters_keep_every_bit(whole, initial):
  _, before = initial
  _, result, _ = whole
  chosen = flat(stages.split_params(before, 'tune')[0])
  before, after = flat(before), flat(result.params)
  for name in before:
    same = np.array_equal(before[name], after[name])
    assert same == (name not in chosen), name


def test_metrics_are_reported(whole):
  _, result, seen = whole
  assert sorted(seen) == [2, 4, 6]
  assert 4 <= seen[6]['tokens'] <= 12
  assert seen[2]['learning_rate'] == pytest.approx(
    1e-2 * np.log(2) / 2 / np.log(2), rel=1e-5
  )
  assert {'loss', 'grad_norm/t5', 'param_norm/projector'} <= set(seen[6])
  assert result.step == STEPS and result.metrics['loss'] == seen[6]['loss']


def test_model_dir_is_complete(whole):
  directory, result, _ = whole
  assert model_dir.read_config(directory) == CONFIG
  assert '"profile": "tune"' in (directory / 'ledger.json').read_text()
  assert_bits_equal(store.load_weights(directory), result.params)


def test_resumed_equals_uninterrupted(whole, tmp_path):
  _, result, _ = whole
  run(tmp_path, 3)
  resumed = run(tmp_path)
  assert_bits_equal(resumed.params, result.params)
  assert resumed.metrics['loss'] == result.metrics['loss']


def test_a_finished_run_does_nothing(whole):
  directory, result, _ = whole
  again = run(directory)
  assert again.step == STEPS
  assert_bits_equal(again.params, result.params)


def test_sigterm_saves_and_exits_with_0(whole, tmp_path):
  _, result, _ = whole

  def stop(step, metrics):
    os.kill(os.getpid(), signal.SIGTERM)

  with pytest.raises(SystemExit) as exit:
    run(tmp_path, on_metrics=stop, save_every=100)
  assert exit.value.code == 0
  assert checkpointer.Checkpointer(tmp_path).steps() == [2]
  assert_bits_equal(run(tmp_path).params, result.params)


def test_sigterm_does_not_wait_for_an_evaluation(whole, tmp_path):
  class Long(Data):
    def __iter__(self):
      for item in super().__iter__():
        assert self.position < 4, 'the evaluation goes on'
        if self.position == 2:
          os.kill(os.getpid(), signal.SIGTERM)
        yield item

  _, result, _ = whole
  with pytest.raises(SystemExit) as exit:
    run(tmp_path, held_out=Long(), eval_every=3, save_every=100)
  assert exit.value.code == 0
  assert checkpointer.Checkpointer(tmp_path).steps() == [3]
  # The evaluation that was cut short is made where the run goes on.
  seen = []
  resumed = run(
    tmp_path,
    held_out=Data(limit=2),
    eval_every=3,
    on_metrics=lambda s, m: seen.append((s, 'eval/loss' in m)),
  )
  assert seen[0] == (3, True) and resumed.step == STEPS
  assert_bits_equal(resumed.params, result.params)


def test_torn_checkpoint_costs_only_its_steps(whole, tmp_path, caplog):
  _, result, _ = whole
  run(tmp_path, 4)
  (tmp_path / 'checkpoint_4/state/manifest.ocdbt').write_bytes(b'torn')
  with caplog.at_level(logging.WARNING):
    resumed = run(tmp_path)
  assert 'checkpoint_4 is damaged' in caplog.text
  assert_bits_equal(resumed.params, result.params)


def test_stage_2_starts_from_stage_1(tmp_path):
  one = run(tmp_path / 'one', 2, trainable='pretrain', num_microbatches=1)
  seen = []
  two = run(
    tmp_path / 'two',
    1,
    init_from=tmp_path / 'one',
    log_every=1,
    on_metrics=lambda step, metrics: seen.append((step, metrics)),
  )
  # The warm-up's rate is 0 at step 0, so the weights show the run's start.
  assert [step for step, _ in seen] == [1]
  assert_bits_equal(two.params, one.params)


def test_another_stage_in_the_same_directory_is_refused(whole):
  directory, *_ = whole
  with pytest.raises(UserError, match='INIT_FROM'):
    run(directory, trainable='pretrain')


def test_another_architecture_is_refused(initial, tmp_path):
  directory, _ = initial
  wider = dataclasses.replace(
    CONFIG, t5=dataclasses.replace(CONFIG.t5, mlp_dim=16)
  )
  with pytest.raises(UserError, match=r't5/decoder/.*\(1, 8, 8\) there'):
    run(tmp_path, config=wider, init_from=directory)


def test_frozen_towers_in_bfloat16(initial, tmp_path):
  directory, before = initial
  result = run(tmp_path, 1, frozen_dtype='bfloat16', init_from=directory)
  trainable, frozen = map(flat, stages.split_params(result.params, 'tune'))
  assert {x.dtype for x in frozen.values()} == {jnp.dtype('bfloat16')}
  assert {x.dtype for x in trainable.values()} == {jnp.dtype('float32')}
  for name, x in frozen.items():
    np.testing.assert_array_equal(x, flat(before)[name].astype(jnp.bfloat16))


def test_evaluation_sees_all_its_data_each_time(initial, tmp_path):
  directory, before = initial
  seen = {}
  held_out = Data(limit=2)
  run(
    tmp_path,
    1,  # at a rate of 0
    init_from=directory,
    log_every=1,
    held_out=held_out,
    eval_every=1,
    on_metrics=lambda _, metrics: seen.update(metrics),
  )
  assert held_out.position == 0  # ready for the next evaluation
  apply = train_step.apply_fn(CONFIG, partitioning.make_mesh())
  sums_of = jax.jit(functools.partial(train_step.token_sums, apply))
  sums = [sums_of(before, Data().batch(i)) for i in range(2)]
  loss = sum(x['loss'] for x in sums) / sum(x['tokens'] for x in sums)
  assert seen['eval/loss'] == pytest.approx(float(loss), rel=1e-5)


@pytest.mark.parametrize(
  'changes, match',
  [
    ({'batch_size': 3}, 'BATCH_SIZE 3 does not divide'),
    ({'batch_size': 8}, '4 rows a batch'),
    ({'loss_mean': 'sum'}, 'LOSS_MEAN'),
    ({'train_steps': 0}, 'TRAIN_STEPS'),
    ({'trainable': 'stage2'}, 'unknown profile'),
    ({'init_from': 'nowhere'}, 'there is no checkpoint'),
    ({'vocabulary': 'nowhere.model'}, 'nowhere.model'),
    ({'train': Data(limit=0)}, 'ended before step 1'),
  ],
)
def test_settings_that_cannot_work(tmp_path, changes, match):
  with pytest.raises(UserError, match=match):
    run(tmp_path, **changes)


class Empty(Data):
  """No target token from the third batch on."""

  def batch(self, position):
    batch = super().batch(position)
    if position >= 2:
      batch['decoder_loss_weights'] *= 0
    return batch


def test_a_batch_without_targets_is_an_error_and_not_saved(tmp_path):
  with pytest.raises(UserError, match='batch of step 3 has no target token'):
    run(tmp_path, train=Empty())
  assert checkpointer.Checkpointer(tmp_path).steps() == [2]


def test_numbers_that_are_not_finite_end_the_run(tmp_path):
  """The loss is not a number after rates that no parameter survives."""

  def rate(step):
    return jnp.where(step < 4, 1e-3, 1e30)

  with pytest.raises(UserError) as error:
    run(tmp_path, learning_rate=rate, keep=1, log_every=100)
  text = str(error.value)
  assert text.startswith('step 5 gave no finite numbers (loss ')
  assert f'sound checkpoint is {tmp_path / "checkpoint_4"}.' in text
  assert 'PEAK_RATE' in text
  assert checkpointer.Checkpointer(tmp_path).steps() == [4]


def failing(step, metrics):
  if step == 3:
    raise OSError('the hook fails')


class Broken(Data):
  def __iter__(self):
    raise UserError('b.jsonl:1: a bad image')
    yield


@pytest.mark.parametrize(
  'changes',
  [
    {'on_metrics': failing, 'log_every': 3},
    {'held_out': Broken(), 'eval_every': 3},
    {'held_out': Broken(), 'eval_every': 3, 'best_by': 'eval/loss'},
    {'train': Data(limit=3)},
  ],
)
def test_a_later_failure_costs_no_step(tmp_path, changes):
  with pytest.raises((UserError, OSError), match='hook|bad image|ended'):
    run(tmp_path, save_every=100, **changes)
  assert checkpointer.Checkpointer(tmp_path).steps() == [3]


class Judge(Data):
  """Held-out data; SIGTERM comes while they are read at one step."""

  def __init__(self, stop_at=None):
    super().__init__(limit=2)
    self.calls, self.stop_at = 0, stop_at

  def __iter__(self):
    self.calls += 1
    for item in super().__iter__():
      if self.calls == self.stop_at:
        os.kill(os.getpid(), signal.SIGTERM)
      yield item


def contents(folder):
  """The checkpoints on disk and how they were rated."""
  return {
    path.name: json.loads((path / 'metrics' / 'metrics').read_text())
    for path in folder.glob('checkpoint_*')
  }


@pytest.mark.slow
def test_sigterm_inside_the_evaluation_of_the_best_keeps_it(tmp_path):
  """Disturbed and undisturbed runs keep the same checkpoints."""
  settings = {'eval_every': 1, 'keep': 1, 'save_every': 100}
  settings['best_by'] = 'eval/loss'
  # Nothing changes before the fourth step, which helps; the next ones do not.
  settings['learning_rate'] = lambda step: jnp.where(step < 3, 0.0, 3.0)
  run(tmp_path / 'whole', held_out=Judge(), **settings)
  whole = contents(tmp_path / 'whole')
  assert sorted(whole) == ['checkpoint_4', 'checkpoint_6']
  with pytest.raises(SystemExit):
    run(tmp_path / 'stopped', held_out=Judge(stop_at=4), **settings)
  assert (tmp_path / 'stopped' / 'checkpoint_4').is_dir()
  run(tmp_path / 'stopped', held_out=Judge(), **settings)
  assert contents(tmp_path / 'stopped') == whole


def test_a_second_run_in_the_same_directory_is_told(tmp_path):
  (tmp_path / 'runs').mkdir()  # a lock lies beside what is written
  with (
    lock.only_writer(tmp_path / 'runs' / 'one'),
    pytest.raises(UserError, match='is being written by another process'),
  ):
    run(tmp_path / 'runs' / 'one', 1)
  assert not (tmp_path / 'runs' / 'one').exists()

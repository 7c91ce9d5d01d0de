import json
import logging
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import serialization, traverse_util

from mmicl_jax.checkpoints import checkpointer, store
from mmicl_jax.checkpoints.model_dir import (
  copy_vocabulary,
  read_config,
  write_config,
)
from mmicl_jax.errors import UserError
from mmicl_jax.models import configs
from mmicl_jax.runtime import hosts as multihost
from mmicl_jax.training import optim, stages

PROFILE = ('^projector/', 'query')
TX = optim.adamw(optim.log_warmup(1e-3, 10))


def params(width=3):
  return {
    'projector': {'kernel': jnp.arange(2.0 * width).reshape(2, width)},
    't5': {
      'query': {'kernel': jnp.full((2, 2), 2.0)},
      'key': {'kernel': jnp.full((2, 2), 3.0, jnp.bfloat16)},
    },
  }


def tree(step, profile=PROFILE, width=3, scale=1.0):
  p = jax.tree.map(lambda x: x * scale, params(width))
  trainable, _ = stages.split_params(p, profile)
  return store.state_tree(p, jnp.int32(step), TX.init(trainable))


def like(t):
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), t)


def save(directory, *steps, keep=None):
  c = checkpointer.Checkpointer(directory, keep=keep)
  for step in steps:
    c.save(step, tree(step, scale=step), {'position': step})
  c.close()


def assert_equal(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)


GOLDEN = """\
state/param_states/inner_states/train/inner_state/1/0/count
state/param_states/inner_states/train/inner_state/1/0/mu/projector/kernel
state/param_states/inner_states/train/inner_state/1/0/mu/t5/query/kernel
state/param_states/inner_states/train/inner_state/1/0/nu/projector/kernel
state/param_states/inner_states/train/inner_state/1/0/nu/t5/query/kernel
state/param_states/inner_states/train/inner_state/1/2/count
state/step
target/projector/kernel
target/t5/key/kernel
target/t5/query/kernel"""


def test_golden_layout(tmp_path):
  save(tmp_path, 5)
  assert sorted(traverse_util.flatten_dict(tree(0), sep='/')) == (
    GOLDEN.splitlines()
  )
  assert (tmp_path / 'checkpoint_5/state/manifest.ocdbt').is_file()
  assert json.loads(
    (tmp_path / 'checkpoint_5/dataset/process_0-of-1.json').read_text()
  ) == {'position': 5}


def test_optimizer_state_is_named_as_t5x_names_it():
  # What T5X's OptaxWrapper saves: to_state_dict of multi_transform's state.
  trainable, _ = stages.split_params(params(), PROFILE)
  chosen = traverse_util.flatten_dict(trainable)
  labels = traverse_util.path_aware_map(
    lambda path, _: 'train' if path in chosen else 'frozen', params()
  )
  wrapped = optax.multi_transform(
    {'train': TX, 'frozen': optax.set_to_zero()}, labels
  )
  theirs = traverse_util.flatten_dict(
    serialization.to_state_dict(wrapped.init(params()))
  )
  assert_equal(
    traverse_util.unflatten_dict(theirs), tree(0)['state']['param_states']
  )


def test_restores_what_was_saved(tmp_path):
  save(tmp_path, 5)
  step, state, position = checkpointer.Checkpointer(tmp_path).restore_latest(
    like(tree(0))
  )
  assert step == 5 and position == {'position': 5}
  assert_equal(state, tree(5, scale=5))
  trainable, _ = stages.split_params(params(), PROFILE)
  assert_equal(
    store.opt_state_of(state, TX.init(trainable)), TX.init(trainable)
  )


def test_a_checkpoint_behind_a_link_is_where_the_system_says(tmp_path):
  """TensorStore would cut 'current/..' away and write into another folder."""
  (tmp_path / 'disk' / 'v3').mkdir(parents=True)
  (tmp_path / 'runs').mkdir()
  (tmp_path / 'runs' / 'current').symlink_to('../disk/v3')
  save(tmp_path / 'runs' / 'current' / '..' / 'model', 5)
  assert list((tmp_path / 'runs').iterdir()) == [tmp_path / 'runs' / 'current']
  opened = checkpointer.Checkpointer(tmp_path / 'disk' / 'model')
  step, state, _ = opened.restore_latest(like(tree(0)))
  assert step == 5
  assert_equal(state, tree(5, scale=5))


def test_empty_directory_has_no_checkpoint(tmp_path):
  assert checkpointer.Checkpointer(tmp_path).restore_latest({}) is None


def test_keeps_the_newest(tmp_path):
  save(tmp_path, 1, 2, 3, keep=2)
  assert checkpointer.Checkpointer(tmp_path).steps() == [2, 3]


def test_a_save_is_not_disturbed_by_donation(tmp_path):
  @jax.jit
  def init():
    return {'a': jnp.ones((512, 512))}

  step = jax.jit(lambda t: {'a': t['a'] + 1}, donate_argnums=0)
  state = init()
  c = checkpointer.Checkpointer(tmp_path)
  for i in range(4):
    c.save(i, store.state_tree(state, jnp.int32(i)))
    for _ in range(5):
      state = step(state)
  c.close()
  for i in range(4):
    saved = store.load_weights(tmp_path / f'checkpoint_{i}')
    np.testing.assert_array_equal(saved['a'], 1 + 5 * i)


def files(path):
  return sorted(
    (p for p in Path(path).rglob('*') if p.is_file()),
    key=lambda p: -p.stat().st_size,
  )


def test_a_truncated_checkpoint_is_named_and_skipped(tmp_path, caplog):
  save(tmp_path, 5, 10)
  for path in (tmp_path / 'checkpoint_10/state').rglob('*'):
    if path.is_file() and path.parent.name == 'd':
      path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  c = checkpointer.Checkpointer(tmp_path)
  with caplog.at_level(logging.WARNING):
    step, state, _ = c.restore_latest(like(tree(0)))
  assert step == 5
  assert_equal(state, tree(5, scale=5))
  assert 'checkpoint_10 is damaged' in caplog.text
  c.save(10, tree(10))  # the name is free again
  c.close()
  assert c.steps() == [5, 10]


@pytest.mark.parametrize(
  'name',
  [
    *('state/_METADATA', 'state/manifest.ocdbt', 'state', 'sums', 'dataset'),
    *('sums/metadata', 'dataset/process_0-of-1.json'),
  ],
)
def test_a_missing_file_is_a_torn_checkpoint(tmp_path, name):
  save(tmp_path, 5, 10)
  path = tmp_path / 'checkpoint_10' / name
  if path.is_dir():
    shutil.rmtree(path)
  else:
    path.unlink()
  step, *_ = checkpointer.Checkpointer(tmp_path).restore_latest(like(tree(0)))
  assert step == 5


@pytest.mark.parametrize(
  'name, text',
  [
    ('dataset/process_0-of-1.json', '{"posi'),
    ('dataset/process_0-of-1.json', '{"position": 12}'),
    ('sums/metadata', '{"target/'),
    ('sums/metadata', '[]'),
    ('sums/metadata', '{"target/projector/kernel": "x"}'),
  ],
)
def test_a_damaged_file_is_a_torn_checkpoint(tmp_path, name, text):
  save(tmp_path, 5, 10)
  (tmp_path / 'checkpoint_10' / name).write_text(text)
  step, *_ = checkpointer.Checkpointer(tmp_path).restore_latest(like(tree(0)))
  assert step == 5


def test_the_place_of_another_number_of_processes_is_none(tmp_path):
  save(tmp_path, 5)
  folder = tmp_path / 'checkpoint_5/dataset'
  for path in folder.glob('process_0*'):
    path.rename(folder / path.name.replace('of-1', 'of-2'))
  found = checkpointer.Checkpointer(tmp_path).restore_latest(like(tree(0)))
  assert found[0] == 5 and found[2] is None


@pytest.fixture
def other_host(monkeypatch):
  """Lets another host answer what a function of its own says."""

  def answer(says):
    monkeypatch.setattr(multihost, 'gather', lambda own: [own, says(own)])

  return answer


def test_a_checkpoint_that_another_host_lacks_is_skipped(tmp_path, other_host):
  save(tmp_path, 5, 10)
  c = checkpointer.Checkpointer(tmp_path)
  other_host(lambda own: [5] if own == [5, 10] else own)
  step, state, _ = c.restore_latest(like(tree(0)))
  assert step == 5 and c.steps() == [5]
  assert_equal(state, tree(5, scale=5))
  assert (tmp_path / 'torn_checkpoint_10').is_dir()


def test_a_checkpoint_that_another_host_cannot_read_is_skipped(
  tmp_path, other_host
):
  save(tmp_path, 5, 10)
  refusals = iter([[0], [1]])  # of checkpoint_10, then of checkpoint_5
  other_host(lambda own: own if len(own) > 1 else next(refusals))
  c = checkpointer.Checkpointer(tmp_path)
  step, *_ = c.restore_latest(like(tree(0)))
  assert step == 5 and c.steps() == [5]


def test_what_a_faster_host_moved_aside_stays(tmp_path, monkeypatch):
  save(tmp_path, 5, 10)
  verdicts = iter([False, True])

  def all_agree(yes):
    if agreed := next(verdicts):
      return agreed
    (tmp_path / 'checkpoint_10').rename(tmp_path / 'torn_checkpoint_10')
    return agreed

  monkeypatch.setattr(multihost, 'all_agree', all_agree)
  step, *_ = checkpointer.Checkpointer(tmp_path).restore_latest(like(tree(0)))
  assert step == 5
  assert (tmp_path / 'torn_checkpoint_10' / 'state').is_dir()


def test_hosts_without_a_checkpoint_in_common_stop(tmp_path, other_host):
  save(tmp_path, 5)
  other_host(lambda own: [10])
  with pytest.raises(UserError, match='must be storage that all hosts share'):
    checkpointer.Checkpointer(tmp_path).restore_latest(like(tree(0)))
  assert (tmp_path / 'checkpoint_5').is_dir()  # nothing was moved


def test_an_interrupted_save_is_named_and_ignored(tmp_path, caplog):
  save(tmp_path, 5)
  shutil.copytree(
    tmp_path / 'checkpoint_5',
    tmp_path / 'checkpoint_10.orbax-checkpoint-tmp-1',
  )
  c = checkpointer.Checkpointer(tmp_path)
  assert 'checkpoint_10' in caplog.text and 'interrupted' in caplog.text
  assert c.restore_latest(like(tree(0)))[0] == 5


def test_nothing_readable_is_an_error_each_time(tmp_path):
  """A second start must not begin anew beside what may yet be repaired."""
  save(tmp_path, 5, 10)
  for step in (5, 10):
    (tmp_path / f'checkpoint_{step}/state/_METADATA').unlink()
  for _ in range(2):
    c = checkpointer.Checkpointer(tmp_path)
    with pytest.raises(UserError, match=r'none of the checkpoints \[5, 10\]'):
      c.restore_latest(like(tree(0)))
    assert c.steps() == [5, 10]


def test_another_architecture_is_named(tmp_path):
  save(tmp_path, 5)
  c = checkpointer.Checkpointer(tmp_path)
  match = r'projector/kernel has shape \(2, 3\) there and \(2, 4\)'
  with pytest.raises(UserError, match=match):
    c.restore_latest(like(tree(0, width=4)))
  with pytest.raises(UserError, match=match):
    store.load_weights(tmp_path, like(params(4)))
  assert c.steps() == [5]


def test_another_stage_is_named(tmp_path):
  save(tmp_path, 5)
  other = like(tree(0, profile=('^projector/',)))
  with pytest.raises(UserError, match='another trainable set'):
    checkpointer.Checkpointer(tmp_path).restore_latest(other)


def test_weights_take_the_dtype_and_sharding_asked_for(tmp_path):
  store.save_weights(tmp_path, params())
  mesh = jax.make_mesh((1,), ('data',))
  sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  asked = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16, sharding=sharding),
    params(),
  )
  loaded = store.load_weights(tmp_path, asked)
  kernel = loaded['projector']['kernel']
  assert kernel.dtype == jnp.bfloat16 and kernel.sharding == sharding
  np.testing.assert_array_equal(kernel, params()['projector']['kernel'])
  assert_equal(store.load_weights(tmp_path / 'checkpoint_0'), params())


def test_weights_of_a_training_checkpoint(tmp_path):
  save(tmp_path, 5, 10)
  assert_equal(store.load_weights(tmp_path), tree(0, scale=10)['target'])


def test_a_torn_checkpoint_is_named_where_it_is_only_looked_at(tmp_path):
  save(tmp_path, 5)
  (tmp_path / 'checkpoint_5/state/_METADATA').write_text('{')
  with pytest.raises(UserError, match='checkpoint_5 is damaged'):
    store.resumable(tmp_path, like(tree(0)))


def test_no_checkpoint_is_an_error(tmp_path):
  for path in (tmp_path, tmp_path / 'checkpoint_3', tmp_path / 'nowhere'):
    with pytest.raises(UserError, match='there is no'):
      store.load_weights(path)


def test_a_directory_that_cannot_be_made(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(UserError, match='model directory'):
    checkpointer.Checkpointer(tmp_path / 'file' / 'model')


def test_model_json_round_trip(tmp_path):
  write_config(tmp_path, configs.TINY)
  assert read_config(tmp_path) == configs.TINY
  (tmp_path / 'model.json').write_text('{"vit": {}')
  with pytest.raises(UserError, match='model.json'):
    read_config(tmp_path)
  with pytest.raises(UserError, match='missing'):
    read_config(tmp_path / 'nowhere')


def test_what_cannot_be_written_leaves_nothing(tmp_path):
  resource = pytest.importorskip('resource')
  (tmp_path / 'a.model').write_bytes(b'p' * 9000)
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
  try:
    with pytest.raises(UserError, match='spiece.model could not be written'):
      copy_vocabulary(tmp_path, tmp_path / 'a.model')
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
  assert sorted(p.name for p in tmp_path.iterdir()) == ['a.model']


def test_vocabulary_is_copied(tmp_path):
  (tmp_path / 'a.model').write_bytes(b'pieces')
  copy_vocabulary(tmp_path, tmp_path / 'a.model')
  assert (tmp_path / 'spiece.model').read_bytes() == b'pieces'
  copy_vocabulary(tmp_path, tmp_path / 'spiece.model')
  with pytest.raises(UserError, match='does not exist'):
    copy_vocabulary(tmp_path, tmp_path / 'b.model')


def test_a_flipped_bit_is_found(tmp_path, caplog):
  """Where no checksum of the file format looks."""
  c = checkpointer.Checkpointer(tmp_path)
  for step in (5, 10):
    c.save(step, tree(step, scale=step), {'position': step})
  c.close()
  sums = tmp_path / 'checkpoint_10/sums/metadata'
  values = json.loads(sums.read_text())
  values['target/t5/key/kernel'] ^= 1
  sums.write_text(json.dumps(values))
  with pytest.raises(UserError, match='checkpoint_10 is damaged.*other bits'):
    store.load_weights(tmp_path)
  c = checkpointer.Checkpointer(tmp_path)
  with caplog.at_level(logging.WARNING):
    step, state, _ = c.restore_latest(like(tree(0)))
  assert step == 5
  assert_equal(state, tree(5, scale=5))
  assert 'target/t5/key/kernel has other bits' in caplog.text
  assert (tmp_path / 'torn_checkpoint_10').is_dir()


def test_flipped_bytes_of_the_files_cost_one_checkpoint(tmp_path):
  """Whatever byte it is: it is found, or it means nothing."""
  save(tmp_path, 5, 10)
  folder = tmp_path / 'checkpoint_10/state'
  (data,) = folder.glob('d/*')  # not what it was merged from, as large
  whole = data.read_bytes()
  found = 0
  for place in range(0, len(whole), len(whole) // 6):
    torn = bytearray(whole)
    torn[place] ^= 0xFF
    data.write_bytes(torn)
    copy = tmp_path / str(place)
    for step in (5, 10):
      name = f'checkpoint_{step}'
      shutil.copytree(tmp_path / name, copy / name)
    step, state, _ = checkpointer.Checkpointer(copy).restore_latest(
      like(tree(0))
    )
    assert_equal(state, tree(step, scale=step))
    found += step == 5
  assert found


def test_a_full_disk_is_one_sentence_and_costs_nothing(tmp_path):
  resource = pytest.importorskip('resource')
  save(tmp_path, 5)
  big = {'a': jax.random.normal(jax.random.key(0), (512, 512))}
  c = checkpointer.Checkpointer(tmp_path)
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
  try:
    with pytest.raises(UserError) as error:
      c.save(10, store.state_tree(big, jnp.int32(10)))
      c.wait()
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
  assert 'earlier checkpoints are intact: make room' in str(error.value)
  assert len(str(error.value).splitlines()) == 1
  c = checkpointer.Checkpointer(tmp_path)
  assert c.steps() == [5]
  assert c.restore_latest(like(tree(0)))[0] == 5


def test_that_the_disk_is_full_is_said():
  error = ValueError(
    'Error ' + 'x' * 300 + ' No space left on device [code=28]'
  )
  text = str(store.not_written('m', 3, error))
  assert text.startswith('checkpoint_3 could not be written to m (No space ')


def test_the_best_stays_beside_the_newest(tmp_path):
  c = checkpointer.Checkpointer(tmp_path, keep=1, best_by='eval/loss')
  for step, loss in enumerate((3.0, 1.0, float('nan'), 2.0), 1):
    c.save(step, tree(step), None, {'eval/loss': loss})
    c.wait()
  assert c.steps() == [2, 4] and c.best() == 2
  c.close()
  # A resumed run knows what the former one found.
  c = checkpointer.Checkpointer(tmp_path, keep=1, best_by='eval/loss')
  c.save(5, tree(5), None, {'eval/loss': 1.5})
  c.wait()
  assert c.steps() == [2, 5] and c.best() == 2
  c.save(6, tree(6))  # between evaluations
  c.wait()
  assert c.steps() == [2, 6]
  with pytest.raises(UserError, match="BEST_BY is 'loss': choose eval/loss or"):
    checkpointer.Checkpointer(tmp_path, best_by='loss')

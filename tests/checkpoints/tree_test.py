"""What a checkpoint holds, and under which names."""

import json

import optax
from flax import serialization, traverse_util
from saved_runs import (
  PROFILE,
  TX,
  assert_equal,
  run_tree,
  save_run,
  small_params,
)

from mmicl_jax.training import stages

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
  save_run(tmp_path, 5)
  assert sorted(traverse_util.flatten_dict(run_tree(0), sep='/')) == (
    GOLDEN.splitlines()
  )
  assert (tmp_path / 'checkpoint_5/state/manifest.ocdbt').is_file()
  assert json.loads(
    (tmp_path / 'checkpoint_5/dataset/process_0-of-1.json').read_text()
  ) == {'position': 5}


def test_optimizer_state_is_named_as_t5x_names_it():
  # What T5X's OptaxWrapper saves: to_state_dict of multi_transform's state.
  trainable, _ = stages.split_params(small_params(), PROFILE)
  chosen = traverse_util.flatten_dict(trainable)
  labels = traverse_util.path_aware_map(
    lambda path, _: 'train' if path in chosen else 'frozen', small_params()
  )
  wrapped = optax.multi_transform(
    {'train': TX, 'frozen': optax.set_to_zero()}, labels
  )
  theirs = traverse_util.flatten_dict(
    serialization.to_state_dict(wrapped.init(small_params()))
  )
  assert_equal(
    traverse_util.unflatten_dict(theirs), run_tree(0)['state']['param_states']
  )

"""A tiny checkpoint of each kind that the project writes, without training."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import tiny_records
from etils import epath

from mmicl_jax.checkpoints import model_dir, store
from mmicl_jax.checkpoints.checkpointer import Checkpointer
from mmicl_jax.convert.disk import to_jax, to_pytorch
from mmicl_jax.models import configs, partitioning
from mmicl_jax.training import optim
from mmicl_jax.training.state import RunLayout

STEP = 2
LORA = configs.LoRA(rank=2, alpha=3.0)
SCHEDULE = optim.log_warmup(1e-2, 10)
# What a run trains, changes of how its model runs, the frozen half's dtype.
RUNS = {
  'stage 1': ('pretrain', {}, None),
  'stage 2': ('tune', {}, None),
  'half frozen in bfloat16': ('tune', {}, 'bfloat16'),
  'layers apart': ('tune', {'scan_layers': False}, None),
  'adapters': ('lora', {'lora': LORA}, None),
  'adapters on bfloat16': ('lora', {'lora': LORA}, 'bfloat16'),
}
KINDS = (*RUNS, "T5X's", 'converted', 'converted adapters')


def config_of(data, kind):
  """The model of a kind of checkpoint; data: of `tiny_records.write`."""
  _, changes, _ = RUNS.get(kind, RUNS['stage 2'])
  config = tiny_records.config(data)
  # Two layers: else stacked ones look like single ones.
  t5 = dataclasses.replace(config.t5, num_encoder_layers=2)
  config = dataclasses.replace(config, t5=t5)
  return configs.with_execution(config, **changes)


def make_all(folder, data):
  """Writes folder/KIND for all kinds, each with its export in folder/KIND_hf.

  Converted ones have none: theirs is that of what they were made of.
  """
  for kind in RUNS:
    _make(folder / kind, data, kind)
    to_pytorch(folder / kind, folder / f'{kind}_hf')
  for kind, source in (
    ('converted', 'stage 2'),
    ('converted adapters', 'adapters'),
  ):
    to_jax(folder / f'{source}_hf', folder / kind)
  _make(folder / "T5X's", data, "T5X's")
  to_pytorch(folder / "T5X's", folder / "T5X's_hf")
  for kind, source in (
    ('converted', 'stage 2'),
    ('converted adapters', 'adapters'),
  ):
    (folder / f'{kind}_hf').symlink_to(folder / f'{source}_hf')


def layout_of(config, kind):
  profile, _, frozen = RUNS.get(kind, RUNS['stage 2'])
  mesh = partitioning.make_mesh()
  return RunLayout.of(config, profile, optim.adamw(SCHEDULE), mesh, frozen)


def _make(directory, data, kind):
  config = config_of(data, kind)
  layout = layout_of(config, kind)
  rng = np.random.default_rng(0)

  def random(x):
    return jnp.asarray(rng.normal(size=x.shape, scale=0.3), x.dtype)

  state = layout.state.replace(
    step=jnp.int32(STEP),
    params=jax.tree.map(random, layout.state.params),
    opt_state=jax.tree.map(
      lambda x: jnp.zeros(x.shape, x.dtype), layout.state.opt_state
    ),
  )
  tree = layout.save_tree(state, jax.tree.map(random, layout.frozen))
  directory.mkdir()
  if kind == "T5X's":  # no sums, and the position in a form of its own
    with store.manager(epath.Path(directory)) as opened:
      args = ocp.args.Composite(state=ocp.args.PyTreeSave(tree))
      opened.save(STEP, args=args, force=True)
    dataset = directory / f'checkpoint_{STEP}' / 'dataset'
    dataset.mkdir()
    (dataset / 'train_ds-000-of-001.index').write_text('x')
  else:
    checkpointer = Checkpointer(directory)
    checkpointer.save(STEP, tree, {'position': STEP})
    checkpointer.close()
  model_dir.write_config(directory, config)
  shutil.copy(data / 'spiece.model', directory / model_dir.VOCABULARY)

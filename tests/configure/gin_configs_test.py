"""Every gin file, and every model with every stage, as a run would use it."""

import functools
import math
import re
from pathlib import Path

import gin
import jax
import jax.numpy as jnp
import optax
import pytest

from mmicl_jax import presets
from mmicl_jax.configure import gin_files
from mmicl_jax.models import configs, mmicl, partitioning
from mmicl_jax.training import stages

ROOT = Path(__file__).parents[2] / 'gin_configs'
BINDINGS = ["MODEL_DIR='d'", "DATA='a.jsonl'", "VOCABULARY='v'"]


def names(kind):
  folder = ROOT / kind
  return sorted(str(p.relative_to(folder))[:-4] for p in folder.rglob('*.gin'))


@functools.cache
def abstract(config):
  return mmicl.abstract_params(config)


def parse(model, stage, mesh='cpu', optimizer=None):
  files = [f'models/{model}.gin', f'stages/{stage}.gin']
  if optimizer:
    files.append(f'optimizers/{optimizer}.gin')
  files += [f'meshes/{mesh}.gin', 'runs/train.gin']
  published = stage.startswith('published')
  gin_files.parse_gin(
    files, BINDINGS + ([] if published else ['TRAIN_STEPS=1000'])
  )


def value(macro):
  """What a macro stands for where a call evaluates it."""
  found = gin_files.macros()[macro]
  if not isinstance(found, gin.config.ConfigurableReference):
    return found
  function = found.scoped_configurable_fn
  return function() if found.evaluate else function


@pytest.mark.slow
@pytest.mark.parametrize('model', names('models'))
@pytest.mark.parametrize('stage', names('stages'))
def test_every_model_with_every_stage(model, stage):
  parse(model, stage)
  config = value('MODEL')
  assert isinstance(config, configs.MMICLConfig)
  trainable, frozen = stages.split_params(abstract(config), value('TRAINABLE'))
  assert trainable and frozen
  schedule = value('LEARNING_RATE')
  assert float(schedule(10**6)) == pytest.approx(value('PEAK_RATE'))
  chain = value('OPTIMIZER')(schedule)
  assert isinstance(chain, optax.GradientTransformation)
  batch, parts = value('BATCH_SIZE'), value('NUM_MICROBATCHES')
  assert batch % parts == 0 and value('TRAIN_STEPS') > 0


@pytest.mark.parametrize(
  'script, steps',
  [
    ('blip2_xl', 5804),
    ('blip2_xxl', 28889),
    ('instructblip_xl', 6500),
    ('instructblip_xxl', 21667),
  ],
)
def test_published_epochs_are_steps(script, steps):
  parse(script.replace('instructblip_', ''), f'published/{script}')
  assert value('TRAIN_STEPS') == steps
  assert value('LOSS_MEAN') == 'microbatch'


@pytest.mark.parametrize('optimizer', names('optimizers'))
def test_every_optimizer(optimizer):
  parse('tiny', 'tune', optimizer=optimizer)
  assert float(value('LEARNING_RATE')(300)) > 0


SIZES = {'cpu': 1, 'gpu8': 8, 'v4-8': 4, 'v5e-8': 8}
SIZES |= {'v5e-8-xxl': 8, 'v5e-16': 16, 'v5p-8': 4, 'v6e-8': 8}


@pytest.mark.parametrize('mesh', names('meshes'))
def test_every_mesh_asks_for_its_chips(mesh):
  parse('tiny', 'tune', mesh)
  sizes = [
    gin.query_parameter(f'partitioning.make_mesh.{axis}')
    for axis in partitioning.MESH_AXES
  ]
  assert math.prod(s for s in sizes if s != -1) == SIZES[mesh]


@pytest.mark.slow
@pytest.mark.parametrize('decoding', names('decoding'))
def test_every_decoding(decoding):
  files = [
    'models/tiny.gin',
    'data/mic_records.gin',
    f'decoding/{decoding}.gin',
  ]
  gin_files.parse_gin(
    files, [*BINDINGS[1:], 't5x_model.T5XModel.config = %MODEL']
  )
  number = gin.query_parameter('t5x_model.T5XModel.num_decodes')
  function = gin.query_parameter('t5x_model.T5XModel.decode_fn')
  tokens, scores = function.scoped_configurable_fn(
    inputs=jnp.zeros((2, 3), jnp.int32),
    cache={},
    tokens_to_logits=lambda s: (jnp.zeros((len(s.cur_token), 9)), {}),
    num_decodes=number,
    decode_rng=jax.random.key(0),
  )
  assert tokens.shape == (2, number, 3) and scores.shape == (2, number)


def test_every_stage_and_mesh_of_the_readme_is_there():
  text = (ROOT.parent / 'README.md').read_text()
  files = set(
    re.findall(r'(?:models|stages|meshes|runs|t5x)/[\w-]+\.gin', text)
  )
  assert len(files) > 8
  for file in files:
    assert (ROOT / file).is_file(), file


def test_the_order_of_the_files_does_not_matter():
  files = ['models/tiny.gin', 'stages/tune.gin', 'meshes/cpu.gin']
  texts = set()
  for order in (['runs/train.gin', *files], [*files, 'runs/train.gin']):
    gin_files.parse_gin(order, [*BINDINGS, 'TRAIN_STEPS=10'])
    texts.add(gin.config_str())
  assert len(texts) == 1


def test_presets_cover_the_models():
  assert set(names('models')) <= set(presets.PRESETS)


def test_each_ablation_changes_what_it_says():
  found = {}
  for name in names('ablations'):
    stage = [] if name.startswith('stage') else ['stages/tune.gin']
    files = ['models/tiny.gin', *stage, 'meshes/cpu.gin', 'runs/train.gin']
    gin_files.parse_gin(
      [*files, f'ablations/{name}.gin'], [*BINDINGS, 'TRAIN_STEPS=1000']
    )
    gin.query_parameter('train_data/loader.record_loader.ablate')
    with pytest.raises(ValueError):  # held-out records stay as they are
      gin.query_parameter('loader.record_loader.ablate')
    found[name] = value('ABLATE'), value('TRAINABLE')
  assert found == {
    'no_declarations': (('declarations',), 'tune'),
    'no_few_shot': (('few_shot',), 'tune'),
    'no_interconnected': (('interconnected',), 'tune'),
    'stage_1_only': ((), 'pretrain'),
    'stages_1_and_2': ((), 'tune'),
  }

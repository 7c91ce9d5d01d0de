"""The modules of tasks/, as SeqIO's own commands import them."""

import importlib
import sys

import pytest

seqio = pytest.importorskip('seqio')
pytest.importorskip('tensorflow')

import gin  # noqa: E402
import numpy as np  # noqa: E402
import tiny_records  # noqa: E402

from mmicl_jax import presets, tokenizer  # noqa: E402
from mmicl_jax.configure import gin_files  # noqa: E402
from mmicl_jax.errors import UserError  # noqa: E402
from mmicl_jax.t5x import converters, preprocessors, seqio_data  # noqa: E402

GIN = """
include 'gin_configs/models/tiny.gin'
from __gin__ import dynamic_registration
from mmicl_jax import presets  # noqa: E402
DATA = '{data}/train.jsonl'
EVAL_DATA = '{data}/eval.jsonl'
VOCABULARY = '{data}/spiece.model'
INPUTS_LENGTH = 48
TARGETS_LENGTH = 6
MAX_IMAGES = 2
presets.model.vocab_size = {vocab_size}
presets.model.image_token = {image_token}
"""
LENGTHS = {'inputs': 48, 'targets': 6, 'images': 2}


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  folder = tiny_records.write(tmp_path_factory.mktemp('records'), 5)
  words = tokenizer.Tokenizer(folder / 'spiece.model')
  sizes = {'vocab_size': words.vocab_size, 'image_token': words.image_id}
  (folder / 'task.gin').write_text(GIN.format(data=folder, **sizes))
  return folder


def module(name):
  sys.modules.pop(name, None)
  return importlib.import_module(name)


def batches(task, split, **options):
  dataset = seqio.get_dataset(
    task,
    LENGTHS,
    converters.FeatureConverter(pack=False),
    split,
    batch_size=1,
    **options,
  )
  return list(dataset.as_numpy_iterator())


def test_records_by_their_gin_files(data, monkeypatch):
  monkeypatch.delenv('MMICL_TASK', raising=False)
  with pytest.raises(UserError, match='set MMICL_TASK'):
    module('tasks.mic_records')
  monkeypatch.setenv('MMICL_TASK', str(data / 'task.gin'))
  module('tasks.mic_records')
  task = seqio.get_mixture_or_task('mic_records')
  assert task.num_input_examples('train') == 5
  assert task.metric_fns == [seqio_data.exact_match]
  assert len(batches('mic_records', 'validation')) == 2


def test_a_run_that_imports_the_module_keeps_its_gin(data, monkeypatch):
  gin_files.parse_gin(['models/tiny.gin'], ["presets.model.dtype = 'bfloat16'"])
  before, places = gin.config_str(), [*gin.config._LOCATION_PREFIXES]
  monkeypatch.setenv('MMICL_TASK', str(data / 'task.gin'))
  module('tasks.mic_records')
  assert gin.config_str() == before and gin.config_is_locked()
  assert gin.config._LOCATION_PREFIXES == places
  assert gin_files.call_configured(presets.model).execution.dtype == 'bfloat16'


def test_what_seqio_caches_gives_the_same_features(data, tmp_path, monkeypatch):
  beam = pytest.importorskip('apache_beam')
  from absl import flags
  from seqio.scripts import cache_tasks_main

  flags.FLAGS.mark_as_parsed()  # as SeqIO's own command has them

  monkeypatch.setenv('MMICL_TASK', str(data / 'task.gin'))
  module('tasks.mic_records')
  want = batches('mic_records', 'train')
  with beam.Pipeline() as pipeline:
    cache_tasks_main.run_pipeline(pipeline, ['mic_records'], str(tmp_path))
  seqio.add_global_cache_dirs([str(tmp_path)])
  monkeypatch.setattr(preprocessors, 'as_example', None)  # nothing is read
  found = batches('mic_records', 'train', use_cached=True)

  def rows(all_batches):
    return sorted(
      tuple(x.tobytes() for _, x in sorted(b.items())) for b in all_batches
    )

  assert rows(found) == rows(want)
  assert all(np.any(batch['encoder_images']) for batch in found)


def test_the_demo_is_a_mixture(monkeypatch):
  pytest.importorskip('sklearn')
  data = importlib.import_module('mmicl_jax.demo.data')
  train, trained = data.demo_vocabulary, []
  monkeypatch.setattr(
    data, 'demo_vocabulary', lambda: trained.append(1) or train()
  )
  demo = module('tasks.demo')
  assert not trained  # not before a task is read
  mixture = seqio.get_mixture_or_task(demo.MIXTURE)
  assert len(mixture.tasks) == len(demo.TASKS)
  task = mixture.tasks[0]
  row = next(
    task.get_dataset(
      {'inputs': 128, 'targets': 24, 'images': 16}, 'validation', shuffle=False
    ).as_numpy_iterator()
  )
  assert row['images'].shape[1:] == (demo.IMAGE_SIZE, demo.IMAGE_SIZE, 3)
  assert trained == [1]

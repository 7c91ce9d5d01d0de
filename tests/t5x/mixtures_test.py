"""Stage 2 of MIC from the SeqIO mixture, on sets built from miniatures."""

import importlib
import sys

import numpy as np
import pytest

seqio = pytest.importorskip('seqio')
pytest.importorskip('tensorflow')

import gin  # noqa: E402
import t5x_commands  # noqa: E402
import training_sets  # noqa: E402
from same_bits import assert_same_bits  # noqa: E402

from mmicl_jax import __main__ as cli  # noqa: E402
from mmicl_jax.configure import gin_files  # noqa: E402
from mmicl_jax.data.loader import record_loader  # noqa: E402
from mmicl_jax.t5x import converters, preprocessors  # noqa: E402

LENGTHS = {'inputs': 160, 'targets': 16, 'images': 6}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return training_sets.write_sets(tmp_path_factory.mktemp('sets'))


def register(name, path, monkeypatch):
  monkeypatch.setenv('MMICL_TASK', str(path))
  sys.modules.pop(name, None)
  importlib.import_module(name)


def batches(name, count, **options):
  dataset = seqio.get_dataset(
    name,
    LENGTHS,
    converters.FeatureConverter(pack=False),
    'train',
    num_epochs=None,
    batch_size=4,
    seed=0,
    **options,
  )
  return list(dataset.take(count).as_numpy_iterator())


@pytest.mark.parametrize(
  'name, stage', [('mic', 'tune'), ('captions', 'pretrain')]
)
def test_both_trainers_read_the_same_mixture(folder, monkeypatch, name, stage):
  """The same records at the same places, with equal features."""
  path = training_sets.stage_file(folder, stage)
  register(f'tasks.{name}', path, monkeypatch)
  mixture = seqio.get_mixture_or_task(name)
  sets = training_sets.BUILT if name == 'mic' else training_sets.PAIRS
  assert {task.name for task in mixture.tasks} == {f'{name}_{x}' for x in sets}
  with gin_files.apart():  # as `mmicl train` makes its loader
    files = ['runs/train.gin', str(path)]
    gin_files.parse_gin(files, ["MODEL_DIR = 'not written'"])
    with gin.config_scope('train_data'):
      loader = gin_files.call_configured(record_loader)
  ours = [batch for batch, _ in zip(loader, range(8), strict=False)]
  for (batch, _), other in zip(ours, batches(name, 8), strict=True):
    assert set(batch) == set(other)
    for key in batch:
      np.testing.assert_array_equal(batch[key], other[key], key)


def test_seqio_caches_the_sets_of_a_mixture(folder, tmp_path, monkeypatch):
  beam = pytest.importorskip('apache_beam')
  from absl import flags
  from seqio.scripts import cache_tasks_main

  flags.FLAGS.mark_as_parsed()  # as SeqIO's own command has them
  path = training_sets.stage_file(folder, 'tune')
  register('tasks.mic', path, monkeypatch)

  def rows(**options):
    """The distinct rows of three rounds of turns: all records of all sets."""
    return {
      tuple(x[i].tobytes() for _, x in sorted(batch.items()))
      for batch in batches('mic', 3 * 28 // 4, **options)
      for i in range(4)
    }

  want = rows()
  assert len(want) == 14
  with beam.Pipeline() as pipeline:
    cache_tasks_main.run_pipeline(pipeline, ['mic_.*'], str(tmp_path))
  seqio.add_global_cache_dirs([str(tmp_path)])
  monkeypatch.setattr(preprocessors, 'load_image', None)  # nothing is read
  assert rows(use_cached=True) == want


def test_stage_2_from_the_mixture_by_both_trainers(folder, monkeypatch):
  """One gin file; parameters after two steps have the same bits."""
  t5x_commands.need()
  path = training_sets.stage_file(folder, 'tune')
  ours, theirs = folder / 'ours', folder / 't5x'
  arguments = ['--gin_file=runs/train.gin', f'--gin_file={path}']
  status = cli.main(['train', *arguments, f'--gin.MODEL_DIR={str(ours)!r}'])
  assert status == 0
  monkeypatch.setenv('MMICL_TASK', str(path))
  mixture = {
    'MIXTURE_OR_TASK_NAME': 'mic',
    'MIXTURE_OR_TASK_MODULE': 'tasks.mic',
  }
  said = t5x_commands.run('train', [path], {'MODEL_DIR': str(theirs)} | mixture)
  for name in ('flickr30k', 'nlvr2', 'vqav2'):  # each is evaluated by itself
    assert f'collection=training_eval/mic_{name} ' in said, said[-3000:]
  assert_same_bits(ours, theirs, step=2)

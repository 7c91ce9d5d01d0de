"""Mixtures and sets are declared once, and say where both trainers read."""

import json

import gin
import pytest
import training_sets

from mmicl_jax.configure import gin_files
from mmicl_jax.context.templates import FOLDER as TEMPLATES
from mmicl_jax.data import mixtures
from mmicl_jax.data.build.table import DATASETS
from mmicl_jax.data.loader import eval_loader, record_loader
from mmicl_jax.data.order import mixed_order
from mmicl_jax.data.sources import open_sources
from mmicl_jax.errors import UserError

# mic_release is records that were built before.
TRAINING = [
  name
  for name, dataset in DATASETS.items()
  if dataset.role == 'train' and name != 'mic_release'
]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return training_sets.write_sets(tmp_path_factory.mktemp('sets'))


@pytest.fixture(scope='module')
def without():
  built = training_sets.BUILT
  return [name for name in TRAINING if name not in built]


def test_every_training_set_is_declared_and_in_the_mixture():
  mixture = mixtures.load_mixture('mic')
  assert sorted(mixture.train) == sorted(TRAINING) and len(TRAINING) == 16
  assert sum(mixture.train.values()) == 765_000  # reference: without IconQA
  assert sum(mixture.validation.values()) == 12_000
  for name in TRAINING:
    path = TEMPLATES.parent / 'sets' / f'{name}.json'
    splits = json.loads(path.read_text('utf-8'))['splits']
    places = {'train': f'{name}/train'}
    if name in mixture.validation:
      places['validation'] = f'{name}/{splits["validation"].split("/")[1]}'
    assert places.items() <= splits.items()
    official = {place.split('/')[1] for place in splits.values()}
    assert official <= set(DATASETS[name].splits)


def test_every_other_set_that_can_be_built_is_a_declared_benchmark():
  files = (TEMPLATES.parent / 'benchmarks').glob('*.json')
  asked = {json.loads(path.read_text('utf-8'))['dataset'] for path in files}
  others = {name for name, d in DATASETS.items() if d.role != 'train'}
  assert others and others <= asked


def test_all_declared_sets_are_of_a_mixture():
  files = (TEMPLATES.parent / 'sets').glob('*.json')
  both = [mixtures.load_mixture(name) for name in ('mic', 'captions')]
  names = {path.stem for path in files if not path.stem.endswith('_tfds')}
  assert names == {name for mixture in both for name in mixture.train}


def test_places_and_rates_of_what_is_built(folder, without):
  built = str(folder / 'built')
  places = mixtures.training_data('mic', built, without)
  assert set(places) == {f'{built}/{n}/train' for n in training_sets.BUILT}
  rates = mixtures.training_rates('mic', without)
  sources = open_sources(places, weights=rates)
  found = {source.name: source.rate for source in sources}
  published = {'vqav2': 70_000, 'nlvr2': 20_000, 'flickr30k': 40_000}
  assert found == {**published, 'llava': 150_000}
  order = mixed_order([len(s.data) for s in sources], rates, None)
  names = [sources[order[i][0]].name for i in range(28)]
  assert {name: names.count(name) for name in found} == {
    'vqav2': 7, 'nlvr2': 2, 'flickr30k': 4, 'llava': 15,
  }  # fmt: skip
  held_out = mixtures.held_out_data('mic', built, without)
  counts = mixtures.held_out_counts('mic', without)
  assert dict(zip(held_out, counts, strict=True)) == {
    f'{built}/vqav2/val': 1000,
    f'{built}/nlvr2/dev': 500,
    f'{built}/flickr30k/val': 1000,
  }


def test_pairs_are_mixed_by_their_numbers(folder):
  pairs = str(folder / 'pairs')
  left = ('cc12m', 'laion', 'visual_genome')
  places = mixtures.training_data('captions', pairs, left)
  assert places == (
    f'{pairs}/cc3m/*.tar',
    f'{pairs}/coco/train',
    f'{pairs}/sbu/*.tsv',
  )
  rates = mixtures.training_rates('captions', left)
  assert rates is None
  assert mixtures.held_out_data('captions', pairs, left) is None
  assert mixtures.held_out_counts('captions', left) is None
  sources = open_sources(places, templates='caption', weights=rates)
  assert {source.name: source.rate for source in sources} == {
    'cc3m': 2, 'coco': 3, 'sbu': 1,
  }  # fmt: skip
  assert [source.data[0].targets for source in sources] == [
    'a red kite',
    'A red kite 0.',
    'a hat',
  ]


def test_what_is_not_there_is_named(folder):
  with pytest.raises(UserError) as error:
    mixtures.training_data('mic', str(folder / 'built'), ['vcr'])
  said = str(error.value)
  assert 'gqa' in said and 'refcoco' in said and 'WITHOUT' in said
  assert 'vcr' not in said and 'nlvr2,' not in said
  with pytest.raises(UserError, match='WITHOUT names imagenet'):
    mixtures.training_rates('mic', ['imagenet'])
  with pytest.raises(UserError, match='leaves nothing'):
    mixtures.training_rates('mic', TRAINING)
  with pytest.raises(UserError, match='use one of captions, mic'):
    mixtures.load_mixture('none')


def test_a_mixture_of_ones_own(folder, tmp_path):
  path = tmp_path / 'my own.json'
  value = {'train': {'nlvr2': 0.5, 'vqav2': 2}, 'validation': {'nlvr2': 1}}
  path.write_text(json.dumps(value))
  assert mixtures.mixture_name(str(path)) == 'my_own'
  built = str(folder / 'built')
  assert mixtures.training_rates(str(path)) == (0.5, 2)
  assert mixtures.held_out_data(str(path), built) == (f'{built}/nlvr2/dev',)
  # A set that is not declared lies in its folder, as a build writes it.
  (tmp_path / 'other').symlink_to(folder / 'built' / 'vqav2')
  value = {'train': {'other': None}, 'validation': {'other': 1}}
  path.write_text(json.dumps(value))
  places = mixtures.training_data(str(path), str(tmp_path))
  assert places == (f'{tmp_path}/other/train',)
  held_out = mixtures.held_out_data(str(path), str(tmp_path))
  assert held_out == (f'{tmp_path}/other/val',)


@pytest.mark.parametrize(
  'value',
  [
    {},
    {'train': {}},
    {'train': {'a': 0}},
    {'train': {'a': 1, 'b': None}},
    {'train': {'a': True}},
    {'train': {'a': 1}, 'validation': {'b': 1}},
    [],
  ],
)
def test_mixtures_that_are_none(tmp_path, value):
  path = tmp_path / 'mine.json'
  path.write_text(json.dumps(value))
  with pytest.raises(UserError, match='mine.json: a mixture is'):
    mixtures.load_mixture(str(path))


def test_the_gin_file_of_a_stage_gives_rates_and_limits(folder):
  path = training_sets.stage_file(folder, 'tune')
  files = ['runs/train.gin', str(path)]
  given = ["MODEL_DIR = 'not written'", 'BATCH_SIZE = 1', 'EVAL_LIMIT = 1']
  with gin_files.apart():
    gin_files.parse_gin(files, given)
    with gin.config_scope('train_data'):
      stream = gin_files.call_configured(record_loader).get_state()['stream']
    held_out = gin_files.call_configured(eval_loader)
  names = [name for name, _ in stream['sources']]
  assert dict(zip(names, stream['weights'], strict=True)) == {
    'vqav2': 70_000, 'nlvr2': 20_000, 'flickr30k': 40_000, 'llava': 150_000,
  }  # fmt: skip
  assert held_out.num_steps == 3  # of four records, two of them of one set

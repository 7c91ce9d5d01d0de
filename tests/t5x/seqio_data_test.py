"""SeqIO's features are the Grain loader's: text, ids and pixels."""

import json

import numpy as np
import pytest

seqio = pytest.importorskip('seqio')
tf = pytest.importorskip('tensorflow')

import tiny_records  # noqa: E402

from mmicl_jax.context.turns import Turn, assemble  # noqa: E402
from mmicl_jax.data.features import FeatureSpec  # noqa: E402
from mmicl_jax.data.loader import make_loader, record_loader  # noqa: E402
from mmicl_jax.data.sources import Source  # noqa: E402
from mmicl_jax.errors import UserError  # noqa: E402
from mmicl_jax.t5x import converters, seqio_data  # noqa: E402
from mmicl_jax.t5x.vocabulary import Vocabulary  # noqa: E402
from mmicl_jax.tokenizer import Tokenizer  # noqa: E402

LENGTHS = {'inputs_length': 48, 'targets_length': 6, 'max_images': 3}


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  return tiny_records.write(tmp_path_factory.mktemp('records'), 7)


def batches(task, count, batch_size=2, split='train', **options):
  dataset = seqio.get_dataset(
    task,
    seqio_data.feature_lengths(**LENGTHS),
    converters.FeatureConverter(pack=False),
    split,
    num_epochs=None,
    batch_size=batch_size,
    seed=0,
    **options,
  )
  return list(dataset.take(count).as_numpy_iterator())


def assert_equal(ours, theirs):
  assert set(ours) == set(theirs)
  for name in ours:
    assert ours[name].dtype == theirs[name].dtype, name
    np.testing.assert_array_equal(ours[name], theirs[name], name)


@pytest.mark.parametrize('templates', [None, 'vqa'])
def test_both_loaders_give_the_same_batches(data, templates):
  arguments = {
    'data': str(data / 'train.jsonl'),
    'model': tiny_records.config(data),
    'vocabulary': str(data / 'spiece.model'),
    'templates': templates,
    **LENGTHS,
  }
  loader = record_loader(**arguments, batch_size=2, shuffle=False)
  ours = [batch for batch, _ in zip(loader, range(5), strict=False)]
  theirs = batches(seqio_data.mic_records(**arguments), 5)
  # Five batches of two go on into the second epoch of seven records.
  for (batch, _), other in zip(ours, theirs, strict=True):
    assert_equal(batch, other)
  assert theirs[0]['encoder_images'].any()


def test_both_loaders_mix_several_files_alike(data):
  """The same records in the same order, for more than a round of the rates."""
  lines = (data / 'train.jsonl').read_text().splitlines(keepends=True)
  (data / 'other.jsonl').write_text(''.join(lines[3:6]))
  arguments = {
    'data': [str(data / 'train.jsonl'), str(data / 'other.jsonl')],
    'model': tiny_records.config(data),
    'vocabulary': str(data / 'spiece.model'),
    'weights': (3, 2.5),
    **LENGTHS,
  }
  loader = record_loader(**arguments, batch_size=2, shuffle=False)
  ours = [batch for batch, _ in zip(loader, range(7), strict=False)]
  name = seqio_data.mic_records(
    **arguments, name='mixed', eval_data=str(data / 'other.jsonl'), eval_limit=2
  )
  for (batch, _), other in zip(ours, batches(name, 7), strict=True):
    assert_equal(batch, other)
  mixture = seqio.get_mixture_or_task(name)
  assert [task.name for task in mixture.tasks] == [
    'mixed_train_jsonl',
    'mixed_other_jsonl',
  ]
  assert mixture.num_input_examples('validation') == 2
  assert {t.name for t in mixture.tasks if 'validation' in t.splits} == {
    'mixed_other_jsonl'
  }
  one = seqio_data.mic_records(
    **{**arguments, 'data': arguments['data'][0], 'weights': None}, name='mixed'
  )
  assert isinstance(seqio.get_mixture_or_task(one), seqio.Task)


def test_a_prompt_too_long_loses_the_same_demonstrations(data, caplog):
  image = np.arange(14 * 14 * 3, dtype=np.uint8).reshape(14, 14, 3)
  turn = Turn('what is image {0}?', (image,), 'red')
  example = assemble(turn, [turn] * 2, name='a')
  spec = FeatureSpec(30, 6, 3, 14, 2)
  path = str(data / 'spiece.model')
  seqio_data.add('long', {'train': [example]}, path, spec)
  (theirs,) = seqio.get_dataset(
    'long',
    {'inputs': 30, 'targets': 6, 'images': 3},
    converters.FeatureConverter(pack=False),
    batch_size=1,
  ).as_numpy_iterator()
  loader = make_loader(
    Source('long', [example]), spec, Tokenizer(path), 1, num_epochs=1
  )
  ((ours, info),) = loader
  assert info.truncated[0].demonstrations
  assert 'shortened: a: left out 2 demonstrations' in caplog.text
  assert_equal(ours, theirs)


def test_no_pixels_where_inference_prints(data):
  name = seqio_data.mic_records(
    str(data / 'train.jsonl'),
    tiny_records.config(data),
    str(data / 'spiece.model'),
    **LENGTHS,
  )
  task = seqio.get_mixture_or_task(name)
  dataset = task.get_dataset(seqio_data.feature_lengths(**LENGTHS), 'train')
  row = next(dataset.as_numpy_iterator())
  printed = {k: v for k, v in row.items() if k.endswith('_pretokenized')}
  assert set(printed) == {'inputs_pretokenized', 'targets_pretokenized'}
  assert all(isinstance(value, bytes) for value in printed.values())
  assert row['images'].dtype == np.uint8
  assert row['images'].shape[1:] == (14, 14, 3)


def test_vocabulary(data):
  words = Vocabulary(str(data / 'spiece.model'))
  ids = words.encode('red image <image0>图')
  assert ids[-1] == words.tokenizer.image_id
  np.testing.assert_array_equal(
    words.encode_tf(tf.constant('red')), words.encode('red')
  )
  text = words.decode_tf(
    tf.constant([[*words.encode('red'), 1, 5], [1, 0, 0]][:1])
  )
  assert text.numpy().tolist() == [b'red']
  assert words == Vocabulary(str(data / 'spiece.model'))
  assert hash(words) == hash(Vocabulary(str(data / 'spiece.model')))


def test_array_records_read_as_json_lines_do(data, tmp_path):
  module = pytest.importorskip('array_record.python.array_record_module')
  path = tmp_path / 'train.array_record'
  writer = module.ArrayRecordWriter(str(path), 'group_size:1')
  for line in (data / 'train.jsonl').read_bytes().splitlines():
    writer.write(line)
  writer.close()
  arguments = {
    'model': tiny_records.config(data),
    'vocabulary': str(data / 'spiece.model'),
    'data_dir': str(data),
    **LENGTHS,
  }
  lines = batches(
    seqio_data.mic_records(str(data / 'train.jsonl'), **arguments), 3
  )
  others = batches(seqio_data.mic_records(str(path), **arguments), 3)
  for one, other in zip(lines, others, strict=True):
    assert_equal(one, other)


def test_exact_match():
  assert seqio_data.exact_match(['Red', 'a cat'], ['red ', 'a dog']) == {
    'exact_match': 50.0
  }


@pytest.mark.parametrize(
  'change, match',
  [
    ({'data': 'none.jsonl'}, 'none.jsonl does not exist'),
    ({'vocabulary': 'none.model'}, 'none.model'),
    ({'templates': 'nonsense'}, 'nonsense'),
  ],
)
def test_bad_declarations(data, change, match):
  arguments = {
    'data': str(data / 'train.jsonl'),
    'model': tiny_records.config(data),
    'vocabulary': str(data / 'spiece.model'),
  }
  with pytest.raises(UserError, match=match):
    seqio_data.mic_records(**{**arguments, **change})


def test_a_task_without_records(data, tmp_path):
  (tmp_path / 'empty.jsonl').write_text('\n')
  with pytest.raises(UserError, match='no records'):
    seqio_data.mic_records(
      str(tmp_path / 'empty.jsonl'),
      tiny_records.config(data),
      str(data / 'spiece.model'),
    )


def test_a_record_without_the_templates_key(data, tmp_path):
  record = {'input_text': 'x', 'input_image': [], 'output_text': 'y'}
  (tmp_path / 'a.jsonl').write_text(json.dumps(record))
  loader = record_loader(
    str(tmp_path / 'a.jsonl'),
    tiny_records.config(data),
    str(data / 'spiece.model'),
    1,
    templates='vqa',
    **LENGTHS,
  )
  with pytest.raises(UserError, match='need the key "question"'):
    next(iter(loader))


def test_images_are_not_packed():
  with pytest.raises(UserError, match='pack = False'):
    converters.FeatureConverter(pack=True)

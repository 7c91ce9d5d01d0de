"""`mmicl train` from the shipped gin files, on records and images on disk."""

import json

import pytest
from benchmark_trees import TREES
from PIL import Image
from small_run import CONFIG

from mmicl_jax import __main__ as cli
from mmicl_jax import tokenizer
from mmicl_jax.checkpoints import model_dir, steps


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  folder = tmp_path_factory.mktemp('data')
  lines = []
  for i, colour in enumerate(['red', 'green', 'blue', 'white']):
    Image.new('RGB', (20, 20), colour).save(folder / f'{i}.png')
    record = {
      'input_text': 'image 0 is <image0>图. What colour is image 0?',
      'input_image': [f'{i}.png'],
      'output_text': colour,
    }
    lines.append(json.dumps(record, ensure_ascii=False))
  (folder / 'empty.jsonl').write_text('')
  (folder / 'a.jsonl').write_text('\n'.join(lines) + '\n', encoding='utf-8')
  text = [f'What colour is image {i}? red green blue white' for i in range(9)]
  tokenizer.train_sentencepiece(text, folder / 'spiece.model', 60)
  return folder


def arguments(data, directory, *more):
  size = tokenizer.Tokenizer(data / 'spiece.model')
  bindings = {
    'MODEL_DIR': repr(str(directory)),
    'DATA': repr(str(data / 'a.jsonl')),
    'VOCABULARY': repr(str(data / 'spiece.model')),
    'EVAL_DATA': repr(str(data / 'a.jsonl')),
    'EVAL_EVERY': 2,
    'TRAIN_STEPS': 2,
    'BATCH_SIZE': 2,
    'INPUTS_LENGTH': 64,
    'TARGETS_LENGTH': 8,
    'MAX_IMAGES': 1,
    'presets.model.image_token': size.image_id,
    'presets.model.vocab_size': size.vocab_size,
  }
  files = ['models/tiny', 'stages/tune', 'meshes/cpu', 'runs/train']
  return (
    ['train']
    + [f'--gin_file={name}.gin' for name in files]
    + [f'--gin.{name}={value}' for name, value in bindings.items()]
    + list(more)
  )


@pytest.mark.slow
def test_trains_from_gin_files(data, tmp_path, capsys):
  assert cli.main(arguments(data, tmp_path)) == 0
  assert steps.locate(tmp_path)[1] == 2
  for name in ('model.json', 'spiece.model', 'config.gin', 'ledger.json'):
    assert (tmp_path / name).is_file(), name
  assert 'TRAIN_STEPS = 2' in (tmp_path / 'config.gin').read_text()
  assert model_dir.read_config(tmp_path) != CONFIG
  reader = pytest.importorskip(
    'tensorboard.backend.event_processing.event_accumulator'
  )
  events = reader.EventAccumulator(str(tmp_path)).Reload()
  assert set(events.Tags()['images']) == {
    'prompts/0/image',
    'prompts/1/image',
  }
  wanted = {'loss', 'learning_rate', 'grad_norm', 'model_tflops_per_second'}
  wanted |= {'grad_norm/projector', 'grad_norm/t5', 'eval/loss'}
  assert wanted <= set(events.Tags()['scalars'])
  error = capsys.readouterr().err
  assert 'trainable: tune' in error and 'training 2/2 loss' in error


@pytest.mark.slow
@pytest.mark.parametrize(
  'more, match',
  [
    (['--gin.TRAIN_STEPSS=1'], 'did you mean TRAIN_STEPS'),
    (['--gin.presets.model.vocab_sise=3'], 'did you mean vocab_size'),
    (["--gin.DATA='none.jsonl'"], 'none.jsonl does not exist'),
    (["--gin.DATA='{data}/empty.jsonl'"], 'empty.jsonl: no records'),
    (['--gin.partitioning.make_mesh.fsdp=3'], 'needs 3 devices'),
    (["--gin.FEATURE_CACHE='none'"], 'none holds no features'),
    (["--gin.BEST_BY='loss'"], "BEST_BY is 'loss'"),
    (["--gin.BEST_BY='eval/mme/perception'"], 'give EVAL_TASKS'),
    (["--gin.EVAL_TASKS='mme'"], 'EVAL_TASKS needs EVAL_RAW'),
    (["--gin.EVAL_TASKS='mne'", "--gin.EVAL_RAW='x'"], 'mne: unknown'),
    (['--process_count=2'], 'belong together'),
    (['--gin.NUM_MICROBATCHES=4'], 'BATCH_SIZE 2 does not divide'),
    (["--gin.TRAINABLE='stage2'"], "unknown profile 'stage2'"),
    (['--gin.presets.model.image_token=7'], 'vocabulary that belongs'),
    (["--gin.MODEL_DIR='/proc/none'"], 'model directory'),
    (["--gin.MODEL_DIR=''"], 'MODEL_DIR is empty'),
    (["--gin.MODEL_DIR='a\\0b'"], 'model directory'),
    (['--gin.SAVE_EVERY=0'], 'SAVE_EVERY is 0: give at least 1'),
    (['--gin.LOG_EVERY=0'], 'LOG_EVERY is 0: give at least 1'),
    (['--gin.EVAL_EVERY=-1'], 'EVAL_EVERY is -1: give at least 1'),
    (['--gin.KEEP=0'], 'KEEP is 0: give at least 1'),
    (['--gin.WORKERS=-1'], 'WORKERS is -1'),
    (['--gin.TARGETS_LENGTH=0'], 'TARGETS_LENGTH (0) must be at least 1'),
    (['--gin.TARGETS_LENGTH=1'], 'TARGETS_LENGTH 1 has room'),
    (['--gin.SEED=99999999999999999999'], 'at most 18 digits'),
    (["--gin.FROZEN_DTYPE='int8'"], "FROZEN_DTYPE is 'int8': choose one of"),
    (['--gin.PEAK_RATE=-1.0'], 'give a PEAK_RATE that is not below 0'),
    (["--gin.partitioning.make_mesh.data='x'"], 'give a whole number'),
    (["--gin.MESH='data=1'"], 'give a reference (@...) to a Mesh or None'),
    (['--gin_file=runs/none.gin'], 'runs/none.gin was not found'),
    (['--gin_file=stages/pretrain.gin'], 'drop the other'),
  ],
)
def test_mistakes_are_one_sentence_and_exit_status_2(
  data, tmp_path, capsys, more, match
):
  more = [argument.replace('{data}', str(data)) for argument in more]
  assert cli.main(arguments(data, tmp_path / 'm', *more)) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert match in line
  assert not list(tmp_path.rglob('*.*'))  # at most an empty MODEL_DIR


@pytest.mark.slow
@pytest.mark.devices(2)
def test_a_batch_that_does_not_divide_over_devices(data, tmp_path, capsys):
  assert cli.main(arguments(data, tmp_path, '--gin.BATCH_SIZE=3')) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert 'BATCH_SIZE 3 does not divide' in line and 'over 2 shards' in line


@pytest.mark.slow
def test_checkpoints_of_another_stage_or_shape(data, tmp_path, capsys):
  stage1 = [
    name.replace('stages/tune', 'stages/pretrain')
    for name in arguments(data, tmp_path / 'm', '--gin.EVAL_DATA=None')
  ]
  assert cli.main(stage1) == 0
  files = [path for path in (tmp_path / 'm').rglob('*') if path.is_file()]
  before = [path.read_bytes() for path in files]
  capsys.readouterr()
  assert cli.main(arguments(data, tmp_path / 'm')) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert 'another trainable set or optimizer' in line
  for more in (
    [f'--gin.MODEL_DIR={str(tmp_path / "m")!r}'],
    [f'--gin.INIT_FROM={str(tmp_path / "m")!r}'],
  ):
    wider = ['--gin.presets.model.vocab_size=999', *more]
    assert cli.main(arguments(data, tmp_path / 'n', *wider)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert 'of another architecture: the parameter t5/' in line
  # the refused runs have left the other run's ledger and configuration alone
  assert [path.read_bytes() for path in files] == before


@pytest.mark.slow
def test_a_full_disk_loses_nothing(data, tmp_path, capsys, caplog):
  resource = pytest.importorskip('resource')
  more = ['--gin.EVAL_DATA=None', '--gin.TENSORBOARD=False']
  assert cli.main(arguments(data, tmp_path, *more)) == 0
  more += ['--gin.TRAIN_STEPS=3']
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
  capsys.readouterr()
  try:
    assert cli.main(arguments(data, tmp_path, *more)) == 2
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
  line = capsys.readouterr().err.splitlines()[-1]
  assert line.startswith('mmicl: ') and 'checkpoints are intact' in line
  assert not [record for record in caplog.records if record.exc_info]
  assert cli.main(arguments(data, tmp_path, *more)) == 0
  assert 'resuming at step 2' in capsys.readouterr().err


@pytest.mark.slow
def test_benchmarks_during_training(data, tmp_path, capsys):
  """The numbers are those of `mmicl eval`, and choose the best checkpoint."""
  raw, run = TREES['hateful_memes'](tmp_path / 'raw'), tmp_path / 'run'
  more = {
    'EVAL_TASKS': "'hateful_memes'",
    'EVAL_RAW': repr(str(raw)),
    'EVAL_DATA': None,
    'BEST_BY': "'eval/hateful_memes/roc_auc'",
    'TRAIN_STEPS': 6,
    'KEEP': 1,
  }
  flags = [f'--gin.{name}={value}' for name, value in more.items()]
  assert cli.main(arguments(data, run, *flags)) == 0
  said = capsys.readouterr()
  assert 'hateful_memes/roc_auc' in said.out + said.err
  found = {
    step: json.loads((run / f'benchmarks/step_{step}/report.json').read_text())[
      'tasks'
    ][0]['metrics']
    for step in (2, 4, 6)
  }
  best = max(found, key=lambda step: (found[step]['roc_auc'], step))
  kept = {int(p.name.rpartition('_')[2]) for p in run.glob('checkpoint_*')}
  assert kept == {best, 6}
  command = ['eval', '--checkpoint', str(run / 'checkpoint_6'), '--raw']
  command += [str(raw), '--task', 'hateful_memes', '--workers', '1']
  assert cli.main([*command, '--out', str(tmp_path / 'out')]) == 0
  name = 'hateful_memes/predictions.jsonl'
  own = (run / 'benchmarks/step_6' / name).read_bytes()
  assert (tmp_path / 'out' / name).read_bytes() == own

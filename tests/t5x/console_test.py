"""What T5X's commands say, and that nothing is said elsewhere."""

import importlib
import logging
import sys

import gin
import pytest
from absl import app
from gin import config as gin_config

pytest.importorskip('seqio')
pytest.importorskip('tensorflow')

from mmicl_jax.configure import gin_files  # noqa: E402
from mmicl_jax.errors import UserError  # noqa: E402
from mmicl_jax.t5x import console  # noqa: E402


def test_importing_the_folder_changes_nothing_in_other_processes():
  before = (
    sys.excepthook,
    [*app.EXCEPTION_HANDLERS],
    [*gin_config._FINALIZE_HOOKS],
    [*logging.getLogger('absl').filters],
  )
  for name in ('console', 'converters', 'decoding', 'model', 'preprocessors'):
    importlib.import_module(f'mmicl_jax.t5x.{name}')
  importlib.reload(console)
  after = (
    sys.excepthook,
    [*app.EXCEPTION_HANDLERS],
    [*gin_config._FINALIZE_HOOKS],
    [*logging.getLogger('absl').filters],
  )
  assert before == after


def raised(function, *arguments):
  with pytest.raises(Exception) as found:
    function(*arguments)
  return found.value


def wrong_preset():
  gin_files.parse_gin(['models/tiny.gin'], ["presets.model.preset = 'huge'"])
  gin.query_parameter('MODEL/gin.macro.value').scoped_configurable_fn()


def test_mistakes_are_sentences():
  error = raised(wrong_preset)
  assert 'In call to configurable' in str(error)
  assert console.sentence_of(error).startswith("unknown model preset 'huge'")
  error = raised(gin.parse_config_file, 'none.gin')
  assert 'the gin file none.gin was not found' in console.sentence_of(error)
  with gin.unlock_config():
    error = raised(gin.parse_config, 'nothing.of_this = 1')
  assert "matching 'nothing'. In" in console.sentence_of(error)


def test_bugs_are_not():
  assert console.sentence_of(raised(lambda: 1 / 0)) is None


def record(level, file, function='f', error=None, text='text'):
  info = (type(error), error, None) if error is not None else None
  return logging.LogRecord(
    'absl', level, f'/a/{file}', 1, text, (), info, function
  )


NOT_RESTORED = "Not restoring param={} because it's missing in the checkpoint"
MOMENT = NOT_RESTORED.format('state/param_states/count')
WEIGHT = NOT_RESTORED.format('target/vit/bias')


@pytest.mark.parametrize(
  'line, wanted',
  [
    (record(logging.INFO, 'logging_writer.py', 'write_scalars'), True),
    (record(logging.INFO, 'train.py'), True),
    (record(logging.WARNING, 'anywhere.py'), True),
    (record(logging.ERROR, 'asynclib.py', error=KeyError('a')), True),
    (record(logging.ERROR, 'asynclib.py', error=UserError('a')), False),
    (record(logging.ERROR, 'resource_reader.py'), False),
    (record(logging.INFO, 'logging_writer.py', 'write_texts'), False),
    (record(logging.INFO, 'gin_utils.py'), False),
    (record(logging.WARNING, 'state_utils.py', text=MOMENT), False),
    (record(logging.WARNING, 'state_utils.py', text=WEIGHT), True),
    (record(logging.INFO, 'async_checkpointer.py'), False),
  ],
)
def test_the_log_tells_of_the_run_alone(line, wanted, monkeypatch):
  assert console.is_shown(line) == wanted
  monkeypatch.setattr(console.absl_logging, 'get_verbosity', lambda: 1)
  assert console.is_shown(line)  # --verbosity=1

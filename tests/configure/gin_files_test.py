import gin
import pytest

from mmicl_jax import presets
from mmicl_jax.configure import gin_files
from mmicl_jax.errors import UserError
from mmicl_jax.models import configs

FILE = """
from __gin__ import dynamic_registration
from mmicl_jax import presets
PRESET = %gin.REQUIRED
DTYPE = 'bfloat16'
presets.model.preset = %PRESET
presets.model.dtype = %DTYPE
"""


@pytest.fixture
def file(tmp_path):
  path = tmp_path / 'model.gin'
  path.write_text(FILE)
  return str(path)


def test_bindings_win(file):
  gin_files.parse_gin([file], ["PRESET='tiny'", "presets.model.remat = 'full'"])
  assert gin_files.call_configured(presets.model) == configs.with_execution(
    configs.TINY, dtype='bfloat16', remat='full'
  )
  assert "PRESET = 'tiny'" in gin.config_str()


@pytest.mark.parametrize(
  'bindings, match',
  [
    ([], 'PRESET must be given'),
    (["PRESSET='tiny'"], 'did you mean PRESET'),
    (["PRESET='tiny'", 'presets.model.rematt=1'], 'did you mean remat?'),
    (["PRESET='tiny'", 'presets.modell.x=1'], 'did you mean presets.model?'),
    (["PRESET='tiny'", 'trainer.x=1'], 'trainer'),
    (['PRESET=/tiny'], 'quotes of its own'),
    (['PRESET'], 'has no value'),
    (["PRESET='tiny'", 'DTYPE=%WIDTH'], 'WIDTH has no value'),
  ],
)
def test_wrong_bindings(file, bindings, match):
  with pytest.raises(UserError, match=match):
    gin_files.parse_gin([file], bindings)


@pytest.mark.parametrize(
  'text, match',
  [
    ('from mmicl_jax import nothing', "'mmicl_jax'|nothing.*line 1"),
    ('NAME = tiny', 'cannot be used'),
    ("include 'nowhere.gin'", 'file nowhere.gin was not found.*a.gin", line 1'),
  ],
)
def test_wrong_files(tmp_path, text, match):
  path = tmp_path / 'a.gin'
  path.write_text(text)
  with pytest.raises(UserError, match=match):
    gin_files.parse_gin([str(path)])


def test_files_are_found_where_their_folder_is_a_package(monkeypatch, tmp_path):
  """A directory on sys.path is one, and gin would look into it."""
  monkeypatch.syspath_prepend(str(gin_files.PACKAGE.parent))
  monkeypatch.chdir(tmp_path)
  gin_files.parse_gin(['stages/tune.gin'], ['TRAIN_STEPS=1'])
  assert gin_files.macros()['TRAINABLE'] == 'tune'


def test_missing_file():
  with pytest.raises(UserError, match='models/huge.gin was not found'):
    gin_files.parse_gin(['models/huge.gin'])


def test_a_users_mistake_stays_one_sentence(file):
  gin_files.parse_gin([file], ["PRESET='huge'"])
  with pytest.raises(UserError) as error:
    gin_files.call_configured(presets.model)
  assert str(error.value).startswith("unknown model preset 'huge'")
  assert 'configurable' not in str(error.value)


def test_a_name_in_a_file_that_nothing_reads(file, tmp_path):
  more = tmp_path / 'more.gin'
  more.write_text("PRESET = 'tiny'\nEVAL_STEPS = 3\n")  # T5X reads that one
  gin_files.parse_gin([file, str(more)])
  more.write_text("PRESET = 'tiny'\nTRAIN_STEPSS = 3\n")
  with pytest.raises(UserError, match='did you mean TRAIN_STEPS'):
    gin_files.parse_gin([file, str(more)])


@pytest.mark.parametrize(
  'files',
  [
    ['stages/pretrain.gin', 'models/tiny.gin', 'stages/tune.gin'],
    ['gin_configs/models/xl.gin', '/there/gin_configs/models/xxl.gin'],
    ['meshes/cpu.gin', 'gin_configs/meshes/gpu8.gin'],
  ],
)
def test_two_files_of_one_concern(files):
  with pytest.raises(UserError, match='drop the other'):
    gin_files.parse_gin(files)


def test_a_configuration_apart(file):
  gin_files.parse_gin([file], ["PRESET='tiny'"])
  before, readers = gin.config_str(), [*gin.config._FILE_READERS]
  with pytest.raises(UserError), gin_files.apart():
    gin_files.parse_gin([file], ["PRESET='base'"])
    assert gin_files.macros()['PRESET'] == 'base'
    gin.config._FILE_READERS.clear()
    gin_files.parse_gin(['nowhere.gin'])
  assert gin.config_str() == before and gin.config_is_locked()
  assert gin.config._FILE_READERS == readers

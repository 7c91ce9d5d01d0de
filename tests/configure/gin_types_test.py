import pytest

from mmicl_jax.configure import gin_files
from mmicl_jax.decoding.options import Options
from mmicl_jax.errors import UserError

FILE = """
from __gin__ import dynamic_registration
from mmicl_jax.training import optim
from mmicl_jax import presets
from mmicl_jax.training import settings
from mmicl_jax.data import loader
from mmicl_jax.decoding import options
STEPS = 3
RATE = 1
PROFILE = ('a', 'b')
settings.StepSettings.train_steps = %STEPS
settings.StepSettings.optimizer = @optim.adamw
settings.ModelSettings.trainable = %PROFILE
settings.ModelSettings.config = @presets.model()
settings.RunSettings.eval_every = None
settings.RunSettings.model_dir = 'a'
optim.adamw.weight_decay = %RATE
loader.record_loader.data = 'a'
loader.record_loader.shuffle = False
options.Options.num_beams = %STEPS
"""


@pytest.fixture
def file(tmp_path):
  path = tmp_path / 'a.gin'
  path.write_text(FILE)
  return str(path)


def test_values_of_their_types_pass(file):
  gin_files.parse_gin([file], ["PROFILE = 'all'", 'optim.adamw.clip = 2'])


def test_a_frozen_dataclass_is_configured_as_itself(file):
  gin_files.parse_gin([file])
  assert gin_files.call_configured(Options) == Options(num_beams=3)


@pytest.mark.parametrize(
  'binding, match',
  [
    ("STEPS = '3'", "STEPS is '3': give a whole number$"),
    ('STEPS = 3.0', 'STEPS is 3.0: give a whole number$'),
    ('STEPS = True', 'STEPS is True: give a whole number$'),
    ('STEPS = None', 'STEPS is None: give a whole number$'),
    ('RATE = 1e999', 'RATE is inf: give a finite number$'),
    ("RATE = 'a'", "RATE is 'a': give a finite number$"),
    ('PROFILE = (1,)', r"give text \('...'\) or a tuple of text \('...'\)$"),
    (
      "loader.record_loader.shuffle = 'no'",
      'loader.record_loader.shuffle .* True or False$',
    ),
    ('settings.RunSettings.eval_every = 1.5', 'give a whole number or None$'),
    ('settings.RunSettings.model_dir = 3', r"is 3: give text \('...'\)$"),
    (
      "settings.StepSettings.optimizer = 'adam'",
      r'reference \(@...\) to a Callable$',
    ),
    (
      "settings.ModelSettings.config = 'tiny'",
      r'reference \(@...\) to a MMICLConfig$',
    ),
    ('STEPS = %STEPS', 'STEPS refers to itself'),
    (
      'options.Options.num_beams = 2.5',
      'Options.num_beams is 2.5: give a whole',
    ),
    ('options.Options.nun_beams = 2', 'did you mean num_beams'),
  ],
)
def test_others_are_named(file, binding, match):
  with pytest.raises(UserError, match=match):
    gin_files.parse_gin([file], [binding])

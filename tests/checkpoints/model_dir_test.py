"""What stands beside the checkpoints."""

import pytest

from mmicl_jax.checkpoints.model_dir import (
  copy_vocabulary,
  read_config,
  write_config,
)
from mmicl_jax.errors import UserError
from mmicl_jax.models import configs


def test_model_json_round_trip(tmp_path):
  write_config(tmp_path, configs.TINY)
  assert read_config(tmp_path) == configs.TINY
  (tmp_path / 'model.json').write_text('{"vit": {}')
  with pytest.raises(UserError, match='model.json'):
    read_config(tmp_path)
  with pytest.raises(UserError, match='missing'):
    read_config(tmp_path / 'nowhere')


def test_what_cannot_be_written_leaves_nothing(tmp_path):
  resource = pytest.importorskip('resource')
  (tmp_path / 'a.model').write_bytes(b'p' * 9000)
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
  try:
    with pytest.raises(UserError, match='spiece.model could not be written'):
      copy_vocabulary(tmp_path, tmp_path / 'a.model')
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
  assert sorted(p.name for p in tmp_path.iterdir()) == ['a.model']


def test_vocabulary_is_copied(tmp_path):
  (tmp_path / 'a.model').write_bytes(b'pieces')
  copy_vocabulary(tmp_path, tmp_path / 'a.model')
  assert (tmp_path / 'spiece.model').read_bytes() == b'pieces'
  copy_vocabulary(tmp_path, tmp_path / 'spiece.model')
  with pytest.raises(UserError, match='does not exist'):
    copy_vocabulary(tmp_path, tmp_path / 'b.model')

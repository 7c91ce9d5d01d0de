"""Both stages from their mixtures, on sets built from miniatures."""

import pytest
import training_sets

from mmicl_jax import __main__ as cli
from mmicl_jax.checkpoints import steps


@pytest.mark.slow
def test_one_gin_file_trains_each_stage(tmp_path, capsys):
  folder = training_sets.write_sets(tmp_path)
  start = None
  for stage in ('pretrain', 'tune'):
    path = training_sets.stage_file(folder, stage, init_from=start)
    start = folder / stage
    arguments = ['--gin_file=runs/train.gin', f'--gin_file={path}']
    capsys.readouterr()
    status = cli.main(['train', *arguments, f'--gin.MODEL_DIR={str(start)!r}'])
    said = capsys.readouterr().err
    assert status == 0, said
    assert steps.locate(start)[1] == 2
    assert f'trainable: {stage}' in said
    # Stage 1 has nothing held out.
    assert ('eval' in said) == (stage == 'tune'), said

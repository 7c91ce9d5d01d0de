"""The place in the data that a checkpoint keeps."""

from saved_runs import run_tree, save_run, shapes

from mmicl_jax.checkpoints import checkpointer


def test_the_place_of_another_number_of_processes_is_none(tmp_path):
  save_run(tmp_path, 5)
  folder = tmp_path / 'checkpoint_5/dataset'
  for path in folder.glob('process_0*'):
    path.rename(folder / path.name.replace('of-1', 'of-2'))
  found = checkpointer.Checkpointer(tmp_path).restore_latest(
    shapes(run_tree(0))
  )
  assert found[0] == 5 and found[2] is None

"""What deploy/slurm starts, run here: two processes train a step."""

import contextlib
import socket
import sys

import deploy_files
import pytest
import tiny_records
import virtual_devices

from mmicl_jax.checkpoints.steps import latest_step

pytestmark = pytest.mark.slow

# Starts as many processes as Slurm would, on this machine.
SRUN = """
while [ "$1" != mmicl ]; do shift; done
for ((i = 0; i < SLURM_NTASKS; i++)); do
  SLURM_PROCID=$i SLURM_LOCALID=$i SLURM_STEP_NUM_NODES=1 \
    SLURM_STEP_NODELIST=localhost "$@" &
done
status=0
for ((i = 0; i < SLURM_NTASKS; i++)); do wait -n || status=$?; done
exit $status
"""


def job_id():
  """An id from which JAX makes a port that is free: 61440 + id % 4096."""
  for port in range(61440, 65536):
    with socket.socket() as s, contextlib.suppress(OSError):
      s.bind(('localhost', port))
      return str(port - 61440 + 4096)
  raise RuntimeError('no port is free')


def test_the_script_of_slurm_trains_a_step_in_two_processes(tmp_path):
  data = tiny_records.write(tmp_path, 4)
  config = tiny_records.config(data)
  settings = {
    'BATCH_SIZE': 2,
    'INPUTS_LENGTH': 48,
    'TARGETS_LENGTH': 8,
    'MAX_IMAGES': 1,
    'INIT_FROM': None,
    'TENSORBOARD': False,
    'presets.model.image_token': config.image_token,
    'presets.model.vocab_size': config.t5.vocab_size,
  }
  mmicl = f'exec {sys.executable} -m mmicl_jax "$@"'
  found = deploy_files.run_script(
    'slurm/train.sbatch',
    tmp_path / 'bin',
    {'srun': SRUN, 'mmicl': mmicl},
    *(f'--gin.{name}={value}' for name, value in settings.items()),
    PYTHONPATH=':'.join(filter(None, sys.path)),
    SLURM_JOB_ID=job_id(),
    SLURM_NTASKS='2',
    MODEL='tiny',
    TRAIN_STEPS='1',
    DATA=str(data / 'train.jsonl'),
    VOCABULARY=str(data / 'spiece.model'),
    MODEL_DIR=str(tmp_path / 'out'),
    **virtual_devices.variables(1),
  )
  assert found.returncode == 0, found.stderr[-3000:]
  assert latest_step(tmp_path / 'out') == 1

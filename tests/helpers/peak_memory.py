"""The memory that some work needs, in a process that does nothing else."""

import contextlib
import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# What tests set to compile fast, with which XLA takes more memory, and to use
# one thread each.
_FOR_TESTS = (
  'JAX_DISABLE_MOST_OPTIMIZATIONS',
  'NPROC',
  'OMP_NUM_THREADS',
  'XLA_FLAGS',
)


def run(script, *arguments, devices=1):
  """Runs `python script arguments` by itself: what `report` has printed."""
  environment = {k: v for k, v in os.environ.items() if k not in _FOR_TESTS}
  environment |= {'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(ROOT)}
  if devices > 1:
    flag = f'--xla_force_host_platform_device_count={devices}'
    # More threads than devices: see virtual_devices.
    environment |= {'XLA_FLAGS': flag, 'NPROC': str(4 * devices)}
  done = subprocess.run(
    [sys.executable, str(script), *map(str, arguments)],
    capture_output=True,
    text=True,
    cwd=ROOT,
    env=environment,
  )
  if done.returncode:
    raise AssertionError(done.stderr[-3000:] + done.stdout[-1000:])
  return json.loads(done.stdout.splitlines()[-1])


def report(**values):
  """Prints values and the most memory this process ever had, in bytes; Linux.

  Not ru_maxrss, which a process takes over from the one that started it.
  """
  print(json.dumps(values | {'peak': _status('VmHWM')}))


def above(call):
  """Bytes that a call needs above what this process has in use; Linux.

  What malloc keeps of freed memory is given back first: it would be used again
  without being seen.
  """
  with contextlib.suppress(AttributeError):  # a libc without it
    ctypes.CDLL(None).malloc_trim(0)
  Path('/proc/self/clear_refs').write_text('5')
  before = _status('VmRSS')
  call()
  return _status('VmHWM') - before


def _status(name):
  lines = Path('/proc/self/status').read_text().splitlines()
  [line] = [x for x in lines if x.startswith(f'{name}:')]
  return int(line.split()[1]) * 1024

"""T5X's commands as a user starts them, and what stands in their way."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import gin
import pytest
import virtual_devices

ROOT = Path(__file__).parents[2]


def need() -> None:
  """Skips where T5X cannot be imported; fails if MMICL_REQUIRE_T5X is 1."""
  try:
    # It registers with gin, which an earlier test may have locked.
    with gin.unlock_config():
      importlib.import_module('t5x.train')
  except ImportError as error:
    reason = f'T5X cannot be imported: {error}'
    if os.environ.get('MMICL_REQUIRE_T5X') == '1':
      pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def run(
  command: str, files: list, bindings: dict, status: int = 0, devices: int = 1
) -> str:
  """Runs `python -m t5x.<command>`; returns what it printed to stderr."""
  found = subprocess.run(
    [sys.executable, '-m', f't5x.{command}']
    + [f'--gin_file=gin_configs/t5x/{command}.gin']
    + [f'--gin_file={file}' for file in files]
    + [f'--gin.{name}={value!r}' for name, value in bindings.items()],
    cwd=ROOT,
    env={
      **os.environ,
      'TF_CPP_MIN_LOG_LEVEL': '2',
      **virtual_devices.variables(devices),
    },
    capture_output=True,
    text=True,
    timeout=1800,  # ends what hangs; a busy machine needs minutes
  )
  assert found.returncode == status, found.stderr[-3000:]
  return found.stderr

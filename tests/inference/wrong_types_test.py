"""A value of a wrong type is refused in one sentence by each public name."""

import subprocess
import sys
from pathlib import Path

import pytest
import tiny_dir

SCRIPT = Path(__file__).parents[1] / 'helpers' / 'wrong_types.py'


@pytest.mark.slow
def test_wrong_types_are_refused_in_a_sentence(tmp_path):
  tiny_dir.make(tmp_path)
  done = subprocess.run(
    [sys.executable, SCRIPT, tmp_path], capture_output=True, text=True
  )
  assert done.stdout == 'done\n', done.stdout + done.stderr

"""The short form of `python tests/fuzz.py`.

It runs apart from pytest, whose checks of types would refuse what users may
give: a whole number where a float is meant.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CASES = {
  'records': 200,
  'prompts': 200,
  'options': 200,
  'images': 200,
  'checkpoints': 40,
  'train': 30,
  'commands': 200,
}


@pytest.mark.slow
@pytest.mark.parametrize('kind', CASES)
def test_odd_input_is_taken_or_refused(kind):
  count = CASES[kind]
  command = [sys.executable, '-W', 'ignore', 'tests/fuzz.py', kind]
  done = subprocess.run(
    [*command, '--cases', str(count), '--seed', '1'],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  taken = int(re.search(r'(\d+) taken', done.stdout)[1])
  assert 0 < taken < count

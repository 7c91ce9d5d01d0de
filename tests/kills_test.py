import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
import kills  # noqa: E402


@pytest.mark.slow
@pytest.mark.parametrize('name', kills.JOBS)
def test_a_killed_command_loses_nothing(tmp_path, name):
  """The short form of `python tests/kills.py`."""
  ends = kills.run(tmp_path, kills.JOBS[name](), kills=2, seed=3)
  assert len(ends) == 2

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
import kills  # noqa: E402


def test_a_killed_run_loses_nothing(tmp_path):
  """The short form of `python tests/kills.py`."""
  ends = kills.run(tmp_path, kills=2, steps=20, seed=3)
  assert ends, 'the run completed before the first kill'

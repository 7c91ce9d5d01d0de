import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
import load  # noqa: E402


@pytest.mark.slow
def test_a_crowd_gets_what_a_predictor_gives(tmp_path):
  """The short form of `python tests/load.py`."""
  pytest.importorskip('starlette')
  ends = load.run(tmp_path, clients=16, seconds=2, different=8)
  assert ends['answered'] > 0

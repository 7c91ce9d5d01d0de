import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
import fuzz  # noqa: E402

from mmicl_jax.checkpoints import faults  # noqa: E402

CASES = {'checkpoints': 40, 'train': 30}


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')  # of Pillow, about what it reads
@pytest.mark.parametrize('kind', fuzz.KINDS)
def test_odd_input_is_taken_or_refused(tmp_path, monkeypatch, kind):
  """The short form of `python tests/fuzz.py`."""
  monkeypatch.setattr(faults, 'PAUSES', (0,))
  cases = CASES.get(kind, 200)
  taken, wrong = fuzz.run(tmp_path, kind, cases, seed=1)
  assert not wrong, '\n'.join(wrong)
  assert 0 < taken < cases

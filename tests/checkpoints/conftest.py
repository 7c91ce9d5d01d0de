"""Nothing is waited for: what fails in these tests does not mend itself."""

import pytest

from mmicl_jax.checkpoints import faults


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
  monkeypatch.setattr(faults, 'PAUSES', (0, 0))

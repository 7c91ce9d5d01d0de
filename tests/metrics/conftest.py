"""Scores captions without METEOR: its Java program takes ten seconds to start.

tests/metrics/meteor_test.py asks for it where it is installed.
"""

import pytest

from mmicl_jax.metrics import meteor


@pytest.fixture(autouse=True)
def no_meteor(monkeypatch):
  monkeypatch.setattr(meteor, '_jar', lambda: None)

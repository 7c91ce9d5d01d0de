"""One server of a tiny model, which all tests of this folder ask."""

import pytest
import served_model


@pytest.fixture(scope='session')
def tiny_served_predictor(tmp_path_factory):
  return served_model.tiny_predictor(tmp_path_factory.mktemp('tiny'))


@pytest.fixture(scope='session')
def served(tiny_served_predictor):
  with served_model.serving(tiny_served_predictor) as found:
    yield found

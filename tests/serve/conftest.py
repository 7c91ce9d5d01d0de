"""One server and one engine of a tiny model, which tests of this folder ask."""

import engine_cases
import pytest
import served_model
import small_server


@pytest.fixture(scope='session')
def tiny_served_predictor(tmp_path_factory):
  return served_model.tiny_predictor(tmp_path_factory.mktemp('tiny'))


@pytest.fixture(scope='session')
def served(tiny_served_predictor):
  with served_model.serving(tiny_served_predictor) as found:
    yield found


@pytest.fixture
def scripted(tiny_served_predictor):
  """A server whose engine answers what a test has it answer."""
  with served_model.serving(
    tiny_served_predictor, served_model.Scripted()
  ) as found:
    yield found


@pytest.fixture(scope='session')
def reference():
  """A Predictor that answers alone."""
  return small_server.predictor()


@pytest.fixture(scope='session')
def prompts(reference):
  return engine_cases.make_prompts(reference)


@pytest.fixture(scope='session')
def cases(reference, prompts):
  return engine_cases.make_cases(reference, prompts)


# Of a module: as long as it is open, Playwright's event loop is this thread's,
# and no other test can run one.
@pytest.fixture(scope='module')
def browser():
  import browsing  # skips what needs it where there is no playwright

  with browsing.chromium() as found:
    yield found


@pytest.fixture
def page(browser, served):
  """The server's page, opened for this test alone."""
  import browsing

  with browsing.opened(browser, served) as found:
    yield found

"""The short form of `python tests/memory.py`: no weights are held twice."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
import memory  # noqa: E402

WIDTH = 384  # 92 MiB of parameters
CONSTANT = 40 * 2**20  # what is beside them while they are read, at any size

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(
    not Path('/proc/self/status').exists(), reason='no /proc of Linux'
  ),
]


@pytest.fixture(scope='module')
def found(tmp_path_factory):
  folder = tmp_path_factory.mktemp('model')
  memory.make(folder, WIDTH)
  return memory.measure(folder, memory.WORKS, runs=2)


@pytest.mark.parametrize('name', memory.WORKS)
def test_weights_are_in_memory_once(found, name):
  more, held = min(found[name])  # what else goes on only adds to it
  assert more < 1.15 * held + CONSTANT, (more, held)

"""The restarted command is the same command, once."""

import os
import subprocess
import sys

import pytest

from mmicl_jax import huge_pages

PROGRAM = """
import os, sys
from mmicl_jax import huge_pages
huge_pages.KERNEL = huge_pages.Path(sys.argv[1])
huge_pages.restart()
tunables = os.environ.get('GLIBC_TUNABLES')
print(tunables, sys.argv[2:], sys.flags.dont_write_bytecode)
"""


def run(kernel, environment):
  given = {k: v for k, v in os.environ.items() if k != huge_pages.VARIABLE}
  return subprocess.run(
    [sys.executable, '-B', '-c', PROGRAM, str(kernel), '--a', 'b c'],
    env={**given, 'PYTHONPATH': os.getcwd(), **environment},
    capture_output=True,
    text=True,
    check=True,
  ).stdout.strip()


@pytest.mark.parametrize(
  'offer, environment, tunables',
  [
    ('always [madvise] never', {}, huge_pages.SETTING),
    ('always madvise [never]', {}, 'None'),
    ('[always] madvise never', {}, 'None'),
    ('always [madvise] never', {'GLIBC_TUNABLES': 'x=1'}, 'x=1'),
    (None, {}, 'None'),
  ],
)
def test_restarts_only_where_it_helps(tmp_path, offer, environment, tunables):
  kernel = tmp_path / 'enabled'
  if offer:
    kernel.write_text(offer)
  assert run(kernel, environment) == f"{tunables} ['--a', 'b c'] 1"

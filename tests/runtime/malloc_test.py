"""The restarted command is the same command, once."""

import os
import subprocess
import sys

import pytest

from mmicl_jax.runtime import malloc

PROGRAM = """
import os, sys
from mmicl_jax.runtime import malloc
sys.platform = sys.argv[1]
malloc.restart()
tunables = os.environ.get('GLIBC_TUNABLES')
print(tunables, sys.argv[2:], sys.flags.dont_write_bytecode)
"""


@pytest.mark.parametrize(
  'platform, environment, tunables',
  [
    ('linux', {}, malloc.SETTING),
    ('linux', {'GLIBC_TUNABLES': 'x=1'}, 'x=1'),
    ('linux', {'GLIBC_TUNABLES': ''}, ''),
    ('darwin', {}, 'None'),
  ],
)
def test_restarts_only_where_it_helps(platform, environment, tunables):
  given = {k: v for k, v in os.environ.items() if k != malloc.VARIABLE}
  said = subprocess.run(
    [sys.executable, '-B', '-c', PROGRAM, platform, '--a', 'b c'],
    env={**given, 'PYTHONPATH': os.getcwd(), **environment},
    capture_output=True,
    text=True,
    check=True,
  ).stdout
  assert said == f"{tunables} ['--a', 'b c'] 1\n"


@pytest.mark.skipif(sys.platform != 'linux', reason='settings of glibc')
def test_large_blocks_stay_in_the_process():
  """The second block of 64 MiB is the first again: no new pages."""
  program = (
    'import resource, numpy as np\n'
    'faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n'
    'np.ones(2**23)\n'
    'before = faults()\n'
    'np.ones(2**23)\n'
    'print(faults() - before)\n'
  )

  def count(tunables):
    return int(
      subprocess.check_output(
        [sys.executable, '-c', program],
        env={**os.environ, malloc.VARIABLE: tunables},
      )
    )

  if count('glibc.malloc.mmap_max=0') == count(''):
    pytest.skip('this C library has no tunables')
  assert count(malloc.SETTING) < 8 <= count('')

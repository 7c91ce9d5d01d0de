"""A command is started again where that was asked for, once and as it was."""

import os
import subprocess
import sys

import pytest

from mmicl_jax.runtime import malloc

PROGRAM = """
import os, sys
from mmicl_jax.runtime import malloc
sys.platform = sys.argv[1]
malloc.restart_if_wanted()
tunables = os.environ.get('GLIBC_TUNABLES')
print(tunables, sys.argv[2:], sys.flags.dont_write_bytecode)
"""
WANTED = {'MMICL_HUGE_PAGES': '1'}


@pytest.mark.parametrize(
  'platform, environment, tunables',
  [
    ('linux', {}, 'None'),
    ('linux', {'MMICL_HUGE_PAGES': '0'}, 'None'),
    ('linux', WANTED, malloc.SETTING),
    ('linux', WANTED | {'GLIBC_TUNABLES': 'x=1'}, 'x=1'),
    ('linux', WANTED | {'GLIBC_TUNABLES': ''}, ''),
    ('darwin', WANTED, 'None'),
  ],
)
def test_restarts_only_where_it_is_wanted(platform, environment, tunables):
  variables = (malloc.TUNABLES, malloc.HUGE_PAGES)
  given = {k: v for k, v in os.environ.items() if k not in variables}
  said = subprocess.run(
    [sys.executable, '-B', '-c', PROGRAM, platform, '--a', 'b c'],
    env={**given, 'PYTHONPATH': os.getcwd(), **environment},
    capture_output=True,
    text=True,
    check=True,
  ).stdout
  assert said == f"{tunables} ['--a', 'b c'] 1\n"


@pytest.mark.parametrize(
  'backend, library, environment, helps',
  [
    ('cpu', 'glibc', {}, True),
    ('tpu', 'glibc', {}, False),
    ('cpu', '', {}, False),
    ('cpu', 'glibc', {'GLIBC_TUNABLES': ''}, False),
    ('cpu', 'glibc', WANTED, False),
    ('cpu', 'glibc', {'MMICL_HUGE_PAGES': '0'}, False),
  ],
)
def test_is_told_only_where_it_would_help(
  monkeypatch, backend, library, environment, helps
):
  monkeypatch.setattr(malloc.platform, 'libc_ver', lambda: (library, '2.36'))
  for name in (malloc.TUNABLES, malloc.HUGE_PAGES):
    monkeypatch.delenv(name, raising=False)
  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  assert ('MMICL_HUGE_PAGES=1' in (malloc.advice(backend) or '')) == helps


def test_every_load_returns_what_small_blocks_leave(monkeypatch):
  """The second as well, though the first has ended with other settings."""
  monkeypatch.delenv(malloc.TUNABLES, raising=False)
  now = {}
  monkeypatch.setattr(malloc, '_set', now.__setitem__)
  during, after = [], []
  for _ in range(2):
    with malloc.returning_large_blocks():
      during.append(dict(now))
    after.append(dict(now))
  trim, large = malloc.M_TRIM_THRESHOLD, malloc.M_MMAP_THRESHOLD
  assert during == [{trim: 2**17, large: 2**20}] * 2
  assert after == [{trim: 2**26, large: 2**25}] * 2

"""Paths: absolute ones, and those with '://'."""

import os
from pathlib import Path

import pytest

from mmicl_jax.errors import UserError
from mmicl_jax.runtime import remote
from mmicl_jax.runtime.remote import absolute_path


@pytest.mark.parametrize(
  'path, expected',
  [
    ('a/b', '{here}/a/b'),
    ('./a', '{here}/./a'),
    ('/a/b', '/a/b'),
    ('runs/current', '{here}/runs/current'),  # a link keeps its name
    ('runs/current/../x/y', '{here}/disk/x/y'),
    ('runs/current/..', '{here}/disk'),
    ('disk/../runs/current', '{here}/runs/current'),
    ('gs://bucket/a/../b', 'gs://bucket/a/../b'),
  ],
)
def test_absolute_paths_are_what_the_system_opens(
  path, expected, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  os.makedirs('disk/v3')
  os.makedirs('runs')
  os.symlink('../disk/v3', 'runs/current')
  assert absolute_path(path) == expected.format(here=os.getcwd())


@pytest.mark.parametrize(
  'path, expected',
  [
    ('gs://bucket/run', 'gs://bucket/run'),
    (Path('gs://bucket/run'), 'gs://bucket/run'),  # pathlib drops a slash
    ('gs:/bucket/run', 'gs://bucket/run'),
    ('memory:///a', 'memory:///a'),
    ('abc://a', 'abc://a'),  # nobody knows it: an error, not a folder
    ('runs/a', None),
    ('a/b://c', None),
    ('a:b', None),
    ('abc:/a', None),  # a folder may be called so
  ],
)
def test_an_address_is_never_a_folder_here(path, expected):
  assert remote.is_remote(path) == (expected is not None)
  if expected is not None:
    assert remote.address(path) == expected


def test_a_call_that_fails_is_made_again_unless_it_would_fail_again(
  monkeypatch,
):
  monkeypatch.setattr(remote, 'PAUSES', (0, 0, 0))
  errors = [OSError(5, '500'), ConnectionError('reset'), TimeoutError('late')]
  assert remote.retried(lambda: errors and raised(errors.pop()) or 'done')
  assert not errors
  errors = [PermissionError(13, 'no')] * 2
  with pytest.raises(PermissionError):
    remote.retried(lambda: raised(errors.pop()))
  assert len(errors) == 1


def raised(error):
  raise error


def test_what_works_here_alone_is_refused_by_name():
  with pytest.raises(UserError, match='--out is s3://b/x, .* a local folder'):
    remote.only_here('s3://b/x', '--out')
  remote.only_here('runs/x', '--out')

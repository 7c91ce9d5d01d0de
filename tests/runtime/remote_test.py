"""Paths: absolute ones, and those with '://'."""

import os

import pytest

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

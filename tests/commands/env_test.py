"""`mmicl env`: what it says is what is here, and no secret is among it."""

import importlib.metadata
import json
import sys

import jax
import pytest

from mmicl_jax.__main__ import main
from mmicl_jax.runtime import environment


def test_json_says_what_runs_here(capsys, monkeypatch):
  monkeypatch.setenv('MMICL_HUGE_PAGES', '1')
  monkeypatch.setenv('HF_TOKEN', 'secret-1')
  monkeypatch.setenv('WANDB_API_KEY', 'secret-2')
  monkeypatch.setenv('MMICL_API_KEY', 'secret-3')
  assert main(['env', '--json']) == 0
  found = json.loads(capsys.readouterr().out)
  assert found['packages']['jax'] == importlib.metadata.version('jax')
  assert found['jax']['backend'] == jax.default_backend()
  assert len(found['jax']['devices']) == jax.local_device_count()
  assert found['variables']['MMICL_HUGE_PAGES'] == '1'
  assert sys.executable in found['python']
  assert 'secret' not in json.dumps(found)


def test_text_names_versions_devices_and_settings(capsys, monkeypatch):
  monkeypatch.setenv('XLA_FLAGS', '--xla_example=1')
  assert main(['env']) == 0
  out = capsys.readouterr().out
  for word in ('mmicl_jax', 'CPU', 'jaxlib', 'device', '--xla_example=1'):
    assert word in out


def test_a_package_that_is_absent_is_left_out(monkeypatch):
  def absent(name):
    raise importlib.metadata.PackageNotFoundError(name)

  monkeypatch.setattr(importlib.metadata, 'version', absent)
  assert environment.environment()['packages'] == {}


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_memory_and_processor_are_read():
  found = environment.environment()
  assert found['memory']['total'] >= found['memory']['available'] > 0
  assert found['cpu']['cores'] >= 1 and found['cpu']['model']

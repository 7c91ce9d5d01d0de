"""The layouts of transformers 4.x, in a Python of its own.

MMICL_TRANSFORMERS_4 names that Python, for instance one made by
  python -m venv former
  former/bin/pip install torch 'transformers==4.33.*' 'numpy<2' sentencepiece
"""

import json
import os
import subprocess
from pathlib import Path

import hf_models
import jax
import numpy as np
import pytest

from mmicl_jax.convert import load_pretrained, save_pretrained
from mmicl_jax.models.mmicl import MMICL

PYTHON = os.environ.get('MMICL_TRANSFORMERS_4')
needs_python = pytest.mark.skipif(
  not PYTHON, reason='MMICL_TRANSFORMERS_4 names no Python with transformers 4'
)


def former(*arguments):
  script = Path(__file__).with_name('transformers4.py')
  environment = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
  run = subprocess.run(
    [PYTHON, str(script), *map(str, arguments)],
    capture_output=True,
    text=True,
    env=environment,
  )
  assert run.returncode == 0, run.stderr[-3000:]


@needs_python
@pytest.mark.parametrize('kind, words', [('instructblip', 5), ('blip-2', 0)])
def test_former_layout_both_ways(tmp_path, kind, words):
  counts = [2, 0, 3]
  batch = hf_models.batch(counts, 1, words)
  np.savez(tmp_path / 'batch.npz', **batch)
  (tmp_path / 'counts.json').write_text(json.dumps(counts))
  former('make', kind, tmp_path)

  config, params, _ = load_pretrained(tmp_path / 'hf')
  logits = jax.jit(MMICL(config).apply)({'params': params}, batch)
  with np.load(tmp_path / 'expected.npz') as file:
    expected = dict(file)
  assert_close(logits, expected['logits'])

  save_pretrained(config, params, tmp_path / 'back', shard_bytes=40_000)
  former('load', tmp_path / 'back', tmp_path)
  info = json.loads((tmp_path / 'info.json').read_text())
  assert not any(info.values()), info
  with np.load(tmp_path / 'again.npz') as file:
    assert_close(file['logits'], expected['logits'])


def assert_close(ours, theirs):
  limit = min(1e-4, 1e-5 * np.abs(theirs).max())
  np.testing.assert_allclose(ours, theirs, rtol=0, atol=limit)

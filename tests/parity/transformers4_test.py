"""The layouts of transformers 4.x, in a Python of its own.

MMICL_TRANSFORMERS_4 names that Python, for instance one made by
  python -m venv former
  former/bin/pip install torch 'transformers==4.33.*' 'numpy<2' sentencepiece
"""

import dataclasses
import json
import os
import subprocess
from pathlib import Path

import hf_models
import numpy as np
import pytest

from mmicl_jax.convert.hf_config import from_hf
from mmicl_jax.convert.loading import load_pretrained
from mmicl_jax.convert.saving import save_pretrained
from mmicl_jax.decoding.options import Options
from mmicl_jax.parity import probes, report
from mmicl_jax.runtime.files import write_json
from mmicl_jax.training import stages
from mmicl_jax.types import EOS

STAGES = ('pretrain', 'tune')
OPTIONS = Options(num_beams=3, max_new_tokens=8, beam_search='transformers4')

PYTHON = os.environ.get('MMICL_TRANSFORMERS_4')
needs_python = pytest.mark.skipif(
  not PYTHON, reason='MMICL_TRANSFORMERS_4 names no Python with transformers 4'
)


def former(*arguments):
  script = Path(hf_models.__file__).with_name('transformers4.py')
  environment = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
  run = subprocess.run(
    [str(PYTHON), str(script), *map(str, arguments)],
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
  names = trainable(kind)
  write_json(
    tmp_path / 'settings.json',
    {
      'counts': counts,
      'trainable': sorted(set.union(*names.values())),
      'beams': OPTIONS.num_beams,
      'length': OPTIONS.max_new_tokens,
    },
  )
  former('make', kind, tmp_path)

  config, params, _ = load_pretrained(tmp_path / 'hf', scan_layers=False)
  assert names == {s: probes.trainable_names(config, s) for s in STAGES}
  union = tuple(p for stage in STAGES for p in stages.PROFILES[stage])
  ours = probes.trace_jax(config, params, batch, counts, union, OPTIONS)
  seen = {name: ours.values[name] for name in ('logits', 'loss')}
  ours = dataclasses.replace(ours, values=seen)
  rows = report.compare(ours, read(tmp_path / 'expected.npz'), names)
  assert len(rows) == 6 and all(row.ok for row in rows), rows

  save_pretrained(config, params, tmp_path / 'back', shard_bytes=40_000)
  former('load', tmp_path / 'back', tmp_path)
  info = json.loads((tmp_path / 'info.json').read_text())
  assert not any(info.values()), info
  rows = report.compare(ours, read(tmp_path / 'again.npz'), names)
  assert all(row.ok for row in rows), rows


def trainable(kind):
  """Stage -> PyTorch names, which are the same in all layouts."""
  model = hf_models.hf_model(kind)
  config, _ = from_hf(model.config.to_dict())
  return {stage: probes.trainable_names(config, stage) for stage in STAGES}


def read(path):
  """What transformers4.py wrote, as a trace."""
  with np.load(path) as file:
    found = dict(file)
  return probes.Trace(
    {name: found[name] for name in ('logits', 'loss')},
    {
      name.removeprefix('gradient '): x
      for name, x in found.items()
      if name.startswith('gradient ')
    },
    {name: [until_end(x) for x in found[name]] for name in ('greedy', 'beam')},
    found['scores'].tolist(),
  )


def until_end(ids):
  ids = ids.tolist()
  return ids[: ids.index(EOS) + 1] if EOS in ids else ids

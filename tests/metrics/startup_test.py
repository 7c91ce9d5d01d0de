"""`mmicl score` starts at once: it loads no JAX and no model."""

import subprocess
import sys

import build_deps
import pytest
from small_benchmarks import SMALL, write_lines

SCRIPT = """
import sys
from mmicl_jax.__main__ import main
try:
  status = main(sys.argv[1:])
except SystemExit as exit:
  status = exit.code
heavy = {'jax', 'jaxlib', 'flax', 'torch', 'tensorflow', 'nltk', 'sklearn'}
print(status, *heavy & {name.split('.')[0] for name in sys.modules})
"""


@pytest.mark.slow
@pytest.mark.parametrize('what', ['help', 'scores'])
def test_neither_jax_nor_a_model_is_loaded(what, tmp_path):
  argv = ['score', '--help']
  if what == 'scores':
    (tmp_path / 'data').mkdir()
    small = SMALL['vqav2'](tmp_path / 'data', 'official')
    rows = [{'id': n, 'output': o} for n, o in small.answers.items()]
    write_lines(tmp_path / 'answers.jsonl', rows)
    argv = ['score', '--benchmark', 'vqav2', '--json', '--data']
    argv += [tmp_path / 'data', '--predictions', tmp_path / 'answers.jsonl']
    argv += ['--per_item', tmp_path / 'items.jsonl']
  done = subprocess.run(
    [sys.executable, '-c', SCRIPT, *map(str, argv)],
    cwd=build_deps.ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout.splitlines()[-1] == '0'

"""Imports only point inward: python, JAX, files and data, TensorFlow."""

import ast
import subprocess
import sys
from pathlib import Path

import build_deps
import pytest

# Modules of the inner rings and of ring 3; all others are ring 2.
RINGS = {
  0: [
    *('context', 'context_text', 'errors', 'lint', 'malloc', 'metrics'),
    'report',
  ],
  1: [
    *(
      'types',
      'models',
      'partitioning',
      'stages',
      'optim',
      'trees',
      'train_step',
      'flops',
      'checksums',
      'multihost',
    ),
    *('decoding', 'beam', 'sampling', 'processors', 'options'),
  ],
  3: ['seqio_data', 't5x_model', 't5x_run'],
}
PACKAGES = {
  1: {'jax', 'flax', 'optax', 'numpy', 'ml_dtypes', 'jaxtyping'},
  2: {
    *('PIL', 'absl', 'clu', 'etils', 'gin', 'grain', 'jinja2'),
    *('matplotlib', 'orbax', 'rich', 'safetensors', 'sentencepiece'),
    *('sklearn', 'tensorstore'),
  },
  3: {'tensorflow', 'tensorflow_datasets', 'seqio', 't5x'},
}
# Read where a function asks for them, never when a module is imported.
LAZY = {'torch', 'transformers', 'tokenizers', 'huggingface_hub', 'tensorboard'}
LAZY |= {'libtpu'}
LAZY |= PACKAGES[3]

MODULES = [
  path for path in build_deps.sources() if path.startswith('mmicl_jax/')
]


def ring(path):
  parts = Path(path).with_suffix('').parts[1:]
  rings = [r for r, names in RINGS.items() if parts[0] in names]
  return rings[0] if rings else 2


def packages(path):
  tree = ast.parse((build_deps.ROOT / path).read_text())
  for name, at_once in build_deps.imported_names(tree):
    top = name.split('.')[0]
    if top != 'mmicl_jax' and top not in sys.stdlib_module_names:
      yield top, at_once


@pytest.mark.parametrize('path', MODULES)
def test_a_module_imports_from_its_ring_or_further_in(path):
  allowed = set().union(
    *(names for r, names in PACKAGES.items() if r <= ring(path))
  )
  for package, at_once in packages(path):
    assert package in allowed or (
      not at_once and package in LAZY and ring(path) >= 2
    ), f'{path} (ring {ring(path)}) imports {package}'
  # The package's own table of names and the command line load on demand.
  if path not in ('mmicl_jax/__init__.py', 'mmicl_jax/__main__.py'):
    outward = [
      other
      for other in build_deps.local_imports(path)
      if ring(other) > ring(path)
    ]
    assert not outward, f'{path} (ring {ring(path)})'


def loaded(*modules):
  """Top-level packages in memory after these imports in a new process."""
  script = (
    'import importlib, sys\n'
    f'for name in {modules!r}: importlib.import_module(name)\n'
    'print(*{name.split(".")[0] for name in sys.modules})'
  )
  run = subprocess.run(
    [sys.executable, '-c', script],
    cwd=build_deps.ROOT,
    capture_output=True,
    text=True,
  )
  assert run.returncode == 0, run.stderr
  return set(run.stdout.split())


def test_importing_the_project_loads_no_other_framework():
  modules = [build_deps.module_name(p) for p in MODULES if ring(p) < 3]
  modules.remove('mmicl_jax.__main__')
  found = loaded(*modules)
  assert not found & {*PACKAGES[3], 'torch', 'transformers'}
  assert {'jax', 'orbax', 'sentencepiece'} <= found


def test_answering_needs_no_packages_of_the_demo():
  found = loaded('mmicl_jax', 'mmicl_jax.models', 'mmicl_jax.generate')
  assert not found & {*LAZY, 'matplotlib', 'sklearn', 'jinja2'}


def test_the_innermost_ring_is_plain_python():
  inner = [build_deps.module_name(p) for p in MODULES if ring(p) == 0]
  assert not loaded(*inner) & set().union(*PACKAGES.values())


def test_importing_the_package_starts_at_once():
  """`mmicl --help` and `import mmicl_jax` load JAX only when it is used."""
  assert 'jax' not in loaded('mmicl_jax.__main__')

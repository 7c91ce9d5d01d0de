"""Imports point inward (python, JAX, files, TensorFlow) and downward."""

import ast
import subprocess
import sys

import build_deps
import folders
import pytest

# The ring of each folder, or file at the top of the package; 2 where none is
# named. Of training/, which is of ring 2, these files are further in.
RINGS = {
  **dict.fromkeys(('context', 'metrics', 'cpu', 'errors', 'strict_json'), 0),
  **dict.fromkeys(('types', 'models', 'decoding', 'cost', 'presets'), 1),
  **dict.fromkeys(('training/stages', 'training/optim', 'training/step'), 1),
  't5x': 3,
}
PACKAGES = {
  1: {'jax', 'flax', 'optax', 'numpy', 'ml_dtypes', 'jaxtyping'},
  2: {
    *('PIL', 'absl', 'cachetools', 'clu', 'etils', 'fsspec', 'gin', 'grain'),
    *('jinja2', 'matplotlib', 'orbax', 'rich', 'safetensors', 'sentencepiece'),
    *('sklearn', 'tensorstore'),
  },
  3: {'tensorflow', 'tensorflow_datasets', 'seqio', 't5x'},
}
# Read where a function asks for them, never when a module is imported.
LAZY = {'torch', 'transformers', 'tokenizers', 'huggingface_hub', 'tensorboard'}
LAZY |= {'libtpu', 'av', 'array_record', 'pyarrow', 'apache_beam', 'ray'}
LAZY |= PACKAGES[3]

# What a folder needs beyond its ring, and what it reads when it is asked for.
ALSO = {
  'metrics': {'numpy'},
  'serve': {'starlette', 'uvicorn', 'prometheus_client', 'h11'},
}
ALSO_LAZY = {'metrics': {'nltk'}}

FOLDERS = {p.name for p in (build_deps.ROOT / 'mmicl_jax').iterdir()}
MODULES = [
  path for path in build_deps.sources() if path.startswith('mmicl_jax/')
]


def ring(path):
  file = path.removeprefix('mmicl_jax/').removesuffix('.py')
  return RINGS.get(file, RINGS.get(folders.node(path), 2))


def packages(path):
  tree = ast.parse((build_deps.ROOT / path).read_text())
  for name, at_once in build_deps.imported_names(tree):
    top = name.split('.')[0]
    if top != 'mmicl_jax' and top not in sys.stdlib_module_names:
      yield top, at_once


@pytest.mark.parametrize('path', MODULES)
def test_a_module_imports_from_its_ring_or_further_in(path):
  allowed = set().union(
    *(names for r, names in PACKAGES.items() if r <= ring(path)),
    ALSO.get(folders.node(path), ()),
  )
  lazy = LAZY if ring(path) >= 2 else ALSO_LAZY.get(folders.node(path), ())
  for package, at_once in packages(path):
    assert package in allowed or (not at_once and package in lazy), (
      f'{path} (ring {ring(path)}) imports {package}'
    )
  outward = [
    other
    for other in build_deps.local_imports(path)
    if ring(other) > ring(path)
  ]
  assert not outward, f'{path} (ring {ring(path)})'


def test_folders_import_downward_in_short_chains():
  assert set(folders.graph()) == set(folders.ORDER)
  assert not folders.upward()
  assert len(folders.longest()) <= folders.LONGEST


def test_the_package_is_folders_and_few_files():
  names = {path.name for path in (build_deps.ROOT / 'mmicl_jax').glob('*.*')}
  assert names == {
    *(
      '__init__.py',
      '__main__.py',
      'cpu.py',
      'errors.py',
      'strict_json.py',
      'types.py',
    ),
    *('presets.py', 'tokenizer.py'),  # users' gin files and scripts name them
  }


@pytest.mark.parametrize('folder', sorted({*folders.ORDER} & FOLDERS))
def test_a_folder_says_in_a_few_lines_what_it_is_for(folder):
  text = (build_deps.ROOT / 'mmicl_jax' / folder / '__init__.py').read_text()
  [statement] = ast.parse(text).body  # nothing is handed on
  doc = ast.literal_eval(statement.value)
  assert 2 <= len(doc.strip().splitlines()) <= 5


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


@pytest.mark.slow
def test_importing_the_project_loads_no_other_framework():
  modules = [build_deps.module_name(p) for p in MODULES if ring(p) < 3]
  modules.remove('mmicl_jax.__main__')
  found = loaded(*modules)
  assert not found & {*PACKAGES[3], 'torch', 'transformers'}
  assert {'jax', 'orbax', 'sentencepiece'} <= found


def test_answering_needs_no_packages_of_the_demo():
  found = loaded('mmicl_jax', 'mmicl_jax.models', 'mmicl_jax.commands.generate')
  assert not found & {*LAZY, 'matplotlib', 'sklearn', 'jinja2'}
  assert not found & ALSO['serve']


@pytest.mark.parametrize('node', sorted(n for n, r in RINGS.items() if r == 0))
def test_the_innermost_ring_is_plain_python(node):
  inner = [
    build_deps.module_name(p) for p in MODULES if folders.node(p) == node
  ]
  others = set().union(*PACKAGES.values()) - ALSO.get(node, set())
  assert not loaded(*inner) & others


def test_importing_the_package_starts_at_once():
  """`mmicl --help` and `import mmicl_jax` load JAX only when it is used."""
  assert 'jax' not in loaded('mmicl_jax.__main__')


def test_building_records_needs_no_jax():
  """Its workers stay small; cache-features and --retrieve image load JAX."""
  found = loaded('mmicl_jax.commands.data', 'mmicl_jax.commands.data_build')
  assert not found & {*LAZY, 'jax', 'grain', 'tensorflow', 'seqio', 'torch'}

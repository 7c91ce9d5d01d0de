"""BUILD says the truth: every source once, and its real imports as deps."""

import ast
import collections
import os
import shutil
import subprocess

import build_deps
import pytest


def targets():
  """Rules of BUILD by name; a BUILD file is also valid Python."""
  tree = ast.parse((build_deps.ROOT / 'BUILD').read_text())
  for call in (node.value for node in tree.body if isinstance(node, ast.Expr)):
    if isinstance(call, ast.Call) and call.func.id.startswith('py_'):
      fields = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
      yield fields['name'], {'kind': call.func.id, **fields}


def test_every_source_is_in_exactly_one_target():
  counts = collections.Counter(
    source for _, fields in targets() for source in fields['srcs']
  )
  counts.pop(build_deps.RUNNER)  # the main program of all tests
  expected = set(build_deps.sources()) - {build_deps.RUNNER}
  assert counts == collections.Counter(expected), 'tools/build_deps.py --fix'


def test_deps_are_the_imports():
  for name, fields in targets():
    imports = {
      build_deps.label(p) for p in build_deps.local_imports(f'{name}.py')
    }
    assert set(fields.get('deps', ())) == imports, (
      f'{name}: tools/build_deps.py --fix'
    )


def test_tests_are_tests():
  for name, fields in targets():
    is_test = name.endswith('_test')
    assert (fields['kind'] == 'py_test') == is_test, name


def test_no_target_needs_itself():
  deps = {f':{name}': set(f.get('deps', ())) for name, f in targets()}
  while ready := {
    name for name, needs in deps.items() if not needs & set(deps)
  }:
    deps = {name: needs for name, needs in deps.items() if name not in ready}
  assert not deps, f'modules that import each other: {sorted(deps)}'


def test_the_tool_would_change_nothing():
  assert build_deps.build_text() == (build_deps.ROOT / 'BUILD').read_text()


def test_imports_are_found_wherever_they_stand():
  tree = ast.parse(
    'import jax.numpy as jnp\n'
    'from mmicl_jax.models import t5\n'
    'TABLE = {"train": "mmicl_jax.training.loop"}\n'
    'def f():\n  from mmicl_jax.training import optim\n'
  )
  assert set(build_deps.imported_names(tree)) == {
    ('jax.numpy', True),
    ('mmicl_jax.models.t5', True),
    ('mmicl_jax.training.loop', False),
    ('mmicl_jax.training.optim', False),
  }


def test_bazel_loads_the_file(tmp_path):
  bazel = shutil.which('bazel')
  if bazel is None:
    pytest.skip('bazel is not installed (Debian: apt install bazel-bootstrap)')
  # A copy: Bazel leaves links in the folder where it runs.
  workspace = tmp_path / 'workspace'
  workspace.mkdir()
  ignore = shutil.ignore_patterns('__pycache__')
  for name in ('mmicl_jax', 'tests', 'tools', 'tasks', 'gin_configs'):
    shutil.copytree(build_deps.ROOT / name, workspace / name, ignore=ignore)
  for name in ('BUILD', 'WORKSPACE', '.bazelignore'):
    shutil.copy(build_deps.ROOT / name, workspace)
  start = [bazel, f'--output_user_root={tmp_path}/root', '--batch']
  query = subprocess.run(
    [*start, 'query', 'kind("py_.*", //...)'],
    cwd=workspace,
    env={**os.environ, 'HOME': str(tmp_path)},
    capture_output=True,
    text=True,
  )
  assert query.returncode == 0, query.stderr
  assert set(query.stdout.split()) == {f'//:{name}' for name, _ in targets()}

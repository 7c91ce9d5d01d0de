"""One name, one thing: no two public definitions share a name."""

import ast
import collections

import build_deps

# What every command has, for the command line to call.
INTERFACE = {'main', 'add_arguments'}


def public_definitions():
  """(name, file) of functions and classes at the top of modules."""
  for path in build_deps.sources():
    if path.startswith(('mmicl_jax/', 'tasks/')):
      for node in ast.parse((build_deps.ROOT / path).read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
          if not node.name.startswith('_'):
            yield node.name, path


def test_no_two_definitions_share_a_name():
  """Nor does a class have the name of a function: Case is not case."""
  places = collections.defaultdict(list)
  for name, path in public_definitions():
    places[name.lower()].append(path)
  shared = {
    name: paths
    for name, paths in places.items()
    if len(paths) > 1 and name not in INTERFACE
  }
  assert not shared


def test_only_commands_have_their_interface():
  for name, path in public_definitions():
    if name in INTERFACE:
      assert path == 'mmicl_jax/__main__.py' or path.startswith(
        'mmicl_jax/commands/'
      )

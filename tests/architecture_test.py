"""docs/architecture.md says what the imports say."""

import ast
import re

import build_deps
import folders
import pytest

TEXT = (build_deps.ROOT / 'docs/architecture.md').read_text(encoding='utf-8')
WAYS = re.findall(r'## (A \w+)\'s way.*?```\n(.*?)```', TEXT, re.DOTALL)


def steps(figure):
  """(file, what imports it, or names it) for each line behind the first."""
  before = None
  for line in figure.splitlines():
    file = line.split()[0]
    by = re.search(r' by (\S+\.(?:py|gin))$', line)
    if before is not None:
      yield file, by[1] if by else before
    before = file


def names(driver, file):
  """Whether a Python file imports a file, or a gin file names its module."""
  if driver.endswith('.py'):
    return f'mmicl_jax/{file}' in build_deps.local_imports(
      f'mmicl_jax/{driver}'
    )
  module = build_deps.module_name(f'mmicl_jax/{file}')
  package, _, name = module.rpartition('.')
  gin = (build_deps.ROOT / driver).read_text(encoding='utf-8')
  return f'from {package} import {name}\n' in gin


@pytest.mark.parametrize('name, figure', WAYS)
def test_each_step_is_imported_by_the_one_before_it(name, figure):
  files = [line.split()[0] for line in figure.splitlines()]
  assert 10 <= len(files) <= 13 and len(set(files)) == len(files)
  for file, driver in steps(figure):
    assert names(driver, file), f'{driver} does not import {file}'


def test_all_ways_are_there():
  assert [name for name, _ in WAYS] == ['A record', 'A prompt', 'A client']


def test_the_answers_name_what_is_there():
  answers = re.findall(r'\? \| `(\w+)` in (\S+\.py)', TEXT)
  assert len(answers) == 5
  for name, file in answers:
    tree = ast.parse((build_deps.ROOT / 'mmicl_jax' / file).read_text('utf-8'))
    defined = {getattr(node, 'name', None) for node in tree.body}
    for node in tree.body:
      for target in getattr(node, 'targets', [getattr(node, 'target', None)]):
        defined.add(getattr(target, 'id', None))
    assert name in defined, f'{file} defines no {name}'


def test_the_folders_are_those_of_the_tool():
  """`python tools/folders.py --table` prints them."""
  assert '\n'.join(folders.table()) in TEXT

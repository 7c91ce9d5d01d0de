"""Which folder of mmicl_jax imports which: the graph, its circles and chains.

  python tools/folders.py          prints each folder's imports, what runs
                                   upward, and the longest chain; exits with 1
                                   on a fault
  python tools/folders.py --table  prints the folders and what each is for, as
                                   docs/architecture.md has them

ORDER is the table: who stands above may import who stands below. A file at the
top of the package is a node of its own.
"""

import ast
import functools
import sys
from collections.abc import Mapping
from pathlib import Path

import build_deps

# Top to bottom. The package's table of names and its command line load what
# they name on demand: they stand above all.
ORDER = (
  *('__main__', 'commands', 'bench', 'demo', 'parity', 'compile', '__init__'),
  'serve',
  'evaluation',
  *('inference', 't5x', 'convert', 'training', 'data', 'cost', 'checkpoints'),
  *(
    'decoding',
    'presets',
    'models',
    'tokenizer',
    'pieces',
    'configure',
    'context',
  ),
  *('metrics', 'runtime', 'types', 'strict_json', 'cpu', 'errors'),
)
LONGEST = 9  # folders in a chain of imports


def node(path: str) -> str:
  """'mmicl_jax/data/loader.py' -> 'data'; 'mmicl_jax/types.py' -> 'types'."""
  return Path(path).with_suffix('').parts[1]


@functools.cache
def graph() -> Mapping[str, frozenset[str]]:
  """The nodes that each node imports, at any time."""
  found: dict[str, set[str]] = {}
  for path in build_deps.sources():
    if path.startswith(f'{build_deps.PACKAGE}/'):
      imports = found.setdefault(node(path), set())
      imports |= {
        node(other)
        for other in build_deps.local_imports(path)
        if other.startswith(f'{build_deps.PACKAGE}/')
      }
  return {name: frozenset(found[name] - {name}) for name in sorted(found)}


def upward() -> list[str]:
  """Imports against the table, as 'lower -> higher'; so also every circle."""
  rank = {name: i for i, name in enumerate(ORDER)}
  return [
    f'{name} -> {other}'
    for name, imports in graph().items()
    for other in sorted(imports)
    if rank[other] <= rank[name]
  ]


def longest() -> list[str]:
  """The longest chain of folders; needs a graph without circles."""
  folders = {n for n in graph() if (build_deps.ROOT / 'mmicl_jax' / n).is_dir()}

  @functools.cache
  def below(name: str) -> tuple[str, ...]:
    rest = [below(other) for other in graph()[name] & folders]
    return (name, *max(rest, key=len, default=()))

  return list(max(map(below, sorted(folders)), key=len))


def table() -> list[str]:
  """The folders in Markdown, top to bottom, and how their docstrings begin."""
  lines = ['| folder | what it is for |', '| --- | --- |']
  for name in ORDER:
    init = build_deps.ROOT / build_deps.PACKAGE / name / '__init__.py'
    if init.is_file():
      doc = ast.get_docstring(ast.parse(init.read_text(encoding='utf-8'))) or ''
      lines.append(f'| {name}/ | {doc.splitlines()[0]} |')
  return lines


def main() -> int:
  if '--table' in sys.argv:
    print('\n'.join(table()))
    return 0
  for name, imports in graph().items():
    print(f'{name} -> {", ".join(sorted(imports, key=ORDER.index))}')
  faults = upward()
  print(f'upward or in a circle: {", ".join(faults) or "none"}')
  if faults:
    return 1
  chain = longest()
  print(f'longest chain: {len(chain)} folders: {" -> ".join(chain)}')
  return int(len(chain) > LONGEST)


if __name__ == '__main__':
  sys.exit(main())

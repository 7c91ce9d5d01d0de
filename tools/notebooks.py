"""Makes notebooks/*.ipynb, which Colab and Kaggle open, of notebooks/*.md.

python tools/notebooks.py        writes them; needs jupytext (extra `docs`)
"""

import functools
import sys
from pathlib import Path

import jupytext
import nbformat

FOLDER = Path(__file__).resolve().parents[1] / 'notebooks'


def sources() -> list[Path]:
  return sorted(FOLDER.glob('*.md'))


@functools.cache
def notebook(source: Path) -> nbformat.NotebookNode:
  """The notebook of a Markdown file, without outputs; its ids do not change."""
  found = jupytext.reads(source.read_text('utf-8'), fmt='md:myst')
  for number, cell in enumerate(found.cells):
    cell['id'] = f'{source.stem}-{number}'
  found.metadata.pop('jupytext', None)
  return found


def as_json(source: Path) -> str:
  return nbformat.writes(notebook(source)) + '\n'


def main() -> int:
  for source in sources():
    source.with_suffix('.ipynb').write_text(as_json(source), 'utf-8')
  return 0


if __name__ == '__main__':
  sys.exit(main())

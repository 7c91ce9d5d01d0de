"""Writes what the site takes from elsewhere in the repository.

Parts of the reference are made from the code: commands, gin files, HTTP. Pages
at the repository's top, and the notebooks, are copied.
"""

import argparse
import re
import shutil
from pathlib import Path

from mmicl_jax import __main__ as command_line
from mmicl_jax.serve.reference import reference_markdown

ROOT = Path(__file__).parents[2]
TOP = ('CHANGELOG', 'CONTRIBUTING', 'RELEASING', 'SECURITY', 'CODE_OF_CONDUCT')
_GIN = ROOT / 'gin_configs'
_NAME = re.compile(r'^([A-Z][A-Z0-9_]*) = (.*?)(?:  # (.*))?$')


def write(app):
  """Before the pages are read."""
  docs = Path(app.srcdir)
  for name, text in (
    ('reference/generated/commands.md', commands()),
    ('reference/generated/gin.md', gin_files()),
    ('reference/generated/http.md', reference_markdown()),
    *((f'{page.lower()}.md', _from_top(f'{page}.md')) for page in TOP),
  ):
    path = docs / name
    path.parent.mkdir(exist_ok=True)
    # What has not changed keeps its time, and is not built again.
    if not path.exists() or path.read_text('utf-8') != text:
      path.write_text(text, 'utf-8')
  (docs / 'notebooks').mkdir(exist_ok=True)
  for notebook in (ROOT / 'notebooks').glob('*.md'):
    shutil.copy2(notebook, docs / 'notebooks')


def _from_top(name):
  """A page of the repository's top, with links as they are from docs/."""
  text = (ROOT / name).read_text('utf-8')
  text = text.replace('](docs/', '](')
  pages = '|'.join(TOP)
  return re.sub(rf'\]\(({pages})\.md', lambda m: f']({m[1].lower()}.md', text)


def commands():
  """Every command with its arguments, as --help prints them."""
  lines = []
  for name, summary in command_line.COMMANDS.items():
    parser = argparse.ArgumentParser(
      prog=f'mmicl {name}',
      description=f'{summary[0].upper()}{summary[1:]}'.rstrip('.?') + '.',
    )
    command_line._module(name).add_arguments(parser)
    lines += _command(parser, 2)
  return '\n'.join(lines) + '\n'


def _command(parser, depth):
  yield from (f'{"#" * depth} {parser.prog}', '')
  if parser.description:
    yield from (parser.description, '')
  inner = [
    action
    for action in parser._actions
    if isinstance(action, argparse._SubParsersAction)
  ]
  for group in parser._action_groups:
    rows = [
      action
      for action in group._group_actions
      if action not in inner
      and not isinstance(action, argparse._HelpAction)
      and action.help != argparse.SUPPRESS
    ]
    if rows:
      if group.title not in ('options', 'positional arguments'):
        yield from (f'*{group.title}*', '')
      yield from ('| argument | meaning |', '| --- | --- |')
      formatter = parser._get_formatter()
      yield from (_row(formatter, action) for action in rows)
      yield ''
  if parser.epilog:
    yield from ('```text', parser.epilog.strip('\n'), '```', '')
  for action in inner:
    for sub in action.choices.values():
      yield from _command(sub, depth + 1)


def _row(formatter, action):
  spelled = ', '.join(action.option_strings) or str(action.dest)
  if action.option_strings and action.nargs != 0:
    value = action.metavar or action.dest.upper()
    spelled += f' {value if isinstance(value, str) else " ".join(value)}'
  told = formatter._expand_help(action) if action.help else ''
  if action.choices:
    told = f'{told}: ' if told else ''
    told += ', '.join(f'`{choice}`' for choice in action.choices)
  told = ' '.join(told.split()).replace('|', r'\|').replace('<', r'\<')
  return f'| `{spelled}` | {told} |'


def gin_files():
  """Each file with its comment, and the names in capitals that it sets."""
  lines = []
  for folder in sorted(path for path in _GIN.iterdir() if path.is_dir()):
    lines += [f'## {folder.name}/', '']
    for path in sorted(folder.rglob('*.gin')):
      lines += _gin_file(path)
  return '\n'.join(lines) + '\n'


def _gin_file(path):
  source = path.read_text('utf-8').splitlines()
  yield from (f'### {path.relative_to(_GIN)}', '')
  first = next(i for i, x in enumerate([*source, '']) if not x.startswith('#'))
  yield from (_comment(source[:first]), '')
  rows, above = [], []
  for line in source[first:]:
    if found := _NAME.match(line):
      name, value, told = found.groups()
      told = _comment([told] if told else above)
      value = value.replace('|', r'\|')
      rows.append(f'| `{name}` | `{value}` | {told} |')
    above = [*above, line] if line.startswith('#') else []
  if rows:
    yield from ('| name | value | meaning |', '| --- | --- | --- |', *rows, '')


def _comment(lines):
  """The text of a comment; what looks like HTML is none."""
  return ' '.join(line.lstrip('# ') for line in lines).replace('<', r'\<')


def _to_copies(app, name, source):
  """Links to what is copied lead to the copy; on GitHub, to the file itself."""
  pages = '|'.join(TOP)
  text = source[0].replace('](../notebooks/', '](notebooks/')
  source[0] = re.sub(
    rf'\]\(\.\./({pages})\.md', lambda m: f']({m[1].lower()}.md', text
  )


def setup(app):
  app.connect('builder-inited', write)
  app.connect('source-read', _to_copies)
  return {'parallel_read_safe': True}

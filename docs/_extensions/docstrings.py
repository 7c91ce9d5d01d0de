"""Lets autodoc read docstrings that are Markdown-like plain text."""

import re

_CODE = re.compile(r'(?<!`)`([^`\n]+)`(?!`)')


def as_rst(app, what, name, obj, options, lines):
  """`code` becomes ``code``, and stars and bars lose their meaning."""
  for i, line in enumerate(lines):
    parts = _CODE.split(line)
    for j, part in enumerate(parts):
      if j % 2:
        parts[j] = f'``{part}``'
      elif not line.startswith('  '):  # indented lines are code, below
        parts[j] = re.sub(r'([*|\\])', r'\\\1', part)
    lines[i] = ''.join(parts)
  # An indented example is a literal block.
  for i in reversed(range(1, len(lines))):
    if lines[i].startswith('  ') and not lines[i - 1].strip():
      before = next((x for x in reversed(lines[:i]) if x.strip()), '')
      if not before.startswith('  '):
        lines[i:i] = ['::', '']


def setup(app):
  app.connect('autodoc-process-docstring', as_rst)
  return {'parallel_read_safe': True}

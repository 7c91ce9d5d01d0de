"""Runs the code blocks of Markdown pages.

Every block of Python runs; `<!--- skip: next "reason" -->` before one leaves it
out. A plain block that follows it directly is what it prints. A block of sh
runs if `<!-- run -->` stands before it: its `mmicl` commands in this process,
and Python that is given as `python - <<'PYTHON'`.
"""

import contextlib
import io
import re
import shlex
import subprocess

from sybil import Document, Region
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser
from sybil.parsers.markdown.lexers import FencedCodeBlockLexer

from mmicl_jax.__main__ import main

RUN = '<!-- run -->\n'
_HEREDOC = re.compile(
  r"^(?:([^\n]*)&& )?python - <<'PYTHON'\n(.*?)^PYTHON$", re.S | re.M
)
_OUTPUT = re.compile(r'\n\n```\n(.*?)^```$', re.S | re.M)


class _Python(PythonCodeBlockParser):
  """Python whose output is compared with the plain block after it."""

  def evaluate(self, example):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
      super().evaluate(example)
    told = _OUTPUT.match(example.document.text, example.region.end)
    if told and printed.getvalue() != told[1]:
      return f'prints {printed.getvalue()!r}, not {told[1]!r}'
    return None


def _shell(document):
  for region in FencedCodeBlockLexer('sh')(document):
    if document.text[: region.start].endswith(RUN):
      source = region.lexemes['source']
      yield Region(region.start, region.end, source, _run_shell)


def _run_shell(example):
  """Runs one block; what it prints is kept from the test's output."""
  with contextlib.redirect_stdout(io.StringIO()):
    for line in commands(str(example.parsed)):
      if isinstance(line, str):
        exec(compile(line, example.path, 'exec'), {'__name__': '__main__'})
      elif line[0] == 'mmicl':
        assert main(line[1:]) == 0, f'{shlex.join(line)} failed'
      else:
        subprocess.run(line, check=True)


def commands(source):
  """The arguments of each command; Python of a here-document is text."""
  place, found = 0, []
  for heredoc in _HEREDOC.finditer(source):
    before = source[place : heredoc.start()] + (heredoc[1] or '')
    found += [*_lines(before), heredoc[2]]
    place = heredoc.end()
  return [*found, *_lines(source[place:])]


def _lines(source):
  """Splits a script into commands; a quoted text may span lines."""
  begun = ''
  for line in source.replace('\\\n', ' ').splitlines():
    begun += line
    try:
      words = shlex.split(begun, comments=True)
    except ValueError:  # a quotation goes on
      begun += '\n'
      continue
    begun = ''
    if words:
      yield words
  assert not begun, f'no end of {begun!r}'


def parse(path):
  """The document; its examples are what runs."""
  return Document.parse(str(path), _Python(), SkipParser(), _shell)

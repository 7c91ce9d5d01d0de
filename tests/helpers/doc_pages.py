"""The Markdown pages of docs/, without those that a build of the site makes."""

import re

import build_deps

DOCS = build_deps.ROOT / 'docs'
_MADE = re.compile(
  r'notebooks/|reference/generated/|changelog|contributing|releasing|security|code_of_conduct'
)


def pages():
  """Paths of the pages, sorted."""
  found = sorted(DOCS.rglob('*.md'))
  return [p for p in found if not _MADE.match(str(p.relative_to(DOCS)))]

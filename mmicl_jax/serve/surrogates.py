"""Halves of surrogate pairs: JSON can hold them, UTF-8 cannot."""

import re

_SURROGATES = re.compile('[\ud800-\udfff]')


def clean(text: str) -> str:
  """The text with U+FFFD in the place of each half of a surrogate pair."""
  return _SURROGATES.sub('\ufffd', text)

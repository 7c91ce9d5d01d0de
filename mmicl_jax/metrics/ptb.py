"""Captions to tokens as pycocoevalcap has Stanford's Java tokenizer do it.

That is PTBTokenizer 3.4.1 with -preserveLines -lowerCase; tokens that are
punctuation are removed afterwards. The result is the same token for token.
ptb_rules.py has the rules, longest.py finds which one matches.
"""

import functools
import re

from mmicl_jax.metrics.longest import Scanner
from mmicl_jax.metrics.ptb_letters import is_digit, is_letter, is_letter_or_mark
from mmicl_jax.metrics.ptb_rules import RULES

# Brackets come out in lower case, so that those which pycocoevalcap lists in
# capitals stay.
_REMOVED = frozenset(
  ["''", "'", '``', '`', '.', '?', '!', ',', ':', '-', '--', '...', ';', '']
)
_BRACKETS = {
  '(': '-lrb-',
  ')': '-rrb-',
  '[': '-lsb-',
  ']': '-rsb-',
  '{': '-lcb-',
  '}': '-rcb-',
}
_SPELLED = {
  **{'¼': '1/4', '½': '1/2', '¾': '3/4', '⅓': '1/3', '⅔': '2/3'},
  **{'¢': 'cents', '£': '#', '\x80': '$', '¤': '$', '₠': '$', '€': '$'},
}
_LATEX = {
  **dict.fromkeys('\x91‘‛‹', '`'),
  **dict.fromkeys('\x92’›', "'"),
  **dict.fromkeys('\x93“«', '``'),
  **dict.fromkeys('\x94”»', "''"),
}

# By the name of a rule: what becomes of its match.
_RESULTS = {
  'keep': lambda match: match,
  'drop': lambda match: '',
  'soft': lambda match: match.replace('\xad', '') or '-',
  'and': lambda match: re.sub('&amp;', '&', match, flags=re.IGNORECASE),
  'quote': lambda match: _replaced(re.sub('&apos;', "'", match), _LATEX),
  'spell': lambda match: _SPELLED.get(match, match),
  'letter': lambda match: match[0],
  'round': lambda match: match.replace('(', '-lrb-').replace(')', '-rrb-'),
  'angle': lambda match: {'&lt;': '<', '&gt;': '>'}.get(match.lower(), match),
  'bracket': lambda match: _BRACKETS[match],
  'dashes': lambda match: '--' if len(match) in (3, 4) else match,
}
# The only words of letters that are cut.
_CUT = {
  **{'cannot': ('can', 'not'), 'gonna': ('gon', 'na'), 'gotta': ('got', 'ta')},
  **{'lemme': ('lem', 'me'), 'gimme': ('gim', 'me'), 'wanna': ('wan', 'na')},
}
# Nearly every caption: words of letters, commas, one period at the end.
_PLAIN = re.compile(r'(?:[A-Za-z]+,? )*[A-Za-z]+ ?\.? *')


def tokenize(caption: str) -> list[str]:
  """The tokens of one caption; phone numbers have no-break spaces inside."""
  line = ' '.join(_tokens(caption)).rstrip()
  return [token for token in line.split(' ') if token not in _REMOVED]


def _tokens(caption: str) -> list[str]:
  """As the Java program prints them, before punctuation is removed."""
  if not _PLAIN.fullmatch(caption):
    return _scanned(caption)
  words = caption.replace(',', ' ').split()
  # The last word may be an abbreviation, which keeps its period.
  *words, last = words if words[-1] != '.' else words[:-1]
  tokens = []
  for word in words:
    tokens += _CUT.get(word.lower(), (word.lower(),))
  return [*tokens, *_scanned_word(last)]


@functools.lru_cache(maxsize=65536)
def _scanned_word(word: str) -> list[str]:
  return _scanned(word)


def _scanned(caption: str) -> list[str]:
  # Another caption follows in the official call, and pycocoevalcap turns line
  # feeds in captions into blanks. Java's characters have 16 bits.
  text = _halves(caption.replace('\n', ' ') + '\n')
  tokens = [_RESULTS[name](match) for name, match in _scanner().scan(text)]
  return [
    _whole(token.replace(' ', '\xa0')).lower() for token in tokens if token
  ]


def _halves(text: str) -> str:
  """Characters beyond U+FFFF as two halves each."""
  if text.isascii() or max(text) <= '\uffff':
    return text
  data = text.encode('utf-16-le', 'surrogatepass')
  return ''.join(
    chr(int.from_bytes(data[i : i + 2], 'little'))
    for i in range(0, len(data), 2)
  )


def _whole(text: str) -> str:
  """The inverse of _halves."""
  if text.isascii():
    return text
  data = text.encode('utf-16-le', 'surrogatepass')
  return data.decode('utf-16-le', 'surrogatepass')


@functools.cache
def _scanner() -> Scanner:
  return Scanner(RULES, {'L': is_letter, 'M': is_letter_or_mark, 'N': is_digit})


def _replaced(text: str, table: dict[str, str]) -> str:
  return ''.join(table.get(char, char) for char in text)

"""What the Penn Treebank tokenizer takes for letters, marks and digits.

Its tables are those of Unicode 6.3 and of 16-bit characters: what is newer, or
beyond U+FFFF, is no letter and no digit.
"""

import re
import unicodedata

_NEWER = re.compile(
  '['
  '\u037f\u0528-\u052f\u0560\u0588\u05ef\u0860-\u086a\u0870-\u0887'
  '\u0889-\u088e\u08a1\u08ad-\u08c9\u0978\u0980\u09fc\u0af9\u0c34\u0c5a\u0c5d'
  '\u0c80\u0cdd\u0d04\u0d54-\u0d56\u0d5f\u0de6-\u0def\u0e86\u0e89\u0e8c'
  '\u0e8e-\u0e93\u0e98\u0ea0\u0ea8-\u0ea9\u0eac\u13f5\u13f8-\u13fd'
  '\u16f1-\u16f8\u170d\u171f\u1878\u191d-\u191e\u19b0-\u19c0\u19c8-\u19c9'
  '\u1b4c\u1c80-\u1c88\u1c90-\u1cba\u1cbd-\u1cbf\u1cf2-\u1cf3\u1cfa\u2c2f'
  '\u2c5f\u312e-\u312f\u31bb-\u31bf\u4db6-\u4dbf\u9fcd-\u9fff\ua698-\ua69d'
  '\ua78f\ua794-\ua79f\ua7ab-\ua7ca\ua7d0-\ua7d1\ua7d3\ua7d5-\ua7d9'
  '\ua7f2-\ua7f7\ua8fd-\ua8fe\ua9e0-\ua9e4\ua9e6-\ua9fe\uaa7e-\uaa7f'
  '\uab30-\uab5a\uab5c-\uab69\uab70-\uabbf'
  ']'
)
# Accents and vowel signs that may stand in a word, and the soft hyphen.
_MARKS = re.compile(
  '['
  '\u00ad\u02c2-\u0379\u0384-\u0385\u03f6\u0483-\u0487\u055a-\u055f'
  '\u0591-\u05bd\u05bf\u05c1-\u05c2\u05c4-\u05c5\u05c7\u0615-\u061a'
  '\u064b-\u065e\u0670\u06d6-\u06ed\u06fd-\u06fe\u070f-\u07b0\u07eb-\u07f3'
  '\u0900-\u0903\u093c-\u094e\u0951-\u0955\u0962-\u0963\u0981-\u0983'
  '\u09bc-\u09c4\u09c7-\u09c8\u09cb-\u09cd\u09d7\u09e2-\u09e3\u0a01-\u0a03'
  '\u0a3c\u0a3e-\u0a4f\u0a81-\u0a83\u0abc-\u0acf\u0b82\u0bbe-\u0bc2'
  '\u0bc6-\u0bc8\u0bca-\u0bcd\u0c01-\u0c03\u0c3e-\u0c56\u0d3e-\u0d44'
  '\u0d46-\u0d48\u0e31-\u0e3a\u0e47-\u0e4e\u0eb1-\u0ebc\u0ec8-\u0ecd'
  ']'
)
# Two signs that were letters then.
_FORMER = '\u1885\u1886'


def is_letter(char: str) -> bool:
  return char in _FORMER or (char.isalpha() and _is_known(char))


def is_letter_or_mark(char: str) -> bool:
  return is_letter(char) or _MARKS.match(char) is not None


def is_digit(char: str) -> bool:
  return unicodedata.category(char) == 'Nd' and _is_known(char)


def _is_known(char: str) -> bool:
  return char <= '\uffff' and not _NEWER.match(char)

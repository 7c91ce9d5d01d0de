"""Normalises text by a SentencePiece model's character map, as Hugging Face.

SentencePiece itself maps the longest match of characters. Hugging Face's fast
tokenizer maps grapheme clusters, and so does this file.
"""

import unicodedata
from collections.abc import Iterator

import sentencepiece

# Unicode's White_Space; str.rstrip would also strip U+001C to U+001F.
_WHITE_SPACE = (
  '\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007'
  '\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000'
)
# As a rule a mark (category M) extends the character before it. UAX 29 has
# these exceptions: characters that extend but are no marks, marks that do not
# extend, and characters that join with the one after them.
_EXTENDERS = frozenset(
  '\u200c\u200d\uff9e\uff9f\u0e33\u0eb3'
  # The skin tones of emoji, and tag characters.
  + ''.join(map(chr, (*range(0x1F3FB, 0x1F400), *range(0xE0020, 0xE0080))))
)
_SEPARATE = frozenset(
  '\u102b\u102c\u1038\u1062\u1063\u1064\u1067\u1068\u1069\u106a\u106b\u106c'
  '\u106d\u1083\u1087\u1088\u1089\u108a\u108b\u108c\u108f\u109a\u109b\u109c'
  '\u1a61\u1a63\u1a64\uaa7b\uaa7d\U00011720\U00011721'
)
_PREPENDED = frozenset(
  '\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\u0d4e'
  '\U000110bd\U000110cd\U000111c2\U000111c3\U0001193f\U00011941\U00011a84'
  '\U00011a85\U00011a86\U00011a87\U00011a88\U00011a89\U00011d46'
)


class Normaliser:
  """Maps characters by a serialised SentencePiece model, then strips the end.

  A cluster of several characters in less than 6 bytes becomes what the map has
  for its shortest known prefix. All other text is mapped character by
  character.
  """

  def __init__(self, proto: bytes):
    normalizer = sentencepiece.SentencePieceNormalizer(
      model_proto=proto,
      add_dummy_prefix=False,
      remove_extra_whitespaces=False,
      escape_whitespaces=False,
    )
    self._normalize = normalizer.normalize
    self._characters = _Characters(normalizer)

  def __call__(self, text: str) -> str:
    if text.isascii() or not any(map(_extends, text)):
      text = text.translate(self._characters)
    else:
      text = ''.join(map(self._map_cluster, _clusters(text)))
    return text.rstrip(_WHITE_SPACE)

  def _map_cluster(self, cluster: str) -> str:
    if 1 < len(cluster) and len(cluster.encode()) < 6:
      first, normalize = cluster[0], self._normalize
      if (whole := first.translate(self._characters)) != first:
        return whole
      for end in range(2, len(cluster) + 1):
        whole = normalize(cluster[:end])
        if whole != first + normalize(cluster[1:end]):
          return whole
    return cluster.translate(self._characters)


class _Characters(dict):
  """{ordinal: normalised character} for str.translate, filled on demand."""

  def __init__(self, normalizer: sentencepiece.SentencePieceNormalizer):
    self._normalizer = normalizer

  def __missing__(self, ordinal: int) -> str:
    self[ordinal] = self._normalizer.normalize(chr(ordinal))
    return self[ordinal]


def _extends(character: str) -> bool:
  """Whether the character belongs to the cluster before it."""
  if unicodedata.category(character)[0] == 'M':
    return character not in _SEPARATE
  return character in _EXTENDERS


def _clusters(text: str) -> Iterator[str]:
  """Yields grapheme clusters (UAX 29); exact for those below 6 bytes."""
  start = 0
  for i in range(1, len(text)):
    before = text[i - 1]
    if before in _PREPENDED:
      continue
    if not _extends(text[i]) or (
      unicodedata.category(before) in ('Cc', 'Cf', 'Zl', 'Zp')
      and before not in _EXTENDERS
    ):
      yield text[start:i]
      start = i
  yield text[start:]

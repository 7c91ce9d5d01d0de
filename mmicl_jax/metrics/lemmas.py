"""Sentences to base forms as pywsd 1.2.4 makes them, with the package nltk.

A word becomes its base form for its part of speech, if WordNet has that; or
else its stem, if WordNet has that; or else it stays.
"""

import functools
import re
from collections.abc import Callable, Mapping

from mmicl_jax.errors import UserError
from mmicl_jax.metrics.wordnet import WordNet

# pywsd's form of the Treebank tokenizer: what to find, and what to put there.
_STEPS = tuple(
  (re.compile(pattern), text)
  for pattern, text in (
    ('([«“‘„]|`+)', r' \1 '),
    ('^"', '``'),
    ('(``)', r' \1 '),
    (r"""([ (\[{<])("|'{2})""", r'\1 `` '),
    (r"""([^.])(\.)([\])}>"'»”’ ]*+)\s*$""", r'\1 \2 \3 '),
    (r'([:,])([^\d])', r' \1 \2'),
    ('([:,])$', r' \1 '),
    (r'\.\.\.', ' ... '),
    ('[;@#$%&]', r' \g<0> '),
    (r"""([^.])(\.)([\])}>"']*)\s*$""", r'\1 \2\3 '),
    ('[?!]', r' \g<0> '),
    ("([^'])' ", r"\1 ' "),
    (r'[\]\[(){}<>]', r' \g<0> '),
    ('--', ' -- '),
  )
)
_ENDS = tuple(  # after a blank is set at both ends
  (re.compile(pattern), text)
  for pattern, text in (
    ('([»”’]+)', r' \1 '),
    ('"', " '' "),
    (r"(\S)('')", r'\1 \2 '),
    ("([^' ])('[sS]|'[mM]|'[dD]|') ", r'\1 \2 '),
    ("([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) ", r'\1 \2 '),
    (r'(?i)\b(can)(not)\b', r' \1 \2 '),
    (r"(?i)\b(d)('ye)\b", r' \1 \2 '),
    (r'(?i)\b(gim)(me)\b', r' \1 \2 '),
    (r'(?i)\b(gon)(na)\b', r' \1 \2 '),
    (r'(?i)\b(got)(ta)\b', r' \1 \2 '),
    (r'(?i)\b(lem)(me)\b', r' \1 \2 '),
    (r"(?i)\b(mor)('n)\b", r' \1 \2 '),
    (r'(?i)\b(wan)(na)\s', r' \1 \2 '),
    (r"(?i) ('t)(is)\b", r' \1 \2 '),
    (r"(?i) ('t)(was)\b", r' \1 \2 '),
  )
)
# Without one, Punkt finds a single sentence.
_END_INSIDE = re.compile(r'[.?!][^\s.?!]*\s')
_MORPHY = {'NN': 'n', 'JJ': 'a', 'VB': 'v', 'RB': 'r'}

Tagger = Callable[[list[str]], list[str]]


class Lemmatizer:
  """tags: a token in lower case to its Penn tag; None: nltk's own tagger.

  Raises UserError if nltk, or the data of its tagger, is not installed.
  """

  def __init__(self, words: WordNet, tags: Mapping[str, str] | None):
    self._words = words
    self._stem = functools.cache(_nltk().PorterStemmer().stem)
    self._tag: Tagger = _tagger if tags is None else _table(tags)
    self.lemmas = functools.cache(self._lemmas)

  def _lemmas(self, sentence: str) -> tuple[str, ...]:
    """The base forms of a sentence's tokens, in lower case."""
    tokens = tree_tokens(sentence)
    return tuple(
      self._lemma(token.lower(), tag)
      for token, tag in zip(tokens, self._tag(tokens), strict=True)
    )

  def _lemma(self, word: str, tag: str) -> str:
    pos = _MORPHY.get(tag[:2])
    if pos is None:  # such as a preposition: the tag of the word alone
      pos = _MORPHY.get(self._tag([word])[0][:2], 'n')
    lemma = min(self._words.base_forms(word, pos), key=len, default=word)
    for form in (lemma, self._stem(word)):
      if self._words.first_sense(form):
        return form
    return word


def tree_tokens(text: str) -> list[str]:
  """Tokens by pywsd's rules, sentence by sentence."""
  return [
    token for sentence in sentences(text) for token in _tree_tokens(sentence)
  ]


def word_tokens(text: str) -> list[str]:
  """Tokens by nltk's own rules, which differ a little."""
  tokenizer = _nltk().NLTKWordTokenizer()
  return [
    token
    for sentence in sentences(text)
    for token in tokenizer.tokenize(sentence)
  ]


def sentences(text: str) -> list[str]:
  """As nltk's English Punkt splits them; one, where its data is missing."""
  if not _END_INSIDE.search(text) or not _has_punkt():
    return [text]
  return _nltk().sent_tokenize(text)


def unsplit(text: str) -> bool:
  """Whether a text may be of several sentences that cannot be split."""
  return _END_INSIDE.search(text) is not None and not _has_punkt()


@functools.cache
def _has_punkt() -> bool:
  try:
    _nltk().sent_tokenize('A. B.')
  except LookupError:
    return False
  return True


def _tree_tokens(sentence: str) -> list[str]:
  for pattern, text in _STEPS:
    sentence = pattern.sub(text, sentence)
  sentence = f' {sentence} '
  for pattern, text in _ENDS:
    sentence = pattern.sub(text, sentence)
  return sentence.split()


def _table(tags: Mapping[str, str]) -> Tagger:
  return lambda tokens: [tags.get(token.lower(), 'NN') for token in tokens]


def _tagger(tokens: list[str]) -> list[str]:
  try:
    return [tag for _, tag in _nltk().pos_tag(tokens)]
  except LookupError as error:
    raise UserError(
      "NExT-QA's open answers need nltk's English tagger: python -m "
      'nltk.downloader averaged_perceptron_tagger_eng, or put pos_tags.json '
      'into the folder'
    ) from error


def _nltk():
  """nltk's names; the module nltk itself loads all of nltk."""
  try:
    import nltk
    import nltk.stem
    import nltk.tokenize
  except ImportError as error:
    raise UserError(
      'WordNet is read with nltk, which is not installed: pip install '
      "'mmicl_jax[wordnet]'"
    ) from error
  return nltk

"""How VQA's scorers normalise an answer: punctuation, digits, articles.

The steps are those of the official vqaEval.py, oddities included; EvalAI's
processor and VLMEvalKit's differ in a pattern or a step.
"""

import functools
import re
from collections.abc import Mapping

from mmicl_jax.metrics.contractions import CONTRACTIONS

_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_COMMA = re.compile(r'\d,\d')
_COMMAS = re.compile(r'\d,+\d')  # EvalAI's
# Meant as a look-behind, this pattern is a look-ahead that is always true: a
# period behind a digit is deleted too ('10.' becomes '10').
_PERIOD = re.compile(r'\.(?!\d)')
_TRUE_PERIOD = re.compile(r'(?<!\d)\.(?!\d)')  # VLMEvalKit's
_DELETED = 32  # re.UNICODE, given by mistake as the number of replacements
_NUMBERS = {
  word: str(number)
  for number, word in enumerate(
    'zero one two three four five six seven eight nine ten'.split()
  )
} | {'none': '0'}
_ARTICLES = ('a', 'an', 'the')


def _punctuation(
  text: str,
  comma: re.Pattern[str] = _COMMA,
  period: re.Pattern[str] = _PERIOD,
) -> str:
  """Marks become blanks, or nothing if one of their kind is beside a blank.

  All are deleted if there is a comma between digits.
  """
  result = text
  all_deleted = ',' in text and comma.search(text) is not None
  for mark in _MARKS:
    if mark in text:
      beside = f'{mark} ' in text or f' {mark}' in text
      result = result.replace(mark, '' if beside or all_deleted else ' ')
  return period.sub('', result, count=_DELETED) if '.' in result else result


def words_and_digits(
  text: str, contractions: Mapping[str, str] = CONTRACTIONS
) -> str:
  """Lower case, 'two' to '2', no articles, apostrophes put in."""
  words = (_NUMBERS.get(word, word) for word in text.lower().split())
  return ' '.join(
    contractions.get(word, word) for word in words if word not in _ARTICLES
  )


def one_line(text: str) -> str:
  """Newlines and tabs become blanks; the ends are stripped."""
  return text.replace('\n', ' ').replace('\t', ' ').strip()


def official_punctuation(text: str) -> str:
  return _punctuation(text)


def vlmevalkit_punctuation(text: str) -> str:
  return _punctuation(text, period=_TRUE_PERIOD)


@functools.lru_cache(1 << 16)
def official_normal(text: str) -> str:
  """The official form of an answer that went through one_line."""
  return words_and_digits(_punctuation(text))


@functools.lru_cache(1 << 16)
def vlmevalkit_normal(text: str) -> str:
  return words_and_digits(vlmevalkit_punctuation(one_line(text)))


@functools.lru_cache(1 << 16)
def lmms_eval_normal(text: str) -> str:
  """lmms-eval's form for VQAv2: EvalAI's without its first step."""
  return words_and_digits(_punctuation(one_line(text), _COMMAS))


@functools.lru_cache(1 << 16)
def evalai_normal(text: str) -> str:
  """EvalAI's form, as mmf and lmms-eval have it."""
  text = text.lower().replace(',', '').replace('?', '').replace("'s", " 's")
  return words_and_digits(_punctuation(one_line(text.strip()), _COMMAS))

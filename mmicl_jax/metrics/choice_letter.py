"""Finds which of the lettered options an answer chooses, as harnesses do.

In: the answer, and {letter: text} of the options. Out: a letter, or None.
VLMEvalKit is the official program of MMBench; these are its rules without a
judge (`exact_matching`), and lmms-eval's `static` ones.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

_NO_ANSWER = 'Failed to obtain answer via API'
_REFUSALS = (
  "Sorry, I can't help with images of people yet.",
  "I can't process this file.",
  "I'm sorry, but without the image provided",
  'Cannot determine the answer',
)
# No word boundary: 'answer is bc' is B.
_SENTENCE = re.compile(r'(?i)(?:correct\s+)?answer\s+is\s+\**([ABCD])\**')
_BLANKS = str.maketrans(dict.fromkeys('.()[],:;!*#{}', ' '))


def vlmevalkit_letter(answer: str, options: Mapping[str, str]) -> str | None:
  """The letter by VLMEvalKit; 'Z' for a refusal, which is an answer there."""
  if _NO_ANSWER not in answer:
    letter = _lone_letter(answer, options)
    if letter is not None:
      return letter
  text = answer.lower()
  if len(text) > 2 * sum(map(len, options.values())):
    return None
  return _only_text(text, options)


def _lone_letter(answer: str, options: Mapping[str, str]) -> str | None:
  """A letter that stands alone, among the last four words."""
  if any(refusal in answer for refusal in _REFUSALS):
    return 'Z'
  words = answer.translate(_BLANKS).split()
  found = [letter for letter in options if letter in words]
  if len(found) == 1 and words.index(found[0]) > len(words) - 5:
    return found[0]
  if not found and 'Z' in words:
    return 'Z'
  match = _SENTENCE.search(answer)
  letter = match.group(1).upper() if match else None
  return letter if letter in options else None


def _only_text(answer: str, options: Mapping[str, str]) -> str | None:
  """The option whose text alone is contained in the lower-case answer."""
  found = [key for key, text in options.items() if text.lower() in answer]
  return found[0] if len(found) == 1 else None


# What may stand around a letter that is a word of its own.
_AFFIXES = (
  *(('', '.'), ('', ','), ('', ':'), ('', ')'), ('', ').')),
  *(('(', ')'), ('(', ').')),
  *((':', ''), (':', ','), (':', '.'), (':', ')'), (':', ').')),
)


def lmms_eval_letter(answer: str, options: Mapping[str, str]) -> str | None:
  """The letter by lmms-eval: a lone one, the option's text, or any at all."""
  answer = answer.strip()
  return (
    _affixed_letter(answer)
    or _only_text(answer.lower(), options)
    or _likeliest_letter(answer, sorted(options))
  )


def _affixed_letter(answer: str) -> str | None:
  """A letter from A to E, even where there are fewer options."""
  if _NO_ANSWER in answer:
    return None
  words = answer.split()
  found = _with_affix(words, '', '')
  # With more than three words "A" may be an article: no letter counts then.
  if len(found) == 1 and not ('A' in words and len(words) > 3):
    return found[0]
  for before, after in _AFFIXES:
    found = _with_affix(words, before, after)
    if len(found) == 1:
      return found[0]
  return None


def _with_affix(words: Sequence[str], before: str, after: str) -> list[str]:
  return [letter for letter in 'ABCDE' if before + letter + after in words]


_PHRASES = (
  'the answer is',
  'answer is',
  'the correct answer is',
  'correct answer is',
  'the best answer is',
  'best answer is',
  'the correct option is',
  'correct option is',
  'the best option is',
  'best option is',
  'the choice is',
  'choice is',
  'the correct choice is',
  'correct choice is',
  'i choose',
  'i select',
  'i pick',
  'my answer is',
  'my choice is',
  '옵션',
  '정답은',
  '답은',
  '답:',
  '答案是',
  '答案为',
  '选',
  '答えは',
)
# What follows or surrounds a letter, and how sure that makes lmms-eval.
_FORMS = (('(', ')', 6), ('', '.', 5), ('', ':', 4), ('', ')', 3), ('', ' ', 2))
_AT_START, _AT_END, _IN_PHRASE, _ANYWHERE = 10, 9, 7, 0


def _likeliest_letter(answer: str, letters: Sequence[str]) -> str | None:
  """The letter in the surest form; of equal ones that which comes last."""
  text = answer.strip()
  for mark in ',.!?;:\'"':
    text = text.strip(mark)
  text = f' {text} '
  found = list(_formed(text, letters))
  if not found:
    found = [(_ANYWHERE, text.rfind(x), x) for x in letters if x in text]
  if not found:
    return None
  return max(found, key=lambda candidate: candidate[:2])[2]


def _formed(
  text: str, letters: Sequence[str]
) -> Iterable[tuple[int, int, str]]:
  """(sureness, place, letter) of each letter in each of the forms."""
  for before, after, sure in _FORMS:
    for letter in letters:
      if before + letter + after in text:
        yield sure, text.rfind(before + letter + after), letter
  low = text.lower()
  for phrase in _PHRASES:
    at = low.find(phrase)
    if at >= 0:
      for letter in letters:
        place = text.find(letter, at + len(phrase))
        if place >= 0:
          yield _IN_PHRASE, place, letter
  bare = text.strip()
  for letter in letters:
    if bare.startswith(letter) and not bare[1:2].isalpha():
      yield _AT_START, 0, letter
    if bare.endswith(letter) and not bare[-2:-1].isalpha():
      yield _AT_END, len(text) - 1, letter

"""ROUGE-L, the longest common subsequence, as pycocoevalcap has it."""

from collections.abc import Sequence

_BETA = 1.2  # how much more recall weighs than precision


def rouge_l(prediction: str, references: Sequence[str]) -> float:
  """Of tokens joined with blanks, and split at blanks only.

  A phone number, which has no-break spaces inside, is one word here and several
  in CIDEr and BLEU; an empty text is one empty word.
  """
  words = prediction.split(' ')
  places: dict[str, int] = {}
  for i, word in enumerate(words):
    places[word] = places.get(word, 0) | 1 << i
  precision = recall = 0.0
  for reference in references:
    others = reference.split(' ')
    common = _common(places, len(words), others)
    precision = max(precision, common / len(words))
    recall = max(recall, common / len(others))
  if not precision or not recall:
    return 0.0
  weight = _BETA**2
  return (1 + weight) * precision * recall / (recall + weight * precision)


def _common(places: dict[str, int], length: int, others: Sequence[str]) -> int:
  """The length of the longest common subsequence; a bit stands for a word.

  Hyyrö, Bit-parallel LCS-length computation revisited, 2004.
  """
  bits = ones = (1 << length) - 1
  for word in others:
    equal = bits & places.get(word, 0)
    bits = (bits + equal | bits - equal) & ones
  return length - bits.bit_count()

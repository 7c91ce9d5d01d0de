"""Finds yes or no in an answer, as VLMEvalKit does."""

from mmicl_jax.metrics.vqa_text import vlmevalkit_punctuation


def either_word(output: str) -> str:
  """'Yes' or 'No' if exactly one of the words is there, or else 'Unknown'."""
  words = vlmevalkit_punctuation(output.lower()).split()
  yes, no = 'yes' in words, 'no' in words
  if yes != no:
    return 'Yes' if yes else 'No'
  return 'Unknown'

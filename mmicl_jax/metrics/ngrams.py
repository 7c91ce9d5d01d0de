"""Counts the word n-grams of captions, all at once, for CIDEr and BLEU."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

LONGEST_NGRAM = 4

Words = Sequence[str]


@dataclass(frozen=True)
class Ngrams:
  """How often each text has each n-gram of one length n.

  A text is the prediction for an image or one of its references; predictions
  come first, so that theirs have the images' own numbers. For each pair of a
  text and an n-gram in it, sorted by both: text, gram: their numbers. count.
  prediction: for a reference's row, the row in which the prediction for the
  same image has the same n-gram; -1 if it lacks it, and in predictions' rows.
  """

  text: np.ndarray  # int64 [R]
  gram: np.ndarray  # int64 [R]
  count: np.ndarray  # int64 [R]
  prediction: np.ndarray  # int64 [R]
  images_with: np.ndarray  # int64 [G]: images with a reference that has it


@dataclass(frozen=True)
class Captions:
  """Predictions for images and their references, counted."""

  image: np.ndarray  # int64 [T]: each text's image
  length: np.ndarray  # int64 [T]: in words
  num_images: int
  ngrams: tuple[Ngrams, ...]  # of one word, of two, ...


def count_captions(
  predictions: Sequence[Words], references: Sequence[Sequence[Words]]
) -> Captions:
  """Counts the words of a prediction and of at least one reference an image."""
  texts = [*predictions, *chain.from_iterable(references)]
  images = np.arange(len(predictions))
  image = np.concatenate(
    [images, np.repeat(images, list(map(len, references)))]
  )
  length = np.array(list(map(len, texts)))
  numbers: dict[str, int] = {}
  words = np.array(
    [numbers.setdefault(w, len(numbers)) for text in texts for w in text],
    np.int64,
  )
  text = np.repeat(np.arange(len(texts)), length)
  grams, ngrams = words, []
  for n in range(1, LONGEST_NGRAM + 1):
    if n > 1:
      whole = text[: max(len(text) - n + 1, 0)] == text[n - 1 :]
      # An n-gram is the one before it, and one more word.
      longer = grams[: len(whole)] * len(numbers) + words[n - 1 :]
      grams = np.full(len(whole), -1)
      grams[whole] = np.unique(longer[whole], return_inverse=True)[1]
    inside = grams >= 0
    ngrams.append(
      _count(text[: len(grams)][inside], grams[inside], image, len(predictions))
    )
  return Captions(image, length, len(predictions), tuple(ngrams))


def _count(
  text: np.ndarray, gram: np.ndarray, image: np.ndarray, num_images: int
) -> Ngrams:
  num_grams = int(gram.max(initial=-1)) + 1
  keys, count = np.unique(text * num_grams + gram, return_counts=True)
  text, gram = np.divmod(keys, max(num_grams, 1))
  first = int(np.searchsorted(text, num_images))  # of the references' rows
  own = image[text] * num_grams + gram
  place = np.searchsorted(own[:first], own)
  found = np.append(own[:first], -1)[place] == own
  found[:first] = False
  images_with = np.unique(own[first:]) % max(num_grams, 1)
  return Ngrams(
    text,
    gram,
    count,
    np.where(found, place, -1),
    np.bincount(images_with, minlength=num_grams),
  )

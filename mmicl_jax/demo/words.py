"""Invented label words, and the small vocabulary that the demo trains.

A label word is two syllables of a consonant and a vowel ('doka'). A tenth of
all words, chosen by hash, is held out: training never meets it.
"""

import functools
import io
import re
import string
import zlib
from collections.abc import Iterable

import numpy as np
import sentencepiece

SYLLABLES = tuple(c + v for c in 'bdfgjklmnprstvz' for v in 'aeiou')
DIGITS = (
  'zero', 'one', 'two', 'three', 'four',
  'five', 'six', 'seven', 'eight', 'nine',
)  # fmt: skip
# Words that the other tasks use, and a few nobody wants to read on a page.
NOT_LABELS = frozenset(
  (*DIGITS, 'same', 'dago', 'kike', 'nazi', 'paki', 'pedo', 'puta', 'puto',
   'rape')
)  # fmt: skip


def held_out(word: str) -> bool:
  """True for the tenth of all words that training never meets."""
  return zlib.crc32(word.encode()) % 10 == 0


@functools.cache
def label_words(split: str) -> tuple[str, ...]:
  """All label words of a split: 'train' or 'heldout'."""
  words = (a + b for a in SYLLABLES for b in SYLLABLES if a != b)
  return tuple(
    w for w in words
    if w not in NOT_LABELS and held_out(w) == (split == 'heldout')
  )  # fmt: skip


def syllables(word: str) -> set[str]:
  """'doka' -> {'do', 'ka'}."""
  return {word[:2], word[2:]}


def draw_words(
  split: str, rng: np.random.Generator, n: int = 2
) -> tuple[str, ...]:
  """n label words of which no two share a syllable."""
  words = label_words(split)
  drawn: list[str] = []
  used: set[str] = set()
  while len(drawn) < n:
    word = words[int(rng.integers(len(words)))]
    if used.isdisjoint(syllables(word)):
      used |= syllables(word)
      drawn.append(word)
  return tuple(drawn)


def train_vocabulary(texts: Iterable[str], label_set: Iterable[str]) -> bytes:
  """Trains a SentencePiece model in which words and syllables are one piece.

  `texts` are prompts and answers (图 and <imageK> are left out: the tokenizer
  adds them); `label_set` are the label words in them, which become syllables
  instead of pieces of their own. Anything else is spelt by character. Returns
  the serialised model: pad 0, end 1, unknown 2, as T5 has it.
  """
  lines = [re.sub(r'<image\d+>|图', ' ', text) for text in texts]
  words = set(re.findall(r'[A-Za-z]+', ' '.join(lines))) - set(label_set)
  pieces = (
    *(f'▁{word}' for word in sorted(words)),
    *(f'▁{i}' for i in range(10)),
    *(f'▁{syllable}' for syllable in SYLLABLES if syllable not in words),
    *SYLLABLES,
  )
  letters = string.ascii_letters + string.digits + string.punctuation
  # Characters alone can be trained from these lines whatever they hold.
  lines.append(' '.join(letters))
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(lines),
    model_writer=model,
    model_type='char',
    vocab_size=3 + len(pieces) + len(letters) + 1,
    hard_vocab_limit=False,
    character_coverage=1.0,
    required_chars=letters,
    user_defined_symbols=list(pieces),
    pad_id=0,
    eos_id=1,
    unk_id=2,
    bos_id=-1,
    minloglevel=2,
  )
  return model.getvalue()

"""Turns text into ids and back: T5's SentencePiece with MIC's image tokens.

The ids are those of Hugging Face's fast tokenizer, which cuts text at the added
tokens and begins a new word after each, so that `图.` ends in `▁` `.`.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any, SupportsIndex

import numpy as np
import sentencepiece
from jaxtyping import Int

from mmicl_jax.context.turns import IMAGE, PROXIES
from mmicl_jax.errors import UserError, check_type
from mmicl_jax.pieces.normaliser import Normaliser
from mmicl_jax.runtime.files import write_bytes
from mmicl_jax.runtime.mirror import local_file

NUM_EXTRA_IDS = 100

# [0-9] and not \d, which also matches other scripts' digits.
_T5_SPECIAL = re.compile(r'(</s>|<pad>|<unk>|<extra_id_(?:[1-9][0-9]|[0-9])>)')
# Several 图 in a row, the tokens of one image, are one match.
_ADDED = re.compile(
  f'({IMAGE}{IMAGE}*|<image1?[0-9]>|{_T5_SPECIAL.pattern[1:]}'
)
_SURROGATES = re.compile('[\ud800-\udfff]')
_SPACES = re.compile(' {2,}')
# Appended to a ModelProto, this turns its normalizer off: protobuf merges a
# message field that occurs twice, and the last scalar wins. Field 3 is the
# normalizer; in it, 2 empties the character map, 3 adds no dummy prefix, and 4
# keeps whitespace.
_NO_NORMALIZER = b'\x1a\x06\x12\x00\x18\x00\x20\x00'
_WORD_CACHE = 100_000


class Tokenizer:
  """T5's vocabulary: pieces, 100 extra ids, 图, `<image0>` to `<image19>`.

  With T5's own 32,000 pieces 图 is 32100 and `<imageK>` is 32101 + K. It can be
  pickled; worker processes get the bytes of the model, not its path.

  Raises UserError if the file is missing or is no SentencePiece model, or if
  its ids of padding, end and unknown are not T5's 0, 1 and 2.
  """

  pad_id, eos_id, unk_id = 0, 1, 2

  def __init__(self, path: str | os.PathLike[str]):
    check_type(
      'the vocabulary', path, (str, os.PathLike), 'the path of a spiece.model'
    )
    try:
      proto = local_file(path).read_bytes()
    except OSError as error:
      raise UserError(
        f'{os.fspath(path)}: cannot read the SentencePiece model '
        f'({error.strerror}); name '
        'the spiece.model that belongs to the checkpoint.'
      ) from error
    try:
      self.__setstate__(proto)
    except (RuntimeError, ValueError, TypeError) as error:
      raise UserError(
        f'{path}: not a SentencePiece model, or damaged; copy spiece.model '
        'again.'
      ) from error
    pieces = self._pieces
    ids = (pieces.pad_id(), pieces.eos_id(), pieces.unk_id())
    if ids != (self.pad_id, self.eos_id, self.unk_id):
      raise UserError(
        f'{path}: ids of pad, end and unknown are {ids}, T5 needs (0, 1, 2); '
        'train the model with train_sentencepiece.'
      )

  def __getstate__(self) -> bytes:
    return self._proto

  def __setstate__(self, proto: bytes):
    self._proto = proto
    self._pieces = sentencepiece.SentencePieceProcessor(
      model_proto=proto + _NO_NORMALIZER
    )
    self._normaliser = Normaliser(proto)
    self._words = _Words(self._encode_word)
    size = len(self._pieces)
    extra = [f'<extra_id_{i}>' for i in reversed(range(NUM_EXTRA_IDS))]
    added = [*extra, IMAGE, *PROXIES]
    self._added = {'<pad>': 0, '</s>': 1, '<unk>': 2}
    self._added |= {token: size + i for i, token in enumerate(added)}
    self._tokens = [self._pieces.id_to_piece(i) for i in range(size)] + added

  @property
  def digest(self) -> str:
    """A hash of the model's bytes: 32 hexadecimal digits."""
    return hashlib.blake2b(self._proto, digest_size=16).hexdigest()

  @property
  def image_id(self) -> int:
    """The id of 图, the place of one visual token."""
    return self._added[IMAGE]

  @property
  def vocab_size(self) -> int:
    """The number of tokens; embedding tables may have more rows."""
    return len(self._tokens)

  def encode(self, text: str) -> list[int]:
    """The ids of a text, without the end token.

    encode('image 0 is <image0>图.') -> [1023, 3, 632, 19, 32101, 32100, 3, 5]
    """
    check_type('the text', text, str, 'a str')
    ids = []
    for i, part in enumerate(_ADDED.split(_SURROGATES.sub('\ufffd', text))):
      if i % 2:
        known = self._added.get(part)
        ids += [self.image_id] * len(part) if known is None else [known]
      elif part:
        ids += self._encode_plain(part)
    return ids

  def decode(
    self, ids: Iterable[SupportsIndex], skip_special_tokens: bool = True
  ) -> str:
    """The text of ids (a list, or an array of one axis).

    Ids outside the vocabulary are left out. Special tokens are T5's, 图 and
    `<imageK>`.
    """
    ids = _whole_numbers(ids)
    tokens = [self._tokens[i] for i in ids if 0 <= i < len(self._tokens)]
    if skip_special_tokens:
      tokens = [token for token in tokens if token not in self._added]
    return ''.join(tokens).replace('▁', ' ').removeprefix(' ')

  def save(self, path: str | os.PathLike[str]) -> None:
    """Writes the SentencePiece model to a file."""
    write_bytes(path, self._proto)

  def _encode_plain(self, text: str) -> list[int]:
    """The ids of a text without added tokens, normalised and cut into words."""
    text = self._normaliser(text)
    if not text:
      return []
    text = _SPACES.sub('▁', text).replace(' ', '▁').removeprefix('▁')
    return [i for word in text.split('▁') for i in self._words[word]]

  def _encode_word(self, word: str) -> list[int]:
    """The ids of a word, which is given without the ▁ before it."""
    ids: list[int] = []
    # Normalisation may make a special token of ＜pad＞. For Hugging Face's
    # Unigram model it is a piece like others, and always the likeliest.
    for i, part in enumerate(_T5_SPECIAL.split('▁' + word)):
      more = [self._added[part]] if i % 2 else self._pieces.encode(part)
      # Adjacent unknown pieces become one, and so does ＜unk＞.
      ids += more[ids[-1:] == more[:1] == [self.unk_id] :]
    return ids


class _Words(dict[str, list[int]]):
  """{word: its ids}, filled on demand with at most _WORD_CACHE words."""

  def __init__(self, encode: Callable[[str], list[int]]):
    super().__init__()
    self._encode = encode

  def __missing__(self, word: str) -> list[int]:
    ids = self._encode(word)
    if len(self) < _WORD_CACHE:
      self[word] = ids
    return ids


def _whole_numbers(ids: Any) -> Int[np.ndarray, 'T']:
  """Ids as an array; raises UserError if they are none."""
  try:
    if not hasattr(ids, 'shape'):
      ids = list(ids) or np.zeros(0, np.int64)
    ids = np.asarray(ids)
  except (TypeError, ValueError):  # not a list, or one of unequal lists
    ids = np.array(None)
  if ids.ndim != 1 or ids.dtype.kind not in 'iu':
    raise UserError(
      'ids are whole numbers, in a list or an array of one axis: give one '
      "answer's tokens."
    )
  return ids


def train_sentencepiece(
  texts: Iterable[str], path: str | os.PathLike[str], vocab_size: int
) -> None:
  """Trains a SentencePiece model like T5's and writes it to `path`.

  The same texts give the same bytes; added tokens in them are left out.
  vocab_size: pieces at most, without extra ids and image tokens; few texts give
  fewer. Raises UserError if no text is left, or if there are more different
  characters than pieces.
  """
  plain = (
    part.strip()
    for text in texts
    for part in _ADDED.sub('\n', text).split('\n')
    if part.strip()
  )
  model = BytesIO()
  try:
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=plain,
      model_writer=model,
      vocab_size=vocab_size,
      hard_vocab_limit=False,
      model_type='unigram',
      normalization_rule_name='nmt_nfkc',
      character_coverage=1.0,
      pad_id=Tokenizer.pad_id,
      eos_id=Tokenizer.eos_id,
      unk_id=Tokenizer.unk_id,
      bos_id=-1,
      shuffle_input_sentence=False,
      num_threads=1,
      minloglevel=2,
    )
  except (RuntimeError, OSError) as error:
    raise UserError(
      f'{path}: cannot train a vocabulary of {vocab_size} pieces from these '
      f'texts ({str(error).splitlines()[-1]}); give more text or more pieces.'
    ) from error
  write_bytes(path, model.getvalue())

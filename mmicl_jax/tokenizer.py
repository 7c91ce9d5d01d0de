"""Text to ids and back: T5's SentencePiece with MIC's image tokens.

Sits between the context scheme (strings) and the features (arrays). The ids
are those of the Hugging Face fast tokenizer: text is cut at the added tokens
and SentencePiece starts afresh after each, so `图.` ends in `▁` `.`.
"""

import os
import re
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import SupportsIndex

import numpy as np
import sentencepiece

from mmicl_jax.context.turns import IMAGE, PROXIES
from mmicl_jax.errors import UserError
from mmicl_jax.runtime.normaliser import Normaliser

NUM_EXTRA_IDS = 100

_T5_SPECIAL = re.compile(r'(</s>|<pad>|<unk>|<extra_id_(?:[1-9]\d|\d)>)')
_ADDED = re.compile(f'({IMAGE}|<image1?\\d>|{_T5_SPECIAL.pattern[1:]}')
_SURROGATES = re.compile('[\ud800-\udfff]')
_SPACES = re.compile(' {2,}')
# A ModelProto whose normalizer does nothing: protobuf merges a repeated message
# field, and the last scalar wins. Field 3 is the normalizer; in it, 2 = no
# character map, 3 = no dummy prefix, 4 = keep whitespace.
_NO_NORMALIZER = b'\x1a\x06\x12\x00\x18\x00\x20\x00'
_WORD_CACHE = 100_000


class Tokenizer:
  """T5's vocabulary: pieces, 100 extra ids, 图, `<image0>`..`<image19>`.

  With T5's own 32,000 pieces 图 is 32100 and `<imageK>` is 32101 + K. Can be
  pickled: worker processes get the bytes of the model, not its path.

  Raises UserError if the file is missing, is no SentencePiece model, or has
  other ids than T5's for padding (0), end (1) and unknown (2).
  """

  pad_id, eos_id, unk_id = 0, 1, 2

  def __init__(self, path: str | os.PathLike[str]):
    path = Path(path)
    try:
      proto = path.read_bytes()
    except OSError as error:
      raise UserError(
        f'{path}: cannot read the SentencePiece model ({error.strerror}); name '
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
    self._words: dict[str, list[int]] = {}
    size = len(self._pieces)
    extra = [f'<extra_id_{i}>' for i in reversed(range(NUM_EXTRA_IDS))]
    added = [*extra, IMAGE, *PROXIES]
    self._added = {'<pad>': 0, '</s>': 1, '<unk>': 2}
    self._added |= {token: size + i for i, token in enumerate(added)}
    self._tokens = [self._pieces.id_to_piece(i) for i in range(size)] + added

  @property
  def image_id(self) -> int:
    """The id of 图, the slot of one visual token."""
    return self._added[IMAGE]

  @property
  def proxy_ids(self) -> range:
    """The ids of `<image0>` .. `<image19>`."""
    return range(self.image_id + 1, self.image_id + 1 + len(PROXIES))

  @property
  def vocab_size(self) -> int:
    """Number of tokens with a meaning; embedding tables are padded beyond."""
    return len(self._tokens)

  def encode(self, text: str) -> list[int]:
    """Ids of a text, without the end token.

    encode('image 0 is <image0>图.') -> [1023, 3, 632, 19, 32101, 32100, 3, 5]
    """
    ids = []
    for i, part in enumerate(_ADDED.split(_SURROGATES.sub('\ufffd', text))):
      if i % 2:
        ids.append(self._added[part])
      elif part:
        ids += self._encode_plain(part)
    return ids

  def decode(
    self, ids: Iterable[SupportsIndex], skip_special_tokens: bool = True
  ) -> str:
    """Text of ids (a list, or an array of one axis).

    Ids outside the vocabulary are left out; special tokens are the T5 ones, 图
    and `<imageK>`.
    """
    ids = np.asarray(ids if hasattr(ids, 'shape') else list(ids), np.int64)
    tokens = [self._tokens[i] for i in ids if 0 <= i < len(self._tokens)]
    if skip_special_tokens:
      tokens = [token for token in tokens if token not in self._added]
    return ''.join(tokens).replace('▁', ' ').removeprefix(' ')

  def save(self, path: str | os.PathLike[str]) -> None:
    """Writes the SentencePiece model."""
    _write(path, self._proto)

  def _encode_plain(self, text: str) -> list[int]:
    """Ids of a text without added tokens: normalise, cut into words."""
    text = self._normaliser(text)
    if not text:
      return []
    text = _SPACES.sub('▁', text).replace(' ', '▁')
    words = text.removeprefix('▁').split('▁')
    return [i for word in words for i in self._encode_word('▁' + word)]

  def _encode_word(self, word: str) -> list[int]:
    if (known := self._words.get(word)) is not None:
      return known
    ids = []
    # A special token that only normalisation brought forth (＜pad＞) is a piece
    # like others to Hugging Face's Unigram model, and the likeliest.
    for i, part in enumerate(_T5_SPECIAL.split(word)):
      ids += [self._added[part]] if i % 2 else self._pieces.encode(part)
    if len(self._words) < _WORD_CACHE:
      self._words[word] = ids
    return ids


def train_sentencepiece(
  texts: Iterable[str], path: str | os.PathLike[str], vocab_size: int
) -> None:
  """Trains a T5-like SentencePiece model: the same texts, the same bytes.

  `vocab_size` counts pieces, without extra ids and image tokens, and is an
  upper limit: few texts give fewer pieces. Added tokens in the texts are left
  out. Raises UserError if no text is left or the limit is below the number of
  different characters.
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
  _write(path, model.getvalue())


class BertTokenizer:
  """BERT word pieces for the Q-Former's text, from bert-base-uncased's list.

  Ids are those of BertTokenizerFast with MIC's additions: `[DEC]` follows the
  vocabulary (30522), then 图, `<image0>`..`<image19>` and `<extra_id_21>`..
  `<extra_id_99>`. Needs the package `tokenizers`. Raises UserError if it or the
  vocabulary is missing.
  """

  pad_id = 0

  def __init__(self, path: str | os.PathLike[str]):
    try:
      import tokenizers
      from tokenizers import models, normalizers, pre_tokenizers, processors
    except ImportError as error:
      raise UserError(
        "the Q-Former's text needs the package tokenizers; run pip install "
        'tokenizers.'
      ) from error
    try:
      words = Path(path).read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeError) as error:
      raise UserError(
        f'{path}: cannot read the BERT vocabulary ({error}); name the vocab.txt'
        ' of bert-base-uncased.'
      ) from error
    vocab = {word: i for i, word in enumerate(words)}
    special = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]')
    if missing := [token for token in special if token not in vocab]:
      raise UserError(
        f'{path}: no BERT vocabulary, {missing[0]} is missing; name the '
        'vocab.txt of bert-base-uncased.'
      )
    bert = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token='[UNK]'))
    bert.normalizer = normalizers.BertNormalizer(lowercase=True)
    bert.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    bert.post_processor = processors.BertProcessing(
      ('[SEP]', vocab['[SEP]']), ('[CLS]', vocab['[CLS]'])
    )
    extra = [f'<extra_id_{i}>' for i in range(len(PROXIES) + 1, NUM_EXTRA_IDS)]
    bert.add_special_tokens([*special, '[DEC]', IMAGE, *PROXIES, *extra])
    self._bert = bert
    self.vocab_size = bert.get_vocab_size()

  def encode(self, text: str, max_length: int | None = None) -> list[int]:
    """`[CLS]`, the text's ids, `[SEP]`.

    A text longer than `max_length` ids loses its start, as in the published
    processors.
    """
    ids = self._bert.encode(_SURROGATES.sub('\ufffd', text)).ids
    if max_length is not None and len(ids) > max_length:
      ids = ids[:1] + ids[len(ids) - max_length + 1 :]
    return ids


def _write(path: str | os.PathLike[str], data: bytes) -> None:
  """Writes to a temporary name and renames, so no half file is ever seen."""
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f'.{path.name}.{os.getpid()}')
  temporary.write_bytes(data)
  temporary.replace(path)

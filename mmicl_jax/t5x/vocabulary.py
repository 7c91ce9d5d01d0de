"""T5's tokenizer with MIC's image tokens, as a SeqIO vocabulary."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from mmicl_jax.tokenizer import Tokenizer


class Vocabulary(seqio.Vocabulary):
  """A Tokenizer with SeqIO's methods; two are equal if their pieces are.

  source: the SentencePiece file, or a function that returns the Tokenizer. It
  is used when the vocabulary is first needed, not when a task is declared.
  """

  def __init__(self, source: str | Callable[[], Tokenizer]):
    super().__init__()
    self._source = source

  @functools.cached_property
  def tokenizer(self) -> Tokenizer:
    """The Tokenizer that the vocabulary wraps."""
    source = self._source
    return Tokenizer(source) if isinstance(source, str) else source()

  @property
  def bos_id(self) -> int:
    """The start token, which for T5 is the padding token."""
    return self.tokenizer.pad_id

  @property
  def eos_id(self) -> int:
    """The end token."""
    return self.tokenizer.eos_id

  @property
  def unk_id(self) -> int:
    """The token of unknown pieces."""
    return self.tokenizer.unk_id

  @property
  def _base_vocab_size(self) -> int:
    return self.tokenizer.vocab_size

  def _encode(self, s: str) -> Sequence[int]:
    return self.tokenizer.encode(s)

  def _decode(self, ids) -> str:
    return self.tokenizer.decode(ids)

  def _encode_tf(self, s):
    def encode(text: Any) -> np.ndarray:
      # Datasets give bytes; eager TensorFlow gives an array of one object.
      one = np.asarray(text, object).item()
      return np.array(self.tokenizer.encode(one.decode()), np.int32)

    ids = tf.numpy_function(encode, [s], tf.int32, stateful=False)
    return tf.ensure_shape(ids, [None])

  def _decode_tf(self, ids):
    def decode(ids: np.ndarray) -> np.ndarray:
      rows = ids.reshape(-1, ids.shape[-1])
      texts = [self.tokenizer.decode(row).encode() for row in rows]
      return np.array(texts, object).reshape(ids.shape[:-1])

    texts = tf.numpy_function(decode, [ids], tf.string, stateful=False)
    return tf.ensure_shape(texts, ids.shape[:-1])

  def __eq__(self, other: Any) -> bool:
    return isinstance(other, Vocabulary) and (
      self._source == other._source
      or self.tokenizer.__getstate__() == other.tokenizer.__getstate__()
    )

  def __hash__(self) -> int:
    return hash(self.tokenizer.__getstate__())

"""BERT's tokenizer, whose ids InstructBLIP's Q-Former reads."""

import hashlib
import os
import re

from mmicl_jax.context.text import IMAGE, PROXIES
from mmicl_jax.errors import UserError
from mmicl_jax.runtime.mirror import local_file

# The tokens that MIC's training adds after [DEC]: as many as T5's extra ids.
MIC_TOKENS = (
  IMAGE,
  *PROXIES,
  *(f'<extra_id_{i}>' for i in range(len(PROXIES) + 1, 100)),
)
_SURROGATES = re.compile('[\ud800-\udfff]')


class BertTokenizer:
  """BERT's word pieces for the Q-Former's text, from a vocab.txt.

  With that of bert-base-uncased the ids are those of BertTokenizerFast with
  MIC's additions: `[DEC]` is 30522; then follow 图, `<image0>` to `<image19>`,
  and `<extra_id_21>` to `<extra_id_99>`. Raises UserError if the package
  `tokenizers` or the vocabulary is missing.
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
      words = local_file(path).read_text(encoding='utf-8').splitlines()
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
    bert.add_special_tokens([*special, '[DEC]', *MIC_TOKENS])
    self._bert = bert
    self.vocab_size = bert.get_vocab_size()

  @property
  def digest(self) -> str:
    """A hash of the vocabulary: 32 hexadecimal digits."""
    text = self._bert.to_str()
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

  def encode(self, text: str, max_length: int | None = None) -> list[int]:
    """The ids of `[CLS]`, the text, and `[SEP]`.

    If they are more than `max_length`, the text loses its beginning, as in
    MMICL's published processors.
    """
    ids = self._bert.encode(_SURROGATES.sub('\ufffd', text)).ids
    if max_length is not None and len(ids) > max_length:
      ids = ids[:1] + ids[len(ids) - max_length + 1 :]
    return ids

"""The demo's invented label words, and the training of its vocabulary."""

import io
import re
import string
from collections.abc import Iterable, Sequence

import numpy as np
import sentencepiece

# None is an English word; each is one piece of the vocabulary.
LABELS = tuple(
  """
  bax bez biv bof bup dak dax dez dif dop fep fim gak gev gix gop
  jeb jof juk jup kag kez kiv kod lek lof lun mep mib mox mup nak
  nef niv nux pag pev pim pux rak rez rof rux sab sef sik sov tak
  tez tiv tuv vab vek vod vug wef wib wug wux zab zek ziv zop zub
  """.split()
)


# The words that training shows with images; the others it knows from text.
TRAINED = LABELS[: len(LABELS) * 3 // 4]


def draw_words(
  rng: np.random.Generator, n: int = 2, among: Sequence[str] = LABELS
) -> tuple[str, ...]:
  """Draws n different label words."""
  return tuple(among[int(i)] for i in rng.choice(len(among), n, False))


def train_vocabulary(
  texts: Iterable[str], characters: Sequence[str] = ()
) -> bytes:
  """Trains a SentencePiece model in which each word of the texts is one piece.

  texts: prompts and answers; 图 and <imageK> are left out, since the tokenizer
  adds them. characters: each is one piece, too. Other words are spelt by
  letters. Returns the serialised model;
  its ids are T5's: 0 padding, 1 end, 2 unknown.
  """
  lines = [re.sub(r'<image\d+>|图', ' ', text) for text in texts]
  words = {*LABELS, *re.findall(r'[A-Za-z]+', ' '.join(lines))}
  known = {f'▁{word}' for word in words}
  pieces = (
    *(f'▁{word}' for word in sorted(words)),
    *(f'▁{i}' for i in range(10)),
    *(f'▁{c}' for c in characters if f'▁{c}' not in known),
  )
  letters = string.ascii_letters + string.digits + string.punctuation
  # So every character occurs, whatever the texts hold.
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

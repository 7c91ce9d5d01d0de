"""Writes the tokenizer and processor files of a Hugging Face directory.

The tokenizer is T5's with MIC's tokens, as MIC's training adds them: 图 and
<image0> to <image19> follow the vocabulary. tokenizer.json is made from the
SentencePiece model, so only the vocabulary is needed.
"""

import base64
import os
from pathlib import Path
from typing import Any

from mmicl_jax.context.turns import IMAGE, PROXIES
from mmicl_jax.errors import UserError
from mmicl_jax.models.configs import MMICLConfig
from mmicl_jax.models.mmicl import MEAN, STD
from mmicl_jax.pieces.bert import MIC_TOKENS
from mmicl_jax.runtime import files
from mmicl_jax.tokenizer import NUM_EXTRA_IDS, Tokenizer

MAX_LENGTH = 512  # FLAN-T5's
# Pieces without a score have -inf, which JSON does not have.
LOWEST_SCORE = -1e6


def write_processor(
  directory: Path,
  config: MMICLConfig,
  tokenizer_path: str | os.PathLike | None,
  qformer_vocab: str | os.PathLike | None,
) -> None:
  """Writes the image settings, and tokenizer files if there are vocabularies.

  tokenizer_path: T5's spiece.model. qformer_vocab: BERT's vocab.txt. Raises
  UserError if the vocabulary is not the model's, or cannot be read.
  """
  kind = 'InstructBlip' if config.qformer.instruction else 'Blip2'
  side = config.vit.image_size
  files.write_json(
    directory / 'preprocessor_config.json',
    {
      'image_processor_type': 'BlipImageProcessor',
      'processor_class': f'{kind}Processor',
      'do_convert_rgb': True,
      'do_resize': True,
      'size': {'height': side, 'width': side},
      'resample': 3,  # bicubic
      'do_rescale': True,
      'rescale_factor': 1 / 255,
      'do_normalize': True,
      'image_mean': MEAN,
      'image_std': STD,
    },
  )
  files.write_json(
    directory / 'processor_config.json',
    {
      'processor_class': f'{kind}Processor',
      'num_query_tokens': config.qformer.num_queries,
    },
  )
  if tokenizer_path is not None:
    _write_t5(directory, config, Path(tokenizer_path))
  if qformer_vocab is not None and config.qformer.instruction:
    rows = config.qformer.vocab_size
    _write_bert(directory / 'qformer_tokenizer', Path(qformer_vocab), rows)


def _write_t5(directory: Path, config: MMICLConfig, path: Path) -> None:
  tokenizer = Tokenizer(path)
  if tokenizer.image_id != config.image_token:
    raise UserError(
      f'{path}: 图 has id {tokenizer.image_id} there and {config.image_token} '
      'in the model; name the spiece.model that the model was trained with'
    )
  if tokenizer.vocab_size > config.t5.vocab_size:
    raise UserError(
      f'{path} has {tokenizer.vocab_size} tokens, the model rows for '
      f'{config.t5.vocab_size}; name the spiece.model that it was trained with'
    )
  files.copy_file(path, directory / 'spiece.model')
  files.write_json(directory / 'tokenizer.json', tokenizer_json(path))
  special = [IMAGE, *PROXIES]
  # As in MIC, the list has 100 tokens: MIC's replace T5's first extra ids.
  special += [f'<extra_id_{i}>' for i in range(len(special), NUM_EXTRA_IDS)]
  names = {'eos_token': '</s>', 'unk_token': '<unk>', 'pad_token': '<pad>'}
  files.write_json(
    directory / 'special_tokens_map.json',
    names | {'additional_special_tokens': special},
  )
  files.write_json(
    directory / 'tokenizer_config.json',
    names
    | {
      'tokenizer_class': 'T5TokenizerFast',
      'additional_special_tokens': special,
      # With 100, transformers would refuse a list of other tokens than T5's.
      'extra_ids': 0,
      'model_max_length': MAX_LENGTH,
      'clean_up_tokenization_spaces': False,
      'padding_side': 'right',
      'truncation_side': 'right',
      'added_tokens_decoder': {
        str(token['id']): {k: v for k, v in token.items() if k != 'id'}
        for token in _added_tokens(tokenizer)
      },
    },
  )


def tokenizer_json(path: str | os.PathLike) -> dict[str, Any]:
  """A tokenizer.json of T5's fast tokenizer with MIC's tokens.

  path: the spiece.model.
  """
  from sentencepiece import sentencepiece_model_pb2 as protos

  # protoc makes the class at import, so type checkers cannot see it.
  proto = vars(protos)['ModelProto'].FromString(Path(path).read_bytes())
  tokenizer = Tokenizer(path)
  charsmap = proto.normalizer_spec.precompiled_charsmap
  normalizers: list[dict[str, Any]] = []
  if charsmap:
    text = base64.b64encode(charsmap).decode()
    normalizers.append({'type': 'Precompiled', 'precompiled_charsmap': text})
  normalizers += [
    {'type': 'Strip', 'strip_left': False, 'strip_right': True},
    {'type': 'Replace', 'pattern': {'Regex': ' {2,}'}, 'content': '▁'},
  ]
  blank = {
    'type': 'Metaspace',
    'replacement': '▁',
    'add_prefix_space': True,
    'prepend_scheme': 'always',
  }
  end = {'SpecialToken': {'id': '</s>', 'type_id': 0}}
  first = {'Sequence': {'id': 'A', 'type_id': 0}}
  second = {'Sequence': {'id': 'B', 'type_id': 0}}
  pieces = [[p.piece, max(p.score, LOWEST_SCORE)] for p in proto.pieces]
  extra = [f'<extra_id_{i}>' for i in reversed(range(NUM_EXTRA_IDS))]
  return {
    'version': '1.0',
    'truncation': None,
    'padding': None,
    'added_tokens': _added_tokens(tokenizer),
    'normalizer': {'type': 'Sequence', 'normalizers': normalizers},
    'pre_tokenizer': blank,
    'post_processor': {
      'type': 'TemplateProcessing',
      'single': [first, end],
      'pair': [first, end, second, end],
      'special_tokens': {
        '</s>': {
          'id': '</s>',
          'ids': [Tokenizer.eos_id],
          'tokens': ['</s>'],
        }
      },
    },
    'decoder': blank,
    'model': {
      'type': 'Unigram',
      'unk_id': Tokenizer.unk_id,
      'vocab': pieces + [[token, 0.0] for token in extra],
      'byte_fallback': False,
    },
  }


def _added_tokens(tokenizer: Tokenizer) -> list[dict[str, Any]]:
  start = tokenizer.image_id - NUM_EXTRA_IDS
  names = ['<pad>', '</s>', '<unk>']
  later = [f'<extra_id_{i}>' for i in reversed(range(NUM_EXTRA_IDS))]
  later += [IMAGE, *PROXIES]
  ids = dict(enumerate(names)) | dict(enumerate(later, start))
  return [{'id': i} | _special(name) for i, name in ids.items()]


def _special(name: str) -> dict[str, Any]:
  return {
    'content': name,
    'single_word': False,
    'lstrip': False,
    'rstrip': False,
    'normalized': False,
    'special': True,
  }


def _write_bert(directory: Path, vocab: Path, rows: int) -> None:
  """Writes bert-base-uncased with [DEC], as InstructBLIP's processors do.

  It has MIC's tokens, too, if the Q-Former's table has `rows` for them, as in
  MIC's training; transformers would fail at an id without a row.
  """
  try:
    words = vocab.read_text(encoding='utf-8')
  except (OSError, UnicodeError) as error:
    raise UserError(
      f'{vocab}: cannot read the BERT vocabulary ({error}); name the vocab.txt '
      'of bert-base-uncased'
    ) from error
  files.write_text(directory / 'vocab.txt', words)
  names = [*words.splitlines(), '[DEC]', *MIC_TOKENS]
  more = list(MIC_TOKENS) if len(names) <= rows else []
  special: dict[str, Any] = {
    'cls_token': '[CLS]',
    'mask_token': '[MASK]',
    'pad_token': '[PAD]',
    'sep_token': '[SEP]',
    'unk_token': '[UNK]',
    'bos_token': '[DEC]',
  }
  added = {name: names.index(name) for name in (*special.values(), *more)}
  if more:
    special['additional_special_tokens'] = more
  files.write_json(directory / 'special_tokens_map.json', special)
  files.write_json(
    directory / 'tokenizer_config.json',
    special
    | {
      'tokenizer_class': 'BertTokenizer',
      'do_lower_case': True,
      'model_max_length': MAX_LENGTH,
      'truncation_side': 'left',
      'added_tokens_decoder': {
        str(i): _special(name) for name, i in added.items()
      },
    },
  )
  files.write_json(
    directory / 'added_tokens.json',
    {name: added[name] for name in ('[DEC]', *more)},
  )

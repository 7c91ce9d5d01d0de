"""The files beside the checkpoints that make a MODEL_DIR usable by itself.

They are model.json (the model's configuration), spiece.model (the vocabulary),
qformer_vocab.txt (BERT's, if InstructBLIP's Q-Former has one), config.gin (the
run's configuration) and ledger.json (what was trained).
"""

import filecmp
import json
import os
from pathlib import Path

from mmicl_jax.errors import UserError, explained
from mmicl_jax.models import configs
from mmicl_jax.runtime import files
from mmicl_jax.runtime.mirror import local_file

MODEL, VOCABULARY, GIN, LEDGER = (
  'model.json',
  'spiece.model',
  'config.gin',
  'ledger.json',
)
QFORMER_VOCABULARY = 'qformer_vocab.txt'


def write_config(directory: str | os.PathLike, config: configs.MMICLConfig):
  """Writes model.json."""
  files.write_json(Path(directory) / MODEL, configs.to_dict(config))


def read_config(directory: str | os.PathLike) -> configs.MMICLConfig:
  """Reads model.json; raises UserError if it is missing or damaged."""
  path = Path(directory) / MODEL
  try:
    return configs.from_dict(json.loads(path.read_text(encoding='utf-8')))
  except FileNotFoundError as error:
    raise UserError(
      f'{path} is missing: copy it there from where the model was trained'
    ) from error
  except OSError as error:
    remedy, what = 'name a directory with a model', 'could not be read'
    raise explained(error, path, remedy, what) from error
  except (ValueError, KeyError, TypeError, UserError) as error:
    raise UserError(
      f'{path} does not describe a model ({error}); copy it again from where '
      'the model was trained'
    ) from error


def copy_vocabulary(directory: str | os.PathLike, source: str | os.PathLike):
  """Copies a SentencePiece file into a MODEL_DIR.

  Raises UserError if it is missing or cannot be written.
  """
  target, here = Path(directory) / VOCABULARY, local_file(source)
  if not here.is_file():
    raise UserError(f'the vocabulary file {source} does not exist')
  if target.is_file() and filecmp.cmp(here, target, shallow=False):
    return
  files.copy_file(here, target)

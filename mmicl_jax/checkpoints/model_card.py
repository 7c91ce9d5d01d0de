"""README.md of a model: what it is, of what it was made, and what is missing.

It is a model card of the Hub, written by `mmicl train` and by `mmicl convert
to-pytorch` from what lies in the MODEL_DIR. What only its owner can know,
as the licence, is left to fill in.
"""

import ast
import json
import os
import posixpath
import re
from collections.abc import Mapping
from typing import Any

from mmicl_jax.checkpoints import model_dir
from mmicl_jax.models import configs
from mmicl_jax.runtime import files, remote
from mmicl_jax.runtime.mirror import local_file
from mmicl_jax.runtime.page import render
from mmicl_jax.runtime.versions import version

CARD = 'README.md'
# A card without this line is a person's.
MARK = (
  '<!-- Written by mmicl; if you delete this line, mmicl leaves the file. -->'
)
# Names of the gin files that say how a run was made, and what they are called.
_SAID = {
  'INIT_FROM': 'made from',
  'DATA': 'data',
  'WEIGHTS': 'rates of the data',
  'EVAL_DATA': 'held-out data',
  'BATCH_SIZE': 'examples a step',
  'PEAK_RATE': 'peak learning rate',
  'SEED': 'seed',
}


def write_card(
  directory: str | os.PathLike,
  source: str | os.PathLike,
  step: int,
  *,
  pytorch: bool,
  records: int | None = None,
) -> bool:
  """Writes the card of a model; returns False if a person's file is there.

  directory: where the card goes. source: the MODEL_DIR, which may be the same.
  step: of the checkpoint. pytorch: whether `directory` is an exported one.
  records: of the training data, if it was counted.
  """
  place = os.path.join(remote.address(directory), CARD)
  if remote.is_file(place) and MARK not in _text(place):
    return False
  model = local_file(os.path.join(remote.address(source), model_dir.MODEL))
  config = model_dir.read_config(model.parent)
  macros = read_macros(_text_if_there(source, model_dir.GIN))
  ledger = _text_if_there(source, model_dir.LEDGER)
  reads = config.qformer.instruction
  text = render(
    'checkpoints/model_card.md.j2',
    mark=MARK,
    name=_name(source),
    pytorch=pytorch,
    made=_made(pytorch, bool(macros)),
    version=version('mmicl_jax') or 'of a clone',
    architecture=_architecture(config),
    rows=_rows(macros, json.loads(ledger) if ledger else {}, step, records),
    loader=f'{"InstructBlip" if reads else "Blip2"}ForConditionalGeneration',
    instructed=reads,
    settings='\n'.join(f'{k} = {v!r}' for k, v in sorted(macros.items())),
  )
  files.write_text(place, text)
  return True


def read_macros(config_text: str) -> dict[str, Any]:
  """The names in capitals of config.gin; references stay texts.

  >>> read_macros("BATCH_SIZE = 64\\nMESH = @partitioning.make_mesh()")
  {'BATCH_SIZE': 64, 'MESH': '@partitioning.make_mesh()'}
  """
  found = {}
  joined = re.sub(r'\\\n\s*', '', config_text)
  for name, text in re.findall(r'^([A-Z][A-Z0-9_]*) = (.+)$', joined, re.M):
    try:
      found[name] = ast.literal_eval(text)
    except (ValueError, SyntaxError):
      found[name] = text
  return found


def _rows(
  macros: Mapping[str, Any],
  ledger: Mapping[str, Any],
  step: int,
  records: int | None,
) -> list[tuple[str, str]]:
  rows = []
  if ledger:
    trained = ledger['trainable']['parameters']
    whole = trained + ledger['frozen']['parameters']
    rows.append(('parameters', f'{whole:,}'))
    rows.append(('trained', f'{trained:,} of them: `{ledger["profile"]}`'))
  if macros:
    rows.append(('steps', f'{step:,} of {macros.get("TRAIN_STEPS", step):,}'))
  for name, what in _SAID.items():
    if macros.get(name) is not None:
      rows.append((what, f'`{macros[name]}`'))
  if records is not None:
    rows.append(('records', f'{records:,}'))
  return rows


def _architecture(config: configs.MMICLConfig) -> str:
  vit, reader, t5 = config.vit, config.qformer, config.t5
  return (
    f'ViT of {vit.num_layers} layers at {vit.image_size} pixels, Q-Former of '
    f'{reader.num_layers} layers with {reader.num_queries} queries an image, '
    f'T5 of {t5.num_encoder_layers} + {t5.num_decoder_layers} layers'
  )


def _made(pytorch: bool, trained: bool) -> str:
  if not pytorch:
    return 'Trained'
  return f'{"Trained, and exported" if trained else "Exported"} to PyTorch'


def _name(directory: str | os.PathLike) -> str:
  return posixpath.basename(remote.absolute_path(directory).rstrip('/'))


def _text(place: str | os.PathLike) -> str:
  return local_file(place).read_text('utf-8', errors='replace')


def _text_if_there(directory: str | os.PathLike, name: str) -> str:
  place = os.path.join(remote.address(directory), name)
  return _text(place) if remote.is_file(place) else ''

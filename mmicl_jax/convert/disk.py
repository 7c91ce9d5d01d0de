"""Converts a checkpoint on disk to another one, one parameter at a time."""

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mmicl_jax.checkpoints import model_card, model_dir
from mmicl_jax.convert.loading import (
  find_checkpoint,
  find_vocabulary,
  open_checkpoint,
)
from mmicl_jax.convert.parts import open_parts
from mmicl_jax.convert.saving import SHARD_BYTES, write_pretrained
from mmicl_jax.convert.streaming import CheckpointReader, write_checkpoint
from mmicl_jax.errors import UserError
from mmicl_jax.models import lora
from mmicl_jax.runtime.files import copy_file, new_directory
from mmicl_jax.runtime.malloc import return_large_blocks
from mmicl_jax.runtime.mirror import local_file
from mmicl_jax.runtime.progress import ProgressBar
from mmicl_jax.runtime.show import size


def to_jax(
  source: str | os.PathLike | None,
  out_dir: str | os.PathLike,
  *,
  tokenizer_path: str | os.PathLike | None = None,
  parts: dict[str, Any] | None = None,
  **options: Any,
) -> list[str]:
  """Writes a MODEL_DIR from a Hugging Face or MIC checkpoint; returns notes.

  source: a directory or a hub name; or None, with `parts` for `open_parts`.
  tokenizer_path: a spiece.model, if the source has none. options: those of
  `open_source`. Raises UserError if the source is not a whole, sound checkpoint
  that we know; then nothing is left at out_dir.
  """
  return_large_blocks()
  tokenizer_path = tokenizer_path and local_file(tokenizer_path)
  if (source is None) == (not parts):
    raise UserError(
      'name either a whole checkpoint (--source), or parts of one (--t5, '
      '--vit, --qformer)'
    )
  if parts and 'qformer_rows' in options:
    raise UserError('--qformer_rows is for a whole checkpoint (--source)')
  with new_directory(out_dir) as directory:
    if source is None:
      found, opened = None, open_parts(**(parts or {}), **options)
    else:
      found = find_checkpoint(source)
      opened = open_checkpoint(found, vocabulary_path=tokenizer_path, **options)
    with _progress(opened.shapes.values()) as bar:
      write_checkpoint(directory, opened.shapes, opened.read, bar.advance)
    model_dir.write_config(directory, opened.config)
    path = tokenizer_path or (find_vocabulary(found) if found else None)
    if path:
      model_dir.copy_vocabulary(directory, path)
    else:
      opened.notes.append(
        "there is no spiece.model beside the source: name T5's with "
        '--vocabulary, or copy it to the output, before you ask in text'
      )
    bert = found / 'qformer_tokenizer' / 'vocab.txt' if found else None
    if bert and bert.is_file():
      copy_file(bert, directory / model_dir.QFORMER_VOCABULARY)
  return opened.notes


def to_pytorch(
  checkpoint: str | os.PathLike,
  out_dir: str | os.PathLike,
  *,
  tokenizer_path: str | os.PathLike | None = None,
  qformer_vocab: str | os.PathLike | None = None,
  shard_bytes: int = SHARD_BYTES,
) -> list[str]:
  """Writes a Hugging Face directory from a checkpoint of ours; returns notes.

  checkpoint: a MODEL_DIR or checkpoint_<step>. Low-rank adapters are folded
  into their kernels. tokenizer_path, qformer_vocab: by default the MODEL_DIR's
  vocabularies. shard_bytes: the largest file. Raises UserError if the
  checkpoint cannot be read or a vocabulary does not fit; then nothing is left
  at out_dir.
  """
  return_large_blocks()
  qformer_vocab = qformer_vocab and local_file(qformer_vocab)
  reader = CheckpointReader(checkpoint)
  directory = Path(reader.directory)
  config, shapes, read = lora.folded(
    model_dir.read_config(directory), reader.shapes, reader.read
  )
  notes = _folding(reader.shapes, shapes)
  tokenizer = tokenizer_path or find_vocabulary(directory)
  bert = qformer_vocab or directory / model_dir.QFORMER_VOCABULARY
  bert = bert if Path(bert).is_file() or qformer_vocab else None
  step = int(reader.path.parent.name.rpartition('_')[2])
  with _progress(shapes.values()) as bar:
    write_pretrained(
      config,
      shapes,
      read,
      out_dir,
      tokenizer,
      qformer_vocab=bert,
      shard_bytes=shard_bytes,
      done=bar.advance,
      finish=lambda out: model_card.write_card(
        out, directory, step, pytorch=True
      ),
    )
  if tokenizer is None:
    notes.append(
      'without spiece.model there are no tokenizer files: name it with '
      '--vocabulary'
    )
  if bert is None and config.qformer.instruction:
    notes.append(
      "without BERT's vocab.txt there is no qformer_tokenizer: name it with "
      '--qformer_vocabulary'
    )
  return notes


def _folding(
  saved: Mapping[str, jax.ShapeDtypeStruct],
  written: Mapping[str, jax.ShapeDtypeStruct],
) -> list[str]:
  """A note on what becomes of low-rank adapters, if there are any."""
  if saved.keys() == written.keys():
    return []
  wider = [n for n, x in written.items() if x.dtype != saved[n].dtype]
  count = sum(name.endswith('/lora_a') for name in saved)
  note = f'adapters are folded into their kernels ({count} parameters)'
  if wider:
    note += (
      ', which are written in float32: rounded to the '
      f'{saved[wider[0]].dtype} of the others they would answer otherwise'
    )
  return [note]


def _progress(shapes: Iterable[jax.ShapeDtypeStruct]) -> ProgressBar:
  """A bar that shows how many of the parameters' bytes are written."""
  total = sum(math.prod(x.shape) * np.dtype(x.dtype).itemsize for x in shapes)
  return ProgressBar('parameters', total, text=size)

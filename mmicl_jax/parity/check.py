"""`mmicl convert check`: runs both models and reports where they differ."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mmicl_jax.checkpoints import model_dir
from mmicl_jax.convert.loading import (
  find_checkpoint,
  one_by_one,
  open_checkpoint,
  to_devices,
)
from mmicl_jax.convert.streaming import CheckpointReader
from mmicl_jax.decoding.options import Options
from mmicl_jax.inference.weights import hold_weights
from mmicl_jax.models import lora
from mmicl_jax.models.configs import MMICLConfig, with_execution
from mmicl_jax.parity import probes, torch_probes
from mmicl_jax.parity.inputs import random_inputs, read_inputs
from mmicl_jax.parity.report import TOLERANCE, ParityReport, compare
from mmicl_jax.training import stages

SETS = ('pretrain', 'tune')


def check_parity(
  source: str | os.PathLike,
  checkpoint: str | os.PathLike | None = None,
  *,
  inputs: str | os.PathLike | None = None,
  counts: Sequence[int] = (2, 0, 3),
  words: int = 0,
  seed: int = 0,
  tolerance: float = TOLERANCE,
  vit_eps: float | None = None,
  num_beams: int = 4,
  max_new_tokens: int = 12,
) -> ParityReport:
  """Runs `source` in PyTorch and `checkpoint` in JAX and compares the two.

  Both run in float32 on the CPU.
  checkpoint: a MODEL_DIR or checkpoint_<step>; None converts `source` in
  memory.
  inputs: an .npz file with the arrays of one Batch. Without it the inputs are
  random, with counts[b] images in row b and `words` words for the Q-Former.
  tolerance: of logits and layers, relative to the largest magnitude.
  vit_eps: the ViT's layer norm epsilon, where config.json does not decide it.
  Raises UserError if a file cannot be read or PyTorch is missing.
  """
  with jax.default_device(jax.devices('cpu')[0]):
    directory = find_checkpoint(source)
    config, params, notes = _ours(directory, checkpoint, vit_eps)
    if inputs is None:
      counts = list(counts)
      batch = random_inputs(config, counts, words=words, seed=seed)
    else:
      batch, counts = read_inputs(inputs, config)
    options = Options(num_beams=num_beams, max_new_tokens=max_new_tokens)
    union = tuple(p for name in SETS for p in stages.PROFILES[name])
    with jax.default_matmul_precision('highest'):
      ours = probes.trace_jax(config, params, batch, counts, union, options)
    del params
    theirs = torch_probes.trace_torch(
      torch_probes.load_model(directory, config),
      config,
      batch,
      counts,
      probes.trainable_names(config, union),
      options,
    )
  sets = {name: probes.trainable_names(config, name) for name in SETS}
  if not sum(counts):  # without images only T5 has gradients
    sets = {k: {n for n in v if n in theirs.gradients} for k, v in sets.items()}
  facts = _facts(source, checkpoint, config, counts, words, seed, inputs)
  rows = compare(ours, theirs, sets, tolerance)
  return ParityReport(tuple(rows), facts, tuple(notes))


def _ours(
  directory, checkpoint, vit_eps
) -> tuple[MMICLConfig, dict[str, Any], list[str]]:
  """Returns (configuration, float32 parameters of single layers, notes)."""
  if checkpoint is None:
    source = open_checkpoint(
      directory, dtype='float32', vit_eps=vit_eps, scan_layers=False
    )
    return source.config, to_devices(source), source.notes
  reader = CheckpointReader(checkpoint)
  config, shapes, read = lora.folded(
    model_dir.read_config(reader.directory), reader.shapes, reader.read
  )
  config = with_execution(
    config,
    dtype='float32',
    param_dtype='float32',
    remat='none',
    scan_layers=False,
  )
  parts = one_by_one(_InFloat32(config, shapes, read))
  params = hold_weights(parts, config)
  notes = [
    f"the ViT's layer norm runs at eps {config.vit.layer_norm_eps:g}, as "
    'model.json says'
  ]
  return config, params, notes


class _InFloat32(NamedTuple):
  """Reads a checkpoint's parameters one at a time, as float32."""

  config: MMICLConfig
  shapes: Mapping[str, jax.ShapeDtypeStruct]
  saved: Callable[[str], np.ndarray]

  def read(self, path: str) -> np.ndarray:
    return self.saved(path).astype('float32')


def _facts(source, checkpoint, config, counts, words, seed, inputs):
  import torch
  import transformers

  drawn = f'random, seed {seed}, {words} words for the Q-Former'
  return {
    'PyTorch': f'{source}, transformers {transformers.__version__}, '
    f'torch {torch.__version__}',
    'JAX': f'{checkpoint or "the same, converted"}, jax {jax.__version__}',
    'images a row': ', '.join(map(str, counts)),
    'inputs': str(inputs) if inputs else drawn,
    'language model': f'{config.t5.num_encoder_layers}+'
    f'{config.t5.num_decoder_layers} layers, width {config.t5.hidden_size}',
  }

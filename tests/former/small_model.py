"""The model of the former files: some ten thousand parameters."""

import dataclasses
import os

import mmicl_jax


def model(
  vocabulary: str | os.PathLike,
  width: int = 16,
  instruction: bool = True,
  scan_layers: bool = True,
  dropout_rate: float = 0.1,
  dropout_bits: str | None = None,
) -> mmicl_jax.MMICLConfig:
  """Its sizes, with as many words as the vocabulary has.

  dropout_bits: of the masks; the former commit had no such choice.
  """
  words = mmicl_jax.Tokenizer(vocabulary)
  change = dataclasses.replace
  full = mmicl_jax.MMICLConfig()
  execution = change(full.execution, scan_layers=scan_layers)
  if dropout_bits is not None:
    execution = change(execution, dropout_bits=dropout_bits)
  small = {'hidden_size': width, 'mlp_dim': width, 'num_heads': 2}
  return change(
    full,
    vit=change(full.vit, **small, num_layers=2, image_size=16, patch_size=8),
    qformer=change(
      full.qformer,
      **small,
      num_layers=2,
      num_queries=2,
      vocab_size=8,
      max_positions=4,
      instruction=instruction,
      dropout_rate=dropout_rate,
    ),
    t5=change(
      full.t5,
      **small,
      head_dim=width // 2,
      num_encoder_layers=2,
      num_decoder_layers=2,
      vocab_size=words.vocab_size,
      dropout_rate=dropout_rate,
    ),
    image_token=words.image_id,
    execution=execution,
  )

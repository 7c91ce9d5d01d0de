"""Turns the features of a SeqIO task into the padded batch of a model."""

from typing import Any

import seqio
import tensorflow as tf

from mmicl_jax.errors import UserError


class FeatureConverter(seqio.EncDecFeatureConverter):
  """Turns task features into a Batch; a row's images are u8[N, H, W, 3].

  Images cannot be packed: raises UserError if `pack` is True.
  """

  TASK_FEATURES = {
    **seqio.EncDecFeatureConverter.TASK_FEATURES,
    'images': seqio.FeatureConverter.FeatureSpec(dtype=tf.uint8, rank=4),
  }
  MODEL_FEATURES = {
    **seqio.EncDecFeatureConverter.MODEL_FEATURES,
    'encoder_images': seqio.FeatureConverter.FeatureSpec(
      dtype=tf.uint8, rank=4
    ),
  }
  RENAMED = {'images': 'encoder_images'}

  def __init__(self, pack: bool = False, **options: Any):
    if pack:
      raise UserError(
        'examples with images cannot be packed: set DatasetConfig.pack = False'
      )
    super().__init__(pack=False, **options)

  def _convert_example(self, features):
    extra = {new: features[old] for old, new in self.RENAMED.items()}
    return {**super()._convert_example(features), **extra}

  def get_model_feature_lengths(self, task_feature_lengths):
    """SeqIO's lengths of the model's features, with those of images."""
    extra = {n: task_feature_lengths[o] for o, n in self.RENAMED.items()}
    return {**super().get_model_feature_lengths(task_feature_lengths), **extra}


class InstructionFeatureConverter(FeatureConverter):
  """FeatureConverter with the words that InstructBLIP's Q-Former reads."""

  TASK_FEATURES = {
    **FeatureConverter.TASK_FEATURES,
    'qformer_inputs': seqio.FeatureConverter.FeatureSpec(dtype=tf.int32),
  }
  MODEL_FEATURES = {
    **FeatureConverter.MODEL_FEATURES,
    'qformer_input_tokens': seqio.FeatureConverter.FeatureSpec(dtype=tf.int32),
  }
  RENAMED = {
    **FeatureConverter.RENAMED,
    'qformer_inputs': 'qformer_input_tokens',
  }

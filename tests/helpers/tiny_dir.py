"""A MODEL_DIR of a random tiny model with a vocabulary of its own."""

import dataclasses

import jax

from mmicl_jax.checkpoints import model_dir, store
from mmicl_jax.models import configs
from mmicl_jax.models.mmicl import init_params
from mmicl_jax.tokenizer import Tokenizer, train_sentencepiece

TEXTS = ['image 0 is the red dog. what is it? yes no a cat', 'dog and cat'] * 9


def make(directory, instruction=False, texts=TEXTS):
  """Writes it and returns its configuration; texts: of its vocabulary."""
  vocabulary = directory / model_dir.VOCABULARY
  train_sentencepiece(texts, vocabulary, 50)
  tokenizer = Tokenizer(vocabulary)
  tiny = configs.TINY
  config = dataclasses.replace(
    tiny,
    qformer=dataclasses.replace(
      tiny.qformer, instruction=instruction, vocab_size=128, max_positions=96
    ),
    t5=dataclasses.replace(tiny.t5, vocab_size=tokenizer.vocab_size + 5),
    image_token=tokenizer.image_id,
  )
  params = jax.jit(init_params, static_argnums=0)(config, jax.random.key(0))
  store.save_weights(directory, params, step=7)
  model_dir.write_config(directory, config)
  return config

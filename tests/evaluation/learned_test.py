"""A small model that learns in context, and what attribution says of it.

Of three demonstrations one asks 'what is it?', as the query does, and tells the
answer; its place is drawn, and images are noise.
"""

import dataclasses
import json
import random

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmicl_jax.context.turns import Turn, assemble
from mmicl_jax.data.records import Record
from mmicl_jax.evaluation.attribution import prompt_scores
from mmicl_jax.evaluation.explanation import explain_records
from mmicl_jax.inference.engine import Engine
from mmicl_jax.inference.predictor import Predictor
from mmicl_jax.inference.prompts import see
from mmicl_jax.models.configs import TINY, T5Config, with_execution
from mmicl_jax.models.mmicl import MMICL, init_params, logits
from mmicl_jax.tokenizer import Tokenizer, train_sentencepiece

SHOTS, SIZE, BATCH, STEPS = 3, 8, 32, 120
LABELS = tuple('bdfgj')
TEXT = '{image} what is %s?'


def noise(rng):
  """The bytes of a small picture."""
  return f'P6 {SIZE} {SIZE} 255\n'.encode() + rng.randbytes(SIZE * SIZE * 3)


def example(key, labels, images):
  turns = [
    Turn(TEXT % ('it' if j == key else 'that'), [image], label)
    for j, (label, image) in enumerate(zip(labels, images, strict=False))
  ]
  return assemble(Turn(TEXT % 'it', images[-1:], labels[key]), turns)


def config_of(tokenizer):
  return with_execution(
    dataclasses.replace(
      TINY,
      vit=dataclasses.replace(
        TINY.vit, num_layers=1, image_size=SIZE, patch_size=4
      ),
      qformer=dataclasses.replace(
        TINY.qformer, num_layers=1, num_queries=1, instruction=False
      ),
      t5=T5Config(
        32, 2, 1, num_heads=4, head_dim=8, mlp_dim=64,
        vocab_size=tokenizer.vocab_size, dropout_rate=0.0,
      ),
      image_token=tokenizer.image_id,
    ),
    scan_layers=False,
  )  # fmt: skip


def batches(tokenizer, features):
  """Prompts with the key at each place, into which labels are written.

  features: of some images, f32[N, Q, E]; each prompt shows any of them.
  """
  spaces, ids = np.array([tokenizer.encode(label) for label in LABELS]).T
  rows, places = [], []
  for key in range(SHOTS):
    shown = example(key, LABELS[:SHOTS], [b''] * (SHOTS + 1))
    rows.append([*tokenizer.encode(shown.inputs), tokenizer.eos_id])
    places.append([rows[-1].index(i) for i in ids[:SHOTS]])  # each once
  rows, places = (np.array(x, np.int32) for x in (
    [row + [0] * (max(map(len, rows)) - len(row)) for row in rows], places
  ))  # fmt: skip
  rng = np.random.default_rng(0)
  while True:
    keys = rng.integers(SHOTS, size=BATCH)
    labels = rng.permuted(np.tile(ids, (BATCH, 1)), axis=1)[:, :SHOTS]
    tokens = rows[keys]
    np.put_along_axis(tokens, places[keys], labels.astype(np.int32), 1)
    ends = np.full(BATCH, tokenizer.eos_id)
    answers = np.stack(
      [spaces[:1].repeat(BATCH), labels[range(BATCH), keys], ends], 1
    )
    answers = answers.astype(np.int32)
    shown = rng.integers(len(features), size=(BATCH, SHOTS + 1))
    yield {
      'encoder_input_tokens': tokens,
      'encoder_features': features[shown],
      'decoder_input_tokens': np.pad(answers, ((0, 0), (1, 0)))[:, :-1],
      'decoder_target_tokens': answers,
      'decoder_loss_weights': np.ones_like(answers),
    }


def trained(config, tokenizer):
  model = MMICL(config)
  params = jax.jit(init_params, static_argnums=0)(config, jax.random.key(0))
  images = np.random.default_rng(0).integers(
    0, 256, (1, 32, SIZE, SIZE, 3), np.uint8
  )
  features = np.asarray(see(model, params, jnp.asarray(images)))[0]
  optimizer = optax.adam(optax.cosine_decay_schedule(4e-3, STEPS))

  @jax.jit
  def step(params, state, batch):
    def loss(params):
      found = logits(model, params, batch, {})
      targets = batch['decoder_target_tokens']
      return optax.softmax_cross_entropy_with_integer_labels(
        found, targets
      ).mean()

    value, gradients = jax.value_and_grad(loss)(params)
    updates, state = optimizer.update(gradients, state)
    return optax.apply_updates(params, updates), state, value

  state, losses = optimizer.init(params), []
  for _, batch in zip(range(STEPS), batches(tokenizer, features), strict=False):
    batch = {name: jnp.asarray(x) for name, x in batch.items()}
    params, state, value = step(params, state, batch)
    losses.append(value)
  return params, float(np.mean(losses[-20:]))


@pytest.mark.slow
def test_attribution_finds_what_the_model_learnt_from(tmp_path):
  # A space and a letter are two tokens, but for the last letter.
  texts = [f'what is it? that {label}' for label in (*LABELS, 'k')] * 3
  train_sentencepiece(texts, tmp_path / 'spiece.model', 60)
  tokenizer = Tokenizer(tmp_path / 'spiece.model')
  config = config_of(tokenizer)
  params, loss = trained(config, tokenizer)
  assert loss < 0.1, 'it has not learnt in context'
  predictor = Predictor(Engine(config, params, batch_size=64), tokenizer)

  rng, keys, chosen = random.Random(1), [], []
  for i in range(12):
    keys.append(rng.randrange(SHOTS))
    images = [noise(rng) for _ in range(SHOTS + 1)]
    one = example(keys[-1], rng.sample(LABELS, SHOTS), images)
    one = dataclasses.replace(one, name=f'prompt {i}')
    chosen.append((Record(one.inputs, images, one.targets), one))
  out = tmp_path / 'out'
  facts = {'checkpoint': 'c', 'input': 'i'}
  found = explain_records(chosen, {}, prompt_scores(predictor), out, facts)
  lines = [json.loads(line) for line in (out / 'explain.jsonl').open()]

  right = [
    int(np.argmax(line['carried'])) == key
    for key, line in zip(keys, lines, strict=True)
    if line['unchanged']['right']
  ]
  assert len(right) >= 11 and np.mean(right) >= 0.95
  rows = {row['kind']: row for row in found['effects']}
  for kind in ('swap_image', 'swap_all_images'):
    low, high = rows[kind]['change_interval']
    # Zero within the interval, or a hundredth of what a demonstration is worth.
    assert low <= 0 <= high or max(-low, high) < -rows['drop']['change'] / 100
    low, high = rows[kind]['accuracy_interval']
    assert low <= 0 <= high
  flipped = rows['flip_all_labels']
  assert flipped['accuracy'] < 0.1 and flipped['answers_changed'] > 0.9

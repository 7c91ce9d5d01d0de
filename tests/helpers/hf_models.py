"""Small random Hugging Face models, and batches for both frameworks."""

import sys

import numpy as np

if 'pytest' in sys.modules:  # transformers4.py has none
  import pytest

  pytest.importorskip('transformers')
  pytest.importorskip('torch')
import torch
import transformers

IMAGE = 90


def hf_model(kind='instructblip', seed=0, **changes):
  """InstructBLIP or BLIP-2 with T5, all weights random and not small.

  changes: to text_config as text_NAME, and so on for vision and qformer.
  """
  v = {
    'hidden_size': 32,
    'num_hidden_layers': 3,
    'num_attention_heads': 2,
    'intermediate_size': 48,
    'image_size': 28,
    'patch_size': 14,
  }
  q = {
    'hidden_size': 24,
    'num_hidden_layers': 5,
    'num_attention_heads': 3,
    'intermediate_size': 40,
    'vocab_size': 50,
    'max_position_embeddings': 16,
    'encoder_hidden_size': 32,
  }
  t = {
    'd_model': 36,
    'd_kv': 8,
    'd_ff': 56,
    'num_layers': 2,
    'num_decoder_layers': 2,
    'num_heads': 4,
    'vocab_size': 128,
    'feed_forward_proj': 'gated-gelu',
    'dense_act_fn': 'gelu',
    'tie_word_embeddings': False,
    'decoder_start_token_id': 0,
    'model_type': 't5',
  }
  parts = {'vision': v, 'qformer': q, 'text': t}
  for name, value in changes.items():
    part, key = name.split('_', 1)
    parts[part][key] = value
  prefix = {'instructblip': 'InstructBlip', 'blip-2': 'Blip2'}[kind]
  config = getattr(transformers, f'{prefix}Config')(
    vision_config=v,
    qformer_config=q,
    text_config=t,
    num_query_tokens=4,
    image_token_index=IMAGE,
  )
  # 4.x has no field for it; the model does not read it there.
  config.image_token_index = IMAGE
  torch.manual_seed(seed)
  model = getattr(transformers, f'{prefix}ForConditionalGeneration')(config)
  untie(model)
  with torch.no_grad():
    for name, p in model.named_parameters():
      # Of the size of trained weights: rounding errors do not grow.
      p.copy_(
        torch.randn_like(p) * (p[0].numel() ** -0.5 if p.ndim > 1 else 0.1)
      )
      if 'norm' in name.lower() and name.endswith('weight'):
        p.add_(1.0)
  return model.eval()


def untie(model):
  """Gives T5 a head of its own, as FLAN-T5 has; 5.x ties it at first."""
  head = model.language_model.lm_head
  head.weight = torch.nn.Parameter(head.weight.detach().clone())


def batch(counts, seed=0, instruction=0, length=32, queries=4, size=28):
  """A batch of ours: counts[b] images in row b, padded to the most."""
  rng = np.random.default_rng(seed)
  rows, most = len(counts), max(counts)
  tokens = np.zeros((rows, length), np.int32)
  images = np.zeros((rows, most, size, size, 3), np.float32)
  for b, count in enumerate(counts):
    ids = []
    for _ in range(count):
      ids += [*rng.integers(2, 80, rng.integers(0, 2)), *[IMAGE] * queries]
    ids += [*rng.integers(2, 80, rng.integers(1, 4)), 1]
    tokens[b, : len(ids)] = ids
    images[b, :count] = rng.normal(size=(count, size, size, 3))
  # Longer than the distances for which T5's relative buckets are exact (16).
  targets = rng.integers(2, 80, (rows, 20)).astype(np.int32)
  weights = np.ones((rows, 20), np.int32)
  targets[0, 14:], weights[0, 14:] = 0, 0
  inputs = np.roll(targets, 1, 1)
  inputs[:, 0] = 0
  out = {
    'encoder_input_tokens': tokens,
    'decoder_input_tokens': inputs,
    'decoder_target_tokens': targets,
    'decoder_loss_weights': weights,
  }
  if most:
    out['encoder_images'] = images
  if instruction:
    words = rng.integers(1, 50, (rows, instruction)).astype(np.int32)
    words[-1, instruction // 2 :] = 0
    out['qformer_input_tokens'] = words
  return out


def hf_arguments(ours, counts):
  """The same batch as transformers 5's forward takes it."""
  tokens = torch.tensor(ours['encoder_input_tokens']).long()
  targets = torch.tensor(ours['decoder_target_tokens']).long()
  weights = torch.tensor(ours['decoder_loss_weights'])
  pixels = [ours['encoder_images'][b, :n] for b, n in enumerate(counts)]
  pixels = np.concatenate(pixels).transpose(0, 3, 1, 2)
  out = {
    'input_ids': tokens,
    'attention_mask': (tokens != 0).long(),
    'pixel_values': torch.tensor(np.ascontiguousarray(pixels)),
    'labels': targets.masked_fill(weights == 0, -100),
  }
  if 'qformer_input_tokens' in ours:
    words = torch.tensor(ours['qformer_input_tokens']).long()
    words = words.repeat_interleave(torch.tensor(counts), 0)
    out['qformer_input_ids'] = words
    out['qformer_attention_mask'] = (words != 0).long()
  return out

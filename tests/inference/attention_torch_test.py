"""The same attention as transformers' `output_attentions`."""

import hf_models
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import t5_pair
from hf_models import torch

from mmicl_jax.convert.loading import load_pretrained
from mmicl_jax.inference.attention import answer_attention
from mmicl_jax.inference.engine import Engine
from mmicl_jax.inference.prompts import Request
from mmicl_jax.models.attended import look_at_images
from mmicl_jax.models.mmicl import MMICL

pytestmark = pytest.mark.slow


def test_the_decoder_looks_where_theirs_does():
  theirs, _, params = t5_pair.make()
  theirs.set_attn_implementation('eager')
  engine = Engine(t5_pair.CONFIG, params)
  rng = np.random.default_rng(0)
  prompts = [
    np.append(rng.integers(2, 32, n), 1).astype(np.int32) for n in (5, 12)
  ]
  answers = [[4, 9, 17], [8]]
  found = answer_attention(
    engine, [Request(tokens) for tokens in prompts], answers
  )
  for one, tokens, answer in zip(found, prompts, answers, strict=True):
    with torch.no_grad():
      seen = theirs(
        input_ids=torch.tensor(tokens[None]).long(),
        decoder_input_ids=torch.tensor([[0, *answer[:-1]]]),
        output_attentions=True,
      ).cross_attentions
    wanted = np.stack([x.numpy() for x in seen]).mean((0, 1, 2, 3))
    np.testing.assert_allclose(one.prompt, wanted, atol=1e-5)


def test_the_queries_look_where_theirs_do(tmp_path):
  theirs = hf_models.hf_model('blip-2')
  theirs.save_pretrained(tmp_path)
  theirs.qformer.set_attn_implementation('eager')
  config, params, _ = load_pretrained(tmp_path)
  images = np.random.default_rng(0).normal(size=(1, 2, 28, 28, 3))
  images = images.astype(np.float32)
  found = jax.jit(look_at_images, static_argnums=0)(
    MMICL(config), params, jnp.asarray(images)
  )
  with torch.no_grad():
    pixels = torch.tensor(images[0]).permute(0, 3, 1, 2)
    seen = theirs.qformer(
      query_embeds=theirs.query_tokens.expand(2, -1, -1),
      encoder_hidden_states=theirs.vision_model(pixels)[0],
      output_attentions=True,
    ).cross_attentions
  wanted = np.stack([x.numpy() for x in seen if x is not None]).mean((0, 2))
  np.testing.assert_allclose(found[0], wanted, atol=1e-5)

"""Batches of ragged prompts: whatever their company, the same answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import t5_pair

from mmicl_jax import engine as engines
from mmicl_jax import partitioning
from mmicl_jax.engine import Engine, Prompt, bucket, prompts_of
from mmicl_jax.lru import Lru
from mmicl_jax.models.stacking import stack_layers, unstack_layers
from mmicl_jax.options import Options

Q = t5_pair.CONFIG.qformer.num_queries
SIZE = t5_pair.CONFIG.vit.image_size
GREEDY = Options(max_new_tokens=7)
BEAMS = Options(max_new_tokens=7, num_beams=3, num_return_sequences=2)
SAMPLES = Options(max_new_tokens=7, do_sample=True, temperature=2.0, seed=5)


def make_prompts(counts, seed=0):
  """A prompt for each number of images, of different lengths."""
  rng = np.random.default_rng(seed)
  prompts = []
  for count in counts:
    parts = [rng.integers(2, 32, rng.integers(2, 5))]
    images = []
    for _ in range(count):
      images.append(rng.integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8))
      parts += [np.full(Q, t5_pair.IMAGE), rng.integers(2, 32, 2)]
    tokens = np.concatenate([*parts, [1]]).astype(np.int32)
    prompts.append(Prompt(tokens, tuple(images)))
  return prompts


PROMPTS = make_prompts([2, 0, 5, 1, 3, 0, 4])


@pytest.fixture(scope='module')
def pair():
  return t5_pair.make()


@pytest.fixture(scope='module')
def engine(pair):
  return Engine(t5_pair.CONFIG, pair[2], batch_size=4)


def assert_same(a, b, atol=1e-5):
  assert len(a) == len(b)
  for x, y in zip(a, b, strict=True):
    np.testing.assert_array_equal(x.tokens, y.tokens)
    np.testing.assert_array_equal(x.lengths, y.lengths)
    np.testing.assert_allclose(x.scores, y.scores, atol=atol)


@pytest.mark.parametrize('options', [GREEDY, BEAMS], ids=['greedy', 'beams'])
def test_ragged_images_as_in_transformers(pair, engine, options):
  """transformers reads one row at a time; we read them packed and sorted."""
  import torch

  theirs, model, params = pair
  got = engine.generate(PROMPTS, options)
  for prompt, result in zip(PROMPTS, got, strict=True):
    tokens = jnp.asarray(prompt.tokens)[None]

    def embed(module, tokens=tokens, prompt=prompt):
      x = module.t5.embed(tokens)
      if not prompt.images:
        return x
      visual = module.embed_images(jnp.asarray(np.stack(prompt.images))[None])
      visual = visual.reshape(1, -1, visual.shape[-1])
      return engines.splice(x, visual, tokens == t5_pair.IMAGE)

    x = model.apply({'params': params}, method=embed)
    output = theirs.generate(
      inputs_embeds=torch.tensor(np.asarray(x)),
      attention_mask=torch.ones(x.shape[:2], dtype=torch.long),
      max_new_tokens=options.max_new_tokens,
      num_beams=options.num_beams,
      num_return_sequences=options.num_return_sequences,
      do_sample=False,
    )
    for k, row in enumerate(output[:, 1:].numpy()):
      length = result.lengths[k]
      np.testing.assert_array_equal(result.tokens[k, :length], row[:length])
      assert length == options.max_new_tokens or row[length - 1] == 1


@pytest.mark.parametrize(
  'options', [GREEDY, BEAMS, SAMPLES], ids=['greedy', 'beams', 'samples']
)
def test_alone_and_in_any_batch(engine, options):
  together = engine.generate(PROMPTS, options)
  assert_same(engine.generate(PROMPTS[::-1], options)[::-1], together)
  alone = [engine.generate([prompt], options)[0] for prompt in PROMPTS[2:4]]
  assert_same(alone, together[2:4])


def test_equal_prompts_get_different_samples(engine):
  first, second = engine.generate([PROMPTS[0]] * 2, SAMPLES)
  assert (first.tokens != second.tokens).any()


def test_an_image_is_encoded_once_and_padding_never(engine, pair, monkeypatch):
  encoded = []

  def embed(model, params, images, words):
    encoded.append(len(images))
    return real(model, params, images, words)

  real = engines._embed
  monkeypatch.setattr(engines, '_embed', embed)
  fresh = Engine(t5_pair.CONFIG, pair[2], batch_size=4)
  shared = PROMPTS[2].images  # five images, asked about three times
  questions = [
    Prompt(np.append(PROMPTS[2].tokens, i).astype(np.int32), shared)
    for i in (4, 5, 6)
  ]
  first = fresh.generate(questions, GREEDY)
  assert sum(encoded) == 5
  assert_same(fresh.generate(questions, GREEDY), first)
  assert sum(encoded) == 5
  small = Engine(t5_pair.CONFIG, pair[2], batch_size=1, cache_bytes=0)
  assert_same(small.generate(questions, GREEDY), first)
  assert sum(encoded) == 20


def test_the_cache_is_bounded():
  cache = Lru(100)
  for i in range(5):
    cache.put(i, np.zeros(40, np.uint8))
    assert cache.num_bytes <= 100
    cache.get(0)
  assert [i in cache for i in range(5)] == [True, False, False, False, True]
  cache.put(9, np.zeros(101, np.uint8))
  assert 9 not in cache and 0 in cache


def test_padded_batch_is_the_same_prompts(engine):
  """`decode` takes a Batch with padding images and padding tokens."""
  length = max(len(p.tokens) for p in PROMPTS) + 3
  tokens = np.zeros((len(PROMPTS), length), np.int32)
  images = np.full((len(PROMPTS), 6, SIZE, SIZE, 3), 77, np.uint8)
  for i, prompt in enumerate(PROMPTS):
    tokens[i, : len(prompt.tokens)] = prompt.tokens
    for j, image in enumerate(prompt.images):
      images[i, j] = image
  batch = {'encoder_input_tokens': tokens, 'encoder_images': images}
  found = prompts_of(batch, Q, t5_pair.IMAGE)
  assert [p.key for p in found] == [p.key for p in PROMPTS]
  # The whole model on the padded batch agrees with the packed scores.
  candidates = [[[5, 6, 1]]] * len(PROMPTS)
  [[want], *_] = engine.score(PROMPTS, candidates)
  targets = np.array([[5, 6, 1]] * len(PROMPTS), np.int32)
  batch['decoder_input_tokens'] = np.pad(targets, ((0, 0), (1, 0)))[:, :-1]
  logits = engine.logits(jax.tree.map(jnp.asarray, batch))
  log_probs = jax.nn.log_softmax(logits)[0, jnp.arange(3), targets[0]]
  np.testing.assert_allclose(want, log_probs, atol=1e-5)


def test_many_candidates_on_one_encoding(engine, monkeypatch):
  rng = np.random.default_rng(1)
  candidates = [
    [rng.integers(2, 32, rng.integers(1, 6)).tolist() for _ in range(n)]
    for n in (100, 1, 7)
  ]
  scores = engine.score(PROMPTS[:3], candidates)
  assert [len(own) for own in scores] == [100, 1, 7]
  for own, texts in zip(scores, candidates, strict=True):
    assert [len(s) for s in own] == [len(t) for t in texts]
  [[alone]] = engine.score([PROMPTS[0]], [[candidates[0][42]]])
  np.testing.assert_allclose(scores[0][42], alone, atol=1e-5)
  monkeypatch.setattr(engines, 'MAX_LOGITS', 4 * 8 * t5_pair.VOCABULARY * 16)
  in_groups = engine.score(PROMPTS[:3], candidates)
  for own, grouped in zip(scores, in_groups, strict=True):
    for a, b in zip(own, grouped, strict=True):
      np.testing.assert_allclose(a, b, atol=1e-5)


def test_stream_ends_as_generate(engine):
  for options in (GREEDY, SAMPLES):
    [whole] = engine.generate([PROMPTS[1]], options)
    pieces = list(engine.stream(PROMPTS[1], options, every=3))
    answer = whole.tokens[0, : whole.lengths[0]]
    np.testing.assert_array_equal(pieces[-1], answer)
    for shorter, longer in zip(pieces, pieces[1:], strict=False):
      assert len(shorter) < len(longer)
      np.testing.assert_array_equal(shorter, longer[: len(shorter)])


@pytest.mark.devices(8)
def test_eight_devices_as_one(pair, engine):
  mesh = partitioning.make_mesh(data=2, fsdp=2, tensor=2)
  sharded = Engine(t5_pair.CONFIG, pair[2], batch_size=3, mesh=mesh)
  kernel = sharded.params['t5']['decoder']['layers_0']['mlp']['wi_0']['kernel']
  assert len(kernel.sharding.device_set) == 8
  assert not kernel.sharding.is_fully_replicated
  for options in (GREEDY, BEAMS):
    want = engine.generate(PROMPTS[:4], options)
    assert_same(sharded.generate(PROMPTS[:4], options), want)


def test_few_shapes():
  for least in (1, 8, 16):
    sizes = [bucket(n, least) for n in range(1, 2000)]
    assert all(s >= n for n, s in enumerate(sizes, 1))
    assert len(set(sizes)) <= 23
    assert max(s / max(n, least) for n, s in enumerate(sizes, 1)) <= 2


def test_unstacking_is_undone_by_stacking(pair):
  params = pair[2]
  stacked = stack_layers(params)
  names = {path[0].key for path, _ in jax.tree.leaves_with_path(stacked)}
  assert names == set(params)
  assert 'layers' in stacked['t5']['encoder'] and 'groups' in stacked['qformer']
  assert 'layers_0' not in stacked['t5']['encoder']
  again = unstack_layers(stacked)
  assert jax.tree.structure(again) == jax.tree.structure(params)
  jax.tree.map(np.testing.assert_array_equal, again, params)

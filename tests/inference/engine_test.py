"""Batches of ragged prompts: whatever their company, the same answers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import t5_pair
from stacked import stack_layers

from mmicl_jax.data import feature_store
from mmicl_jax.decoding.options import Options
from mmicl_jax.errors import UserError
from mmicl_jax.inference import engine as engines
from mmicl_jax.inference import prompts as reading
from mmicl_jax.inference.engine import Engine
from mmicl_jax.inference.prompts import Request, bucket, requests_of
from mmicl_jax.models import partitioning
from mmicl_jax.models.stacking import unstack_layers

pytestmark = pytest.mark.slow  # one model is compiled for all of them

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
    prompts.append(Request(tokens, tuple(images)))
  return prompts


PROMPTS = make_prompts([2, 0, 5, 1, 3])


@pytest.fixture(scope='module')
def pair():
  # Queries of T5's size: these tests compare sums in different orders.
  return t5_pair.make(seed=31, queries=t5_pair.CONFIG.t5.head_dim**-0.5)


@pytest.fixture(scope='module')
def engine(pair):
  """One that remembers no prompts: company must not matter to fresh ones."""
  return Engine(t5_pair.CONFIG, pair[2], batch_size=3, prompt_cache_bytes=0)


def assert_same(a, b, atol=1e-5):
  assert len(a) == len(b)
  for x, y in zip(a, b, strict=True):
    np.testing.assert_array_equal(x.tokens, y.tokens)
    np.testing.assert_array_equal(x.lengths, y.lengths)
    np.testing.assert_allclose(x.scores, y.scores, atol=atol)


def embedded(model, images):
  return model.projector(model.read_images(images))


@functools.partial(jax.jit, static_argnums=0)
def embed_one(model, params, image):
  return model.apply({'params': params}, image[None, None], method=embedded)[
    0, 0
  ]


@pytest.mark.parametrize('options', [GREEDY, BEAMS], ids=['greedy', 'beams'])
def test_ragged_images_as_in_transformers(pair, engine, options):
  """transformers reads one row at a time; we read them packed and sorted."""
  import torch

  theirs, model, params = pair
  got = engine.generate(PROMPTS, options)
  words = np.asarray(params['t5']['token_embedder']['embedding'])
  for prompt, result in zip(PROMPTS, got, strict=True):
    x = words[prompt.tokens]
    if prompt.images:
      x[prompt.tokens == t5_pair.IMAGE] = np.concatenate(
        [embed_one(model, params, image) for image in prompt.images]
      )
    x = x[None]
    output = theirs.generate(
      inputs_embeds=torch.tensor(x),
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
  assert_same(engine.generate(PROMPTS[2:3], options), together[2:3])


def test_equal_prompts_get_different_samples(engine):
  first, second = engine.generate([PROMPTS[0]] * 2, SAMPLES)
  assert (first.tokens != second.tokens).any()


@pytest.fixture
def encoded(monkeypatch):
  """How many images and prompts were encoded so far."""
  counts = {'images': 0, 'prompts': 0}
  see, encode = reading.see, reading._encode

  def count_images(model, params, images, words):
    counts['images'] += len(images)
    return see(model, params, images, words)

  def count_prompts(model, params, tokens, features):
    counts['prompts'] += int((tokens != 0).any(1).sum())
    return encode(model, params, tokens, features)

  monkeypatch.setattr(reading, 'see', count_images)
  monkeypatch.setattr(reading, '_encode', count_prompts)
  return counts


def test_an_image_is_encoded_once_and_padding_never(pair, encoded):
  fresh = Engine(t5_pair.CONFIG, pair[2], batch_size=3, prompt_cache_bytes=0)
  shared = PROMPTS[2].images  # five images, asked about three times
  questions = [
    Request(np.append(PROMPTS[2].tokens, i).astype(np.int32), shared)
    for i in (4, 5, 6)
  ]
  first = fresh.generate(questions, GREEDY)
  assert encoded == {'images': 5, 'prompts': 3}
  assert_same(fresh.generate(questions, GREEDY), first)
  assert encoded == {'images': 5, 'prompts': 6}
  small = Engine(
    t5_pair.CONFIG,
    pair[2],
    batch_size=1,
    cache_bytes=0,
    prompt_cache_bytes=0,
  )
  assert_same(small.generate(questions, GREEDY), first)
  assert encoded['images'] == 20


def test_a_prompt_is_read_once(pair, engine, encoded):
  """Other options, candidates, order and company: nothing is encoded again."""
  fresh = Engine(t5_pair.CONFIG, pair[2], batch_size=3)
  prompts = [PROMPTS[i] for i in (0, 1, 3)]
  fresh.generate([*prompts, prompts[1]], GREEDY)  # the same one twice
  assert encoded['prompts'] == 3
  repeated = [prompts[2], prompts[0], prompts[2], prompts[0]]
  found = fresh.generate(repeated, BEAMS)
  scores = fresh.score(prompts[:1], [[[5, 6, 1], [7, 1]]])
  pieces = list(fresh.stream(prompts[1], GREEDY))
  assert encoded['prompts'] == 3
  assert_same(found, engine.generate(repeated, BEAMS))
  for own, want in zip(
    scores[0], engine.score(prompts[:1], [[[5, 6, 1], [7, 1]]])[0], strict=True
  ):
    np.testing.assert_allclose(own, want, atol=1e-5)
  [whole] = engine.generate([prompts[1]], GREEDY)
  np.testing.assert_array_equal(pieces[-1], whole.tokens[0, : whole.lengths[0]])
  before = encoded['prompts']
  longer = Request(np.append(prompts[1].tokens, 5), prompts[1].images)
  fresh.generate([longer], GREEDY)
  assert encoded['prompts'] == before + 1
  fresh.reader.forget(images=False)
  fresh.generate(prompts[:1], GREEDY)
  assert encoded['prompts'] == before + 2


def test_warmed_up_nothing_is_compiled(pair):
  fresh = Engine(t5_pair.CONFIG, pair[2], batch_size=2)
  options = Options(max_new_tokens=3)
  # Two numbers of rows, and 16, 32 tokens.
  assert fresh.warm_up(options, longest=20) == 4
  functions = (reading.see, reading._encode, engines._answer)
  before = [function._cache_size() for function in functions]
  some = [p for p in PROMPTS if len(p.tokens) <= 32]
  assert len({len(p.images) for p in some}) > 3
  fresh.generate(some, options)
  fresh.generate(some[:1], options)
  assert [function._cache_size() for function in functions] == before


def ask(folder, params, **changes):
  settings = {'cache_dir': folder, 'cache_bytes': 0, **changes}
  engine = Engine(t5_pair.CONFIG, params, **settings)
  return engine.generate(PROMPTS[3:5], GREEDY)


def test_features_are_kept_on_disk(pair, encoded, tmp_path):
  first = ask(tmp_path, pair[2])
  assert encoded['images'] == 4
  assert_same(ask(tmp_path, pair[2]), first, atol=0)
  assert encoded['images'] == 4
  # Other weights see other things, however little they differ.
  ask(tmp_path, {**pair[2], 'query_tokens': pair[2]['query_tokens'] + 1e-6})
  assert encoded['images'] == 8
  ask(tmp_path, pair[2], weights='int8')
  assert encoded['images'] == 12
  assert len(list(tmp_path.iterdir())) == 3
  (tmp_path / 'file').touch()
  with pytest.raises(UserError, match='choose another cache_dir'):
    Engine(t5_pair.CONFIG, pair[2], cache_dir=tmp_path / 'file')


def test_damaged_features_are_made_anew(pair, encoded, tmp_path):
  first = ask(tmp_path, pair[2])
  [shard] = tmp_path.rglob('features-00000.npy')
  whole = shard.read_bytes()
  flipped = bytearray(whole)
  flipped[-1] ^= 1  # in the last image's features
  shard.write_bytes(flipped)
  for _ in range(2):  # the new row is found, though the old one is there
    assert_same(ask(tmp_path, pair[2]), first)
    assert encoded['images'] == 5
  shard.write_bytes(whole[:-9])
  assert_same(ask(tmp_path, pair[2]), first)
  assert encoded['images'] == 8
  (shard.parent / feature_store.INDEX).write_text('{}')
  assert_same(ask(tmp_path, pair[2]), first)
  assert encoded['images'] == 8


def test_several_processes_add_to_one_folder(pair, encoded, tmp_path):
  """Each finds what the others have added since it began."""
  engines = [
    Engine(t5_pair.CONFIG, pair[2], cache_dir=tmp_path, cache_bytes=0)
    for _ in range(2)
  ]
  for i, count in enumerate((1, 4)):
    for engine in engines:
      engine.generate(PROMPTS[3 + i : 4 + i], GREEDY)
      assert encoded['images'] == count
  assert len(list(tmp_path.rglob('*.keys.npy'))) == 2


def test_long_calls_write_now_and_then(pair, tmp_path, monkeypatch):
  monkeypatch.setattr(reading, 'PER_SHARD', 2)
  ask(tmp_path, pair[2], batch_size=1)
  assert len(list(tmp_path.rglob('*.keys.npy'))) == 2


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
  found = requests_of(batch, Q, t5_pair.IMAGE)
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


def test_stream_ends_as_generate(engine, monkeypatch):
  advance, given = engines._advance, []

  def record(model, params, prompt, state, *rest):
    given.append(state.cache)
    return advance(model, params, prompt, state, *rest)

  monkeypatch.setattr(engines, '_advance', record)
  for options in (GREEDY, SAMPLES):
    [whole] = engine.generate([PROMPTS[1]], options)
    pieces = list(engine.stream(PROMPTS[1], options, every=3))
    answer = whole.tokens[0, : whole.lengths[0]]
    np.testing.assert_array_equal(pieces[-1], answer)
    for shorter, longer in zip(pieces, pieces[1:], strict=False):
      assert len(shorter) < len(longer)
      np.testing.assert_array_equal(shorter, longer[: len(shorter)])
  # Donated: two caches at a time are never held.
  assert given and all(x.is_deleted() for x in jax.tree.leaves(given))


@pytest.mark.devices(8)
def test_eight_devices_as_one(pair, engine):
  mesh = partitioning.make_mesh(data=2, fsdp=2, tensor=2)
  sharded = Engine(t5_pair.CONFIG, pair[2], batch_size=3, mesh=mesh)
  kernel = sharded.params['t5']['decoder']['layers_0']['mlp']['wi_0']['kernel']
  assert len(kernel.sharding.device_set) == 8
  assert not kernel.sharding.is_fully_replicated
  read = sharded.reader.read(PROMPTS[:4])
  assert read.memory[0].key.sharding.shard_shape((4, 2, 1, 1)) == (1, 1, 1, 1)
  # The second and third ask again about prompts that were read for the first.
  for options in (GREEDY, BEAMS, SAMPLES):
    want = engine.generate(PROMPTS[:4], options)
    assert_same(sharded.generate(PROMPTS[:4], options), want)
  candidates = [[[5, 6, 1], [7, 1]]] * 4
  for own, want in zip(
    sharded.score(PROMPTS[3::-1], candidates),
    engine.score(PROMPTS[3::-1], candidates),
    strict=True,
  ):
    for a, b in zip(own, want, strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


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


def test_prompts_are_padded_by_less_than_a_quarter():
  lengths = [reading.prompt_length(n) for n in range(1, 1025)]
  assert sorted(set(lengths))[:9] == [16, 32, 48, 64, 96, 128, 160, 192, 224]
  assert len(set(lengths)) == 18
  assert all(n <= padded for n, padded in enumerate(lengths, 1))
  assert all(4 * p < 5 * n for n, p in enumerate(lengths, 1) if n > 128)

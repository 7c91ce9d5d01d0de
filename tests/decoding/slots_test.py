"""Slots give every row what a batch of its own gives, whatever else runs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import t5_pair

from mmicl_jax.decoding import loop, row_options, slots
from mmicl_jax.decoding.options import Options, split_options
from mmicl_jax.decoding.scores import row_keys
from mmicl_jax.models.mmicl import MMICL, init_params

LENGTH, WIDTH, ROWS = 9, 12, 4
CONFIG = t5_pair.CONFIG

OPTIONS = {
  'greedy': {},
  'short': {'max_new_tokens': 3},
  'bigrams': {'no_repeat_ngram_size': 2, 'repetition_penalty': 0.4},
  'long': {
    'no_repeat_ngram_size': 1,
    'min_new_tokens': 2,
    'repetition_penalty': 1.7,
  },
  'all tokens': {'do_sample': True, 'top_k': 0, 'temperature': 1.5},
  'few tokens': {'do_sample': True, 'top_k': 5, 'seed': 2**40 + 3},
  'nucleus': {'do_sample': True, 'top_k': 0, 'top_p': 0.8, 'temperature': 2.0},
  'both': {'do_sample': True, 'top_k': 70, 'top_p': 0.7, 'seed': -4},
}


@pytest.fixture(scope='module')
def pair():
  """(model, parameters), without transformers."""
  params = jax.jit(init_params, static_argnums=0)(CONFIG, jax.random.key(3))
  params['t5']['lm_head']['kernel'] *= 4  # answers that differ
  params['t5']['lm_head']['kernel'] *= np.where(np.arange(40) == 1, 2.2, 1)
  return MMICL(CONFIG), params


@functools.partial(jax.jit, static_argnums=0)
def read(model, params, tokens):
  batch = {'encoder_input_tokens': tokens}
  encoded = model.apply({'params': params}, batch, method='encode')
  return loop.prefill(model, params, encoded, tokens != 0)


decode = jax.jit(loop.decode, static_argnums=(0, 4))
insert = jax.jit(slots.insert, donate_argnums=0)
advance = jax.jit(slots.advance_slots, static_argnums=0)
empty = jax.jit(slots.empty_slots, static_argnums=(0, 3, 4))


def prompts(count):
  rng = np.random.default_rng(7)
  tokens = rng.integers(2, 30, (count, WIDTH)).astype(np.int32)
  for row, length in zip(tokens, rng.integers(3, WIDTH, count), strict=True):
    row[length:] = 0
    row[length - 1] = 1
  return tokens


TOKENS = prompts(len(OPTIONS))


def alone(pair, i, options, number):
  """(tokens, log-probabilities) of a prompt in a batch of its own."""
  static, dynamic = split_options(options, LENGTH)
  keys = row_keys(options.seed, jnp.array([number], jnp.uint32))
  memory = read(*pair, TOKENS[i : i + 1])
  found = decode(*pair, memory, keys, static, dynamic)
  count = int(found.lengths[0, 0])
  return found.tokens[0, 0, :count], found.log_probs[0, 0, :count]


def test_rows_that_come_and_go_are_as_alone(pair, monkeypatch):
  """Eight rows pass through four slots; some leave early, or pause."""
  monkeypatch.setattr(row_options, 'FEW', 8)
  monkeypatch.setattr(slots, 'SHORT', 6)
  cases = [
    Options(**{'max_new_tokens': LENGTH, **changes})
    for changes in OPTIONS.values()
  ]
  memory = read(*pair, TOKENS)
  state = empty(*pair, read(*pair, TOKENS[:1]), ROWS, LENGTH)
  found = {
    i: {'tokens': [], 'log_probs': [], 'top': []} for i in range(len(cases))
  }
  waiting, rows, left, chunks = list(found), {}, {2, 5}, 0
  ran_alone = set()
  while waiting or rows:
    for slot in range(ROWS):
      if slot not in rows and waiting:
        i = rows[slot] = waiting.pop(0)
        options = row_options.row_options(
          cases[i], 100 + i, top=3 if i == 1 else 0
        )
        state = insert(state, memory, i, slot, options)
    chunks += 1
    # Now and then two of them run without the others, whichever they are.
    few = len(rows) > 1 and chunks % 3 == 0
    run = [*rows][:-3:-1] if few else [*range(ROWS)]
    ran_alone |= {*run} if few else set()
    active = np.array([slot in rows for slot in run])
    active[chunks % 2 :: 2] = False
    state, new = advance(*pair, state, np.array(run, np.int32), active)
    for place, slot in enumerate(run):
      count = int(new.counts[place])
      assert active[place] or not count
      if slot not in rows:
        continue
      i = rows[slot]
      found[i]['tokens'] += new.tokens[place, :count].tolist()
      found[i]['log_probs'] += new.log_probs[place, :count].tolist()
      found[i]['top'] += list(
        zip(
          new.top_tokens[place, :count],
          new.top_log_probs[place, :count],
          strict=True,
        )
      )
      if bool(new.done[place]) or (i in left and count):
        del rows[slot]
  assert len(ran_alone) > 2
  lengths = set()
  for i, options in enumerate(cases):
    tokens, log_probs = alone(pair, i, options, 100 + i)
    got = found[i]
    count = len(got['tokens'])
    if i in left:
      tokens, log_probs = tokens[:count], log_probs[:count]
    assert got['tokens'] == tokens.tolist(), options
    np.testing.assert_allclose(got['log_probs'], log_probs, atol=1e-5)
    lengths.add(count)
  assert len(lengths) > 2
  for token, log_prob, (ids, values) in zip(
    *(found[1][name] for name in ('tokens', 'log_probs', 'top')), strict=True
  ):
    assert (np.diff(values) <= 0).all()
    [place] = np.flatnonzero(ids == token)
    assert values[place] == pytest.approx(log_prob, abs=1e-6)

"""Options at their edges: taken, or refused in a sentence that names them."""

import dataclasses
import fractions
import importlib.util
import itertools
import json
import math
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from mmicl_jax.decoding import options as checked
from mmicl_jax.decoding.room import check_room, device_memory
from mmicl_jax.decoding.scores import row_keys
from mmicl_jax.errors import UserError
from mmicl_jax.models import configs

NAN, INF = math.nan, math.inf


def as_users_have_it():
  """The module without the type checks that only tests switch on."""
  spec = importlib.util.spec_from_file_location('options', checked.__file__)
  assert spec and spec.loader
  module = importlib.util.module_from_spec(spec)
  sys.modules['options'] = module  # for dataclasses
  spec.loader.exec_module(module)
  return module


plain = as_users_have_it()
Options: type = plain.Options


@pytest.mark.parametrize(
  'options, words',
  [
    ({'num_beams': 0}, 'num_beams is 0: give at least 1'),
    ({'num_beams': 2.5}, 'num_beams is 2.5: give a whole number'),
    ({'num_beams': '5'}, "num_beams is '5': give a whole number"),
    ({'num_beams': True}, 'num_beams is True: give a whole number'),
    ({'num_beams': None}, 'num_beams is None: give a whole number'),
    ({'max_new_tokens': 0}, 'max_new_tokens is 0: give at least 1'),
    ({'max_new_tokens': 2**31}, 'give at most 2147483647'),
    ({'max_new_tokens': 1e3}, 'max_new_tokens is 1000.0: give a whole'),
    ({'min_new_tokens': -1}, 'min_new_tokens is -1: give at least 0'),
    ({'min_new_tokens': 51}, 'min_new_tokens is 51 but max_new_tokens is 50'),
    ({'length_penalty': NAN}, 'length_penalty is nan: give a finite'),
    ({'length_penalty': -INF}, 'length_penalty is -inf: give a finite'),
    ({'length_penalty': '1'}, "length_penalty is '1': give a number"),
    ({'length_penalty': 20}, 'length_penalty is 20.0: .* between -17.6 and'),
    ({'length_penalty': False}, 'length_penalty is False: give a number'),
    ({'early_stopping': 'often'}, "early_stopping is 'often': give True"),
    ({'early_stopping': 1}, "early_stopping is 1: give True, False, 'never'"),
    ({'early_stopping': None}, 'early_stopping is None'),
    ({'num_return_sequences': 0}, 'num_return_sequences is 0'),
    ({'num_return_sequences': 2}, 'num_return_sequences is 2 but num_beams'),
    (
      {'num_return_sequences': 3, 'num_beams': 2, 'do_sample': True},
      'num_return_sequences is 3 but num_beams is 2',
    ),
    ({'do_sample': 1}, 'do_sample is 1: give True or False'),
    ({'do_sample': 'yes'}, "do_sample is 'yes': give True or False"),
    ({'temperature': 0.0}, 'temperature is 0.0: give more than 0'),
    ({'temperature': -1}, 'temperature is -1: give more than 0'),
    ({'temperature': INF}, 'temperature is inf: give a finite'),
    ({'temperature': NAN}, 'temperature is nan: give a finite'),
    ({'temperature': 10**400}, 'temperature is 1.*0: give a finite'),
    ({'temperature': 1e-40}, 'temperature is 1e-40: give a number between'),
    ({'temperature': None}, 'temperature is None: give a number'),
    ({'top_k': -1}, 'top_k is -1: give at least 0'),
    ({'top_k': 0.5}, 'top_k is 0.5: give a whole number'),
    ({'top_p': 0}, 'top_p is 0: give more than 0'),
    ({'top_p': 1.01}, 'top_p is 1.01: .* give at most 1'),
    ({'top_p': NAN}, 'top_p is nan: give a finite'),
    ({'repetition_penalty': 0}, 'repetition_penalty is 0: give more than 0'),
    ({'repetition_penalty': INF}, 'repetition_penalty is inf: give a finite'),
    ({'repetition_penalty': NAN}, 'repetition_penalty is nan: give a finite'),
    ({'no_repeat_ngram_size': -1}, 'no_repeat_ngram_size is -1'),
    ({'stop': ''}, 'stop holds an empty text'),
    ({'stop': ('a', '')}, 'stop holds an empty text'),
    ({'stop': None}, 'stop is None: give a text'),
    ({'stop': b'a'}, "stop is b'a': give a text"),
    ({'stop': ['a', 5]}, 'stop holds 5: give texts'),
    ({'seed': 2**64}, 'seed is 18446744073709551616: give at most'),
    ({'seed': -(2**63) - 1}, 'seed is -9223372036854775809: give at least'),
    ({'seed': 1.0}, 'seed is 1.0: give a whole number'),
    ({'seed': None}, 'seed is None: give a whole number'),
    ({'beam_search': 'transformers3'}, "beam_search is 'transformers3': give"),
    ({'beam_search': None}, 'beam_search is None: give'),
    (
      {'beam_search': 'transformers4', 'num_beams': 2, 'do_sample': True},
      "beam_search is 'transformers4' but do_sample is True",
    ),
  ],
)
def test_what_has_no_meaning_is_refused(options, words):
  with pytest.raises(UserError, match=words):
    Options(**options)


@pytest.mark.parametrize(
  'options',
  [
    {'num_beams': np.int64(3), 'length_penalty': np.float32(-2)},
    {'length_penalty': 0, 'temperature': 1, 'top_p': fractions.Fraction(1, 2)},
    {'max_new_tokens': 1, 'min_new_tokens': 1, 'length_penalty': 90},
    {'do_sample': np.True_, 'top_k': 0, 'top_p': 1e-6, 'temperature': 1e-6},
    {'seed': 2**64 - 1, 'no_repeat_ngram_size': 10**9, 'top_k': 10**9},
    {'stop': 'a', 'beam_search': 'transformers4'},
    {'stop': {'a'}, 'early_stopping': 'never'},
  ],
)
def test_what_has_a_meaning_is_taken_as_plain_values(options):
  chosen = Options(**options)
  json.dumps(dataclasses.asdict(chosen))
  static, dynamic = plain.split_options(chosen)
  hash((chosen, static))
  assert all(np.isfinite(np.float32(x)) for x in dynamic)
  for field in dataclasses.fields(Options):
    value, usual = getattr(chosen, field.name), field.default
    assert type(value) is type(usual) or field.name == 'early_stopping'


EDGES = (
  0,
  1,
  -1,
  2**70,
  NAN,
  INF,
  1e-300,
  None,
  '5',
  '',
  b'',
  True,
  2.5,
  (),
  [],
)


def test_no_edge_of_any_option_ends_in_a_traceback():
  taken = 0
  for field, value in itertools.product(dataclasses.fields(Options), EDGES):
    try:
      hash(Options(**{field.name: value}))
      taken += 1
    except UserError as error:
      assert str(error).startswith(field.name) and str(error).endswith('.')
      assert '\n' not in str(error)
  assert taken == 29


def test_seeds_that_share_32_bits_differ():
  rows = jnp.zeros(1, jnp.uint32)
  seeds = [3, 3 + 2**32, 3 + 2**33, -1, 2**32 - 1, 2**63]
  keys = [row_keys(seed, rows) for seed in seeds]
  assert len({str(key) for key in keys}) == len(seeds)


def test_what_no_memory_can_hold_is_refused():
  config = configs.TINY
  check_room(checked.Options(num_beams=4), config, 8)
  with pytest.raises(UserError, match='num_beams is 40000, but the vocabulary'):
    check_room(checked.Options(num_beams=40_000), config, 1)
  with pytest.raises(UserError, match='GiB: give a smaller max_new_tokens'):
    check_room(checked.Options(max_new_tokens=2**31 - 1), config, 1)
  # Logits of a step: 4 bytes for each of 32,128 tokens.
  count = device_memory() // (4 * config.t5.vocab_size)
  with pytest.raises(UserError, match='GiB of'):
    sampled = checked.Options(
      num_return_sequences=count + 1, do_sample=True, max_new_tokens=1
    )
    check_room(sampled, config, 1)
  assert 1 << 28 < device_memory() < 1 << 50

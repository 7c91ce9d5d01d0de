"""beam_search='transformers4' finds what transformers 4.33 found.

transformers4.json holds what it found in some searches. Run as a script, with
the MMICL_TRANSFORMERS_4 of tests/parity/transformers4_test.py, the file records
it anew. Where that Python is there, many more searches are compared.
"""

import functools
import json
import os
import pathlib
import random
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

HELPERS = pathlib.Path(__file__).parents[1] / 'helpers'
RECORDED = pathlib.Path(__file__).with_name('transformers4.json')
PYTHON = os.environ.get('MMICL_TRANSFORMERS_4')
LENGTH = 12  # room for new tokens

if __name__ == '__main__':
  sys.path.insert(0, str(HELPERS))

import t5_pair  # noqa: E402

from mmicl_jax.decoding.options import Options, split_options  # noqa: E402
from mmicl_jax.models.mmicl import MMICL, init_params  # noqa: E402

WEIGHTS = t5_pair.random_weights(seed=3)
PROMPTS = t5_pair.prompts(6)


def random_options(seed: int, count: int, shapes: int) -> list[dict]:
  """Options of searches; `shapes` different ones of what is compiled."""
  rng = random.Random(seed)
  static = []
  for _ in range(shapes):
    beams = rng.randint(2, 6)
    static.append(
      {
        'num_beams': beams,
        'num_return_sequences': rng.randint(1, beams),
        'early_stopping': rng.choice([True, False, 'never']),
        'no_repeat_ngram_size': rng.choice([0, 0, 1, 2, 3]),
      }
    )
  found = []
  for i in range(count):
    length = rng.randint(1, LENGTH)
    options = static[i % shapes] | {
      'max_new_tokens': length,
      'length_penalty': rng.choice(
        [0.0, 1.0, -1.0, round(rng.uniform(-2, 2), 2)]
      ),
      'do_sample': False,
    }
    if i % shapes % 3 == 1:
      options['min_new_tokens'] = rng.randint(1, length)
    if i % shapes % 4 == 1:
      options['repetition_penalty'] = round(rng.uniform(0.6, 2.5), 2)
    found.append(options)
  return found


@functools.cache
def encoded():
  model = MMICL(t5_pair.CONFIG)
  params = jax.jit(init_params, static_argnums=0)(
    t5_pair.CONFIG, jax.random.key(0)
  )
  params = {**params, 't5': t5_pair.tree(WEIGHTS)}
  batch = {'encoder_input_tokens': jnp.asarray(PROMPTS)}
  read = jax.jit(lambda p: model.apply({'params': p}, batch, method='encode'))
  return model, params, read(params)


def search(options: dict, beam_search: str = 'transformers4'):
  """(ids until the end, scores) of each prompt's answers."""
  model, params, read = encoded()
  static, dynamic = split_options(
    Options(**options, beam_search=beam_search), LENGTH
  )
  found = t5_pair.answers(
    model, params, read, jnp.asarray(PROMPTS) != 0, None, static, dynamic
  )
  ids = [
    [row[:n].tolist() for row, n in zip(*each, strict=True)]
    for each in zip(np.asarray(found.tokens), found.lengths, strict=True)
  ]
  return ids, np.asarray(found.scores)


def former(options: list[dict], folder: pathlib.Path) -> list[dict]:
  """What transformers 4 finds, as in transformers4.json."""
  t5 = t5_pair.CONFIG.t5
  config = {
    'd_model': t5.hidden_size,
    'd_kv': t5.head_dim,
    'd_ff': t5.mlp_dim,
    'num_layers': t5.num_encoder_layers,
    'num_decoder_layers': t5.num_decoder_layers,
    'num_heads': t5.num_heads,
    'vocab_size': t5.vocab_size,
    'feed_forward_proj': 'gated-gelu',
    'tie_word_embeddings': False,
    'decoder_start_token_id': 0,
    'pad_token_id': 0,
    'eos_token_id': 1,
  }
  asked = {'config': config, 'prompts': PROMPTS.tolist(), 'options': options}
  (folder / 'searches.json').write_text(json.dumps(asked))
  np.savez(folder / 'weights.npz', **WEIGHTS)
  environment = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
  script = HELPERS / 'transformers4.py'
  subprocess.run(
    [str(PYTHON), script, 'search', folder, folder],
    check=True,
    env=environment,
  )
  found = json.loads((folder / 'found.json').read_text())
  for each in found:
    each['ids'] = [[until_end(ids) for ids in row] for row in each['ids']]
  return [
    {'options': o, **each} for o, each in zip(options, found, strict=True)
  ]


def until_end(ids: list[int]) -> list[int]:
  """Without the padding of a batch, which is 0 and never chosen here."""
  return ids[: ids.index(1) + 1] if 1 in ids else ids


def compare(recorded: list[dict]) -> None:
  for each in recorded:
    ids, scores = search(each['options'])
    assert ids == each['ids'], each['options']
    np.testing.assert_allclose(scores, each['scores'], 5e-5, 1e-4)


@pytest.mark.slow
def test_as_recorded():
  compare(json.loads(RECORDED.read_text()))


@pytest.mark.slow
def test_what_was_recorded_differs_from_transformers_5():
  recorded = json.loads(RECORDED.read_text())
  differ = sum(
    search(each['options'], 'transformers5')[0] != each['ids']
    for each in recorded
  )
  assert 0 < differ < len(recorded)
  answers = [ids for each in recorded for row in each['ids'] for ids in row]
  cut = sum(ids[-1] != 1 for ids in answers)
  assert len(answers) // 5 < cut < len(answers) * 4 // 5


@pytest.mark.skipif(
  not PYTHON, reason='MMICL_TRANSFORMERS_4 names no Python with transformers 4'
)
def test_as_transformers_4(tmp_path):
  compare(former(random_options(seed=1, count=200, shapes=40), tmp_path))


if __name__ == '__main__':
  import tempfile

  with tempfile.TemporaryDirectory() as name:
    lines = former(random_options(0, 24, 6), pathlib.Path(name))
  RECORDED.write_text(
    '[\n' + ',\n'.join(json.dumps(line) for line in lines) + '\n]\n'
  )

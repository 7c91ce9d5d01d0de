"""The loader's stream: its order, its shapes, its place."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from loader_data import SPEC, examples, make, take, write_records

from mmicl_jax.data.features import FeatureSpec
from mmicl_jax.data.loader import make_loader
from mmicl_jax.data.records import JsonlIndex
from mmicl_jax.data.sources import Source
from mmicl_jax.errors import UserError


def levels(batches):
  """The example number of each row, read from its pixels."""
  return [
    batch['encoder_images'][:, 0, 0, 0, 0].tolist() for batch, _ in batches
  ]


def assert_same(a, b):
  assert [info.ids for _, info in a] == [info.ids for _, info in b]
  for (x, _), (y, _) in zip(a, b, strict=True):
    np.testing.assert_equal(x, y)


def test_batches_have_static_shapes_and_nothing_else(tokenizer):
  ((batch, info),) = take(make(tokenizer, examples(5)), 1)
  assert {k: (v.shape, v.dtype.name) for k, v in batch.items()} == {
    'encoder_input_tokens': ((2, 40), 'int32'),
    'encoder_images': ((2, 2, 4, 4, 3), 'uint8'),
    'decoder_input_tokens': ((2, 6), 'int32'),
    'decoder_target_tokens': ((2, 6), 'int32'),
    'decoder_loss_weights': ((2, 6), 'int32'),
  }
  level = batch['encoder_images'][:, 0, 0, 0, 0].tolist()
  assert info.ids == tuple(f'set:{i}' for i in level)
  for row, i in enumerate(level):
    assert tokenizer.decode(batch['decoder_target_tokens'][row]) == str(i)


def test_each_epoch_is_a_new_order_of_all_records(tokenizer):
  rows = sum(levels(take(make(tokenizer, examples(6)), 9)), [])
  epochs = [rows[:6], rows[6:12], rows[12:]]
  assert all(sorted(epoch) == list(range(6)) for epoch in epochs)
  assert len({tuple(epoch) for epoch in epochs}) == 3


def test_the_order_is_a_function_of_the_seed(tokenizer):
  a, b, c = (
    take(make(tokenizer, examples(40), seed=seed), 20) for seed in (3, 3, 4)
  )
  assert_same(a, b)
  assert levels(a) != levels(c)
  plain = make(tokenizer, examples(4), shuffle=False)
  assert levels(take(plain, 3)) == [[0, 1], [2, 3], [0, 1]]


@pytest.mark.parametrize('count', [2, 3])
def test_processes_are_disjoint_and_complete(tokenizer, count):
  def loader(index, **options):
    return make(
      tokenizer,
      examples(11),
      process_index=index,
      process_count=count,
      **options,
    )

  finite = [list(loader(i, num_epochs=1)) for i in range(count)]
  assert {len(batches) for batches in finite} == {-(-11 // (2 * count))}
  ids = [i for part in finite for _, info in part for i in info.ids if i]
  assert sorted(ids) == sorted(f'set:{i}' for i in range(11))
  parts = [take(loader(i), 11) for i in range(count)]
  for epoch in range(2):
    epoch_rows = [
      part[step][1].ids[row]
      for step in range(11)
      for part in parts
      for row in range(2)
    ][epoch * 11 : epoch * 11 + 11]
    assert len(set(epoch_rows)) == 11


def test_global_batches_do_not_depend_on_the_number_of_processes(tokenizer):
  alone = take(make(tokenizer, examples(9), batch_size=6), 5)
  for count in (2, 3):
    parts = [
      take(
        make(
          tokenizer,
          examples(9),
          batch_size=6 // count,
          process_index=i,
          process_count=count,
        ),
        5,
      )
      for i in range(count)
    ]
    together = [sum(rows, []) for rows in zip(*map(levels, parts), strict=True)]
    assert together == levels(alone)


def test_evaluation_gives_each_record_once_and_pads_the_last_batch(tokenizer):
  loader = make(tokenizer, examples(5), shuffle=False, num_epochs=1)
  batches = list(loader)
  assert loader.num_steps == len(batches) == 3
  assert [info.ids for _, info in batches] == [
    ('set:0', 'set:1'),
    ('set:2', 'set:3'),
    ('set:4', ''),
  ]
  last = batches[-1][0]
  assert last['decoder_loss_weights'][0].any()
  assert not any(value[1].any() for value in last.values())
  assert list(loader) == []  # the one epoch is over


def test_mixtures_follow_their_weights(tokenizer):
  sources = [
    Source('a', examples(3), weight=1),
    Source('b', examples(20, 100), weight=3),
  ]
  batches = take(make(tokenizer, sources, batch_size=4), 100)
  ids = [i for _, info in batches for i in info.ids]
  assert sum(i.startswith('a:') for i in ids) == 100
  assert len({i for i in ids if i.startswith('b:')}) == 20
  by_size = take(make(tokenizer, [Source('a', examples(3)), sources[1]]), 1)
  assert by_size
  unweighted = [Source('a', examples(10)), Source('b', examples(30, 100))]
  ids = [i for _, n in take(make(tokenizer, unweighted), 20) for i in n.ids]
  assert sum(i.startswith('a:') for i in ids) == 10
  once = list(make(tokenizer, sources, batch_size=4, num_epochs=1))
  ids = [i for _, info in once for i in info.ids if i]
  assert len(ids) == len(set(ids)) == 23


def test_resume_is_exact_and_elastic(tokenizer):
  def loader(batch_size=4, **options):
    return make(tokenizer, examples(7), batch_size=batch_size, **options)

  expected = take(loader(), 10)
  first = loader()
  iterator = iter(first)
  for _ in range(4):
    next(iterator)
  state = json.loads(json.dumps(first.get_state()))
  assert state['step'] == 4
  second = loader()
  second.set_state(state)
  assert_same(take(second, 6), expected[4:])
  half = loader(batch_size=2, process_index=1, process_count=2)
  half.set_state(state)
  assert levels(take(half, 6)) == [rows[2:] for rows in levels(expected[4:])]
  with pytest.raises(UserError, match='seed was 0 and is 1'):
    loader(seed=1).set_state(state)
  with pytest.raises(UserError, match='global batch size was . and is .'):
    loader(batch_size=2).set_state(state)


WORKERS = """
import os, pickle, signal, sys
import numpy as np
from mmicl_jax.data.features import FeatureSpec
from mmicl_jax.data.loader import make_loader
from mmicl_jax.data.records import JsonlIndex
from mmicl_jax.data.sources import Source
from mmicl_jax.tokenizer import Tokenizer

if __name__ == '__main__':
  _, records, vocabulary, out = sys.argv
  def loader(workers):
    return make_loader(
      Source('set', JsonlIndex(records)),
      FeatureSpec(40, 6, 2, 4, 2),
      Tokenizer(vocabulary),
      2,
      workers=workers,
      skip_bad_records=True,
    )
  first = loader(2)
  iterator = iter(first)
  batches = [next(iterator) for _ in range(3)]
  state = first.get_state()
  iterator.close()
  second = loader(2)
  second.set_state(state)
  iterator = iter(second)
  batches += [next(iterator) for _ in range(5)]
  iterator.close()
  with open(out, 'wb') as file:
    pickle.dump((batches, second.get_state()), file)
  iterator = iter(loader(2))
  next(iterator)
  os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_worker_processes_give_the_same_and_resume(tokenizer, tmp_path):
  import pickle

  path = write_records(tmp_path, 7, broken={2: 'no json'})
  script, out = tmp_path / 'script.py', tmp_path / 'out'
  script.write_text(WORKERS)
  tokenizer.save(tmp_path / 'spiece.model')
  ended = subprocess.run(
    [sys.executable, script, path, tmp_path / 'spiece.model', out],
    stdout=subprocess.PIPE,  # which workers that stayed would keep open
    timeout=1800,  # ends what hangs; a busy machine needs minutes
    env={**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2])},
  )
  assert ended.returncode == -signal.SIGKILL
  batches, state = pickle.loads(out.read_bytes())
  here = make(tokenizer, JsonlIndex(path), skip_bad_records=True)
  assert_same(batches, take(here, 8))
  assert state == json.loads(json.dumps(here.get_state()))
  assert state['skipped'] in (2, 3)  # 16 rows of 7 records


def test_wrong_arguments(tokenizer):
  with pytest.raises(UserError, match='set: no records'):
    make_loader(Source('set', []), SPEC, tokenizer, 2)
  with pytest.raises(UserError, match='batch size'):
    make(tokenizer, examples(2), batch_size=0)
  with pytest.raises(UserError, match='above 0'):
    make(tokenizer, [Source('a', examples(2), weight=0)])
  with pytest.raises(UserError, match='BERT vocabulary'):
    make_loader(
      Source('set', examples(2)),
      FeatureSpec(40, 6, 2, 4, 2, qformer_length=8),
      tokenizer,
      2,
    )

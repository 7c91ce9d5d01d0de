"""Items are pure functions of seed and index; records can be read back."""

import json
from collections import Counter

import numpy as np
from PIL import Image

from mmicl_jax.demo import data

MIX = {'icl_words_4': 5.0, 'pointing': 3.0, 'counting': 2.0}


def told(items) -> list[tuple]:
  return [
    (i.task, i.example.inputs, i.example.targets, [p.name for p in i.pictures])
    for i in items
  ]


def test_items_repeat():
  a = data.batch_examples(MIX, 1, 0, 30)
  assert told(a) == told(data.batch_examples(MIX, 1, 0, 30))
  for x, y in zip(a, data.batch_examples(MIX, 1, 0, 30), strict=True):
    np.testing.assert_array_equal(x.example.images, y.example.images)


def test_batches_are_windows_of_one_stream():
  whole = told(data.batch_examples(MIX, 1, 0, 30))
  assert whole[7:19] == told(data.batch_examples(MIX, 1, 7, 12))


def test_seed_index_and_split_matter():
  base = told([data.make_item('pointing', 0, i) for i in range(20)])
  other = told([data.make_item('pointing', 1, i) for i in range(20)])
  assert not any(a == b for a, b in zip(base, other, strict=True))
  assert len({str(item) for item in base}) == 20


def test_shares_are_kept_even_in_one_batch():
  for start in (0, 1000, 123_456):
    batch = data.batch_examples(MIX, 2, start, 100)
    counts = Counter(item.task for item in batch)
    for task, share in MIX.items():
      assert abs(counts[task] - 10 * share) <= 3


def test_a_share_of_nothing_is_never_drawn():
  mix = {'same': 0.0, 'counting': 1.0, 'pointing': 0.0}
  batch = data.batch_examples(mix, 0, 0, 200)
  assert {item.task for item in batch} == {'counting'}


def test_records_are_mic_jsonl_with_png(tmp_path):
  items = data.batch_examples(MIX, 0, 0, 12, 'heldout')
  path = data.write_held_out(items, str(tmp_path), 'heldout')
  with open(path, encoding='utf-8') as file:
    records = [json.loads(line) for line in file]
  assert len(records) == 12
  for item, record in zip(items, records, strict=True):
    assert record['input_text'] == item.example.inputs
    assert record['output_text'] == item.example.targets
    assert record['dataset'] == f'demo/{item.task}'
    assert record['meta']['chance'] == item.chance
    for name, pixels in zip(
      record['input_image'], item.example.images, strict=True
    ):
      with Image.open(tmp_path / name) as image:
        np.testing.assert_array_equal(np.asarray(image), pixels)

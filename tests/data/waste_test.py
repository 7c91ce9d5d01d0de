"""The waste that is told is that of the loader's own batches."""

import numpy as np
import pytest
from grouped_data import grouping, mixed
from loader_data import SPEC, make

from mmicl_jax.data.records import Record
from mmicl_jax.data.waste import measured, padding_waste


@pytest.mark.parametrize('pack', [False, True])
def test_it_is_what_the_loader_wastes(tokenizer, pack):
  records = [
    Record(example.inputs, [f'{i}.png'] * len(example.images), example.targets)
    for i, example in enumerate(mixed(40))
  ]
  records.insert(3, Record('one?', [], '图'))  # which the loader refuses
  how, sizes = grouping(pack, groups=1), []
  assert list(measured(records, tokenizer, SPEC, sizes)) == records
  assert len(sizes) == 40
  told = padding_waste(sizes, how, seed=0)

  loader = make(tokenizer, mixed(40), batch_size=4, grouping=how)
  seen, used, room, rows = 0, np.zeros(3), np.zeros(3), 0
  for batch, info in loader:
    inputs, targets = (
      batch['encoder_input_tokens'],
      batch['decoder_loss_weights'],
    )
    pixels = batch['encoder_images'][:, :, 0, 0, 0]
    images = (inputs == tokenizer.image_id).sum() / SPEC.num_queries
    used += (inputs != 0).sum(), targets.sum(), images
    room += inputs.size, targets.size, pixels.size
    seen, rows = seen + len(info.ids), rows + len(inputs)
    if seen >= 40:
      break
  found = [told.inputs, told.targets, told.images]
  np.testing.assert_allclose(found, 1 - used / room)
  assert told.examples_per_row == seen / rows

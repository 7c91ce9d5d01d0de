"""What a loader leaves out: bad records and what does not fit, counted."""

import json

import numpy as np
import pytest
from loader_data import examples, make, take, write_records

from mmicl_jax.context.turns import Example, Turn, assemble
from mmicl_jax.data.records import JsonlIndex
from mmicl_jax.errors import UserError

BAD = {
  'no json': ('{"input_text": ', 'not JSON'),
  'no image file': (
    '{"input_text": "<image0>图", "input_image": ["x.png"], "output_text": ""}',
    'x.png',
  ),
  'more images': (
    '{"input_text": "图", "input_image": ["0.png", "1.png"],'
    ' "output_text": ""}',
    '2 images but 1',
  ),
}


@pytest.mark.parametrize('kind', BAD)
def test_a_bad_record_names_file_and_line(tokenizer, tmp_path, kind):
  line, reason = BAD[kind]
  path = write_records(tmp_path, 4, broken={2: line})
  loader = make(tokenizer, JsonlIndex(path), shuffle=False)
  iterator = iter(loader)
  next(iterator)
  with pytest.raises(UserError, match=f'train.jsonl:3: .*{reason}'):
    next(iterator)


@pytest.mark.parametrize('kind', BAD)
def test_a_bad_record_is_skipped_and_counted_if_asked(
  tokenizer, tmp_path, kind
):
  path = write_records(tmp_path, 4, broken={2: BAD[kind][0]})
  loader = make(
    tokenizer,
    JsonlIndex(path),
    shuffle=False,
    num_epochs=2,
    skip_bad_records=True,
  )
  batches = list(loader)
  assert [info.ids for _, info in batches] == [
    ('set:r0', 'set:r1'),
    ('', 'set:r3'),
  ] * 2
  assert not batches[1][0]['decoder_loss_weights'][0].any()
  assert loader.skipped == loader.get_state()['skipped'] == 2
  assert 'train.jsonl:3' in batches[1][1].skipped[0]


@pytest.mark.parametrize(
  'count, bad, batch_size, seen',
  [
    (30, range(30), 10, 10),  # the first batch
    (30, range(30), 1, 8),
    (3, range(3), 1, 3),
    (4, range(1, 4), 2, 4),  # one pass
    (12, range(1, 12, 2), 4, None),
    (300, range(1, 300, 2), 4, None),
    (300, [i for i in range(300) if i % 3], 4, 100),
  ],
)
def test_mostly_bad_data_is_an_error_even_when_skipping(
  tokenizer, tmp_path, count, bad, batch_size, seen
):
  path = write_records(tmp_path, count, broken=dict.fromkeys(bad, '?'))
  loader = make(
    tokenizer,
    JsonlIndex(path),
    batch_size=batch_size,
    skip_bad_records=True,
    shuffle=False,
  )
  if seen is None:
    take(loader, 2 * count // batch_size)
    assert loader.skipped == 2 * len(bad)
    return
  with pytest.raises(UserError, match=f'of {seen} records are bad .the last: '):
    take(loader, 2 * count)
  assert loader.step * batch_size == seen


def test_the_state_of_former_versions_is_read(tokenizer):
  loader = make(tokenizer, examples(4))
  state = loader.get_state()
  assert state['cut_answers'] == 0
  former = {'step': 3, 'skipped': 1, 'truncated': 2, 'stream': state['stream']}
  loader.set_state(former)
  assert (loader.step, loader.skipped, loader.truncated) == (3, 1, 2)
  assert loader.cut_answers == 0


def test_what_was_shortened_is_counted(tokenizer, tmp_path):
  image = np.zeros((4, 4, 3), np.uint8)
  long = assemble(
    Turn('which one?', [image], '1'), [Turn('which one?', [image], '2')] * 3
  )
  answer = Example('which one?', '1234567890', name='a')
  data = [*examples(1), long, answer, answer]
  loader = make(tokenizer, data, batch_size=4, num_epochs=1, shuffle=False)
  assert (loader.truncated, loader.first_truncated) == (0, '')
  ((_, info),) = list(loader)
  assert [t.name for t in info.truncated] == ['set:1', 'a', 'a']
  dropped = info.truncated[0]
  assert dropped.demonstrations > 0 and dropped.target_tokens == 0
  assert (loader.truncated, loader.cut_answers) == (3, 2)
  assert loader.first_truncated == str(dropped)
  state = json.loads(json.dumps(loader.get_state()))
  again = make(tokenizer, data, batch_size=4, num_epochs=1, shuffle=False)
  again.set_state(state)
  assert (again.truncated, again.cut_answers) == (3, 2)


def test_a_bad_record_is_not_counted_as_shortened(tokenizer):
  bad = Example('<image0>图', '1234567890', ['none.png'], name='a')
  loader = make(
    tokenizer, [bad, *examples(1)], num_epochs=1, skip_bad_records=True
  )
  list(loader)
  assert (loader.skipped, loader.truncated) == (1, 0)


def test_an_answer_with_the_place_of_an_image_is_refused(tokenizer, tmp_path):
  line = '{"input_text": "a", "input_image": [], "output_text": "a 图"}'
  path = write_records(tmp_path, 3, broken={1: line})
  loader = make(tokenizer, JsonlIndex(path), shuffle=False)
  with pytest.raises(UserError, match=f'^{path}:2: The answer .* holds 图'):
    take(loader, 1)

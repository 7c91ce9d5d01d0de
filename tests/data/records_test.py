import json
import os
import pickle
import threading

import numpy as np
import pytest

from mmicl_jax.context.turns import assemble, sample_shots
from mmicl_jax.data import records
from mmicl_jax.data.records import JsonlIndex, Record
from mmicl_jax.errors import UserError

GOOD = {
  'input_text': 'image 0 is <image0>图. Wie heißt image 0?',
  'input_image': ['./images/a.png'],
  'output_text': 'Käse',
}


def lines(path, *values):
  path.write_text(
    ''.join((v if isinstance(v, str) else json.dumps(v)) + '\n' for v in values)
  )
  return path


def test_round_trip_keeps_everything(tmp_path):
  values = [
    GOOD,
    GOOD | {'input_image': 'a.png', 'id': 7, 'dataset': 'vqa', 'meta': [1]},
    GOOD | {'id': 'x', 'output_image': '', 'score': {'a': None}},
    {'input_text': '1 + 1?', 'input_image': [], 'output_text': '2'},
  ]
  path = lines(tmp_path / 'in.jsonl', *values)
  assert (
    records.write_records(
      tmp_path / 'sub' / 'out.jsonl', records.read_records(path)
    )
    == 4
  )
  written = (tmp_path / 'sub' / 'out.jsonl').read_text('utf-8')
  assert [json.loads(line) for line in written.splitlines()] == values
  assert 'Käse' in written and '图' in written


def test_paths_are_relative_to_the_file_or_data_dir(tmp_path):
  path = lines(tmp_path / 'in.jsonl', GOOD)
  (record,) = records.read_records(path)
  assert record.images == (f'{tmp_path}/./images/a.png',)
  (record,) = records.read_records(path, '/data')
  assert record.images == ('/data/./images/a.png',)
  path = lines(tmp_path / 'in.jsonl', GOOD | {'input_image': '/x/a.png'})
  (record,) = records.read_records(path)
  assert record.images == ('/x/a.png',)


def test_the_system_says_which_file_is_read(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  os.makedirs('disk/v3')
  os.makedirs('runs')
  os.symlink('../disk/v3', 'runs/current')
  lines(tmp_path / 'disk' / 'a.jsonl', GOOD | {'output_text': 'right'})
  lines(tmp_path / 'runs' / 'a.jsonl', GOOD | {'output_text': 'wrong'})
  (record,) = records.read_records('runs/current/../a.jsonl')
  index = JsonlIndex('runs/current/../a.jsonl')
  monkeypatch.chdir('/')  # an index is read where another process stands
  assert record.targets == index[0].targets == 'right'


@pytest.mark.parametrize(
  'line, words',
  [
    ('{"input_text": ', 'not JSON .*one JSON object'),
    ('[' * 100_000, 'not JSON'),
    ('[1]', 'a JSON list, not an object'),
    ({k: GOOD[k] for k in ('input_text', 'input_image')}, 'no "output_text"'),
    ({k: GOOD[k] for k in ('input_text', 'output_text')}, 'no "input_image"'),
    (GOOD | {'input_text': 3}, '"input_text" is a JSON int'),
    (GOOD | {'output_text': None}, '"output_text" is null'),
    (GOOD | {'output_text': '\ud800'}, '"output_text" .* surrogate'),
    (GOOD | {'input_image': ['\udc00.png']}, '"input_image" .* surrogate'),
    (GOOD | {'id': '\ud800'}, '"id" .* surrogate'),
    (GOOD | {'\ud800': 'a'}, r'"\\ud800" .* surrogate'),
    (GOOD | {'input_image': {}}, r'"input_image"\[0\] is a JSON dict'),
    (GOOD | {'input_image': ['a', '']}, r'"input_image"\[1\] is an empty'),
    (GOOD | {'input_image': ''}, '0 images but 1 图'),
    (GOOD | {'input_image': ['a', 'b']}, '2 images but 1 图'),
    (GOOD | {'input_text': '图图', 'input_image': ['a', 'b']}, 'adjacent'),
    (
      GOOD | {'input_text': '图 ' * 21, 'input_image': ['a'] * 21},
      '21 images .* only 20',
    ),
    (GOOD | {'id': [1]}, '"id" is a JSON list'),
  ],
)
def test_every_error_names_file_and_line(tmp_path, line, words):
  path = lines(tmp_path / 'bad.jsonl', GOOD, '', line, GOOD)
  with pytest.raises(UserError, match=rf'^{path}:3: .*{words}') as error:
    list(records.read_records(path))
  with pytest.raises(UserError) as again:
    JsonlIndex(path)[1]
  assert str(again.value) == str(error.value)
  errors = []
  assert len(list(records.read_records(path, on_error=errors.append))) == 2
  assert len(errors) == 1


def test_not_utf8(tmp_path):
  path = tmp_path / 'latin.jsonl'
  path.write_bytes(json.dumps(GOOD).encode() + b'\n"caf\xe9"\n')
  with pytest.raises(UserError, match='latin.jsonl:2: not UTF-8 .byte 4'):
    list(records.read_records(path))


def test_a_question_needs_no_answer_when_told(tmp_path):
  question = {k: GOOD[k] for k in ('input_text', 'input_image')}
  path = lines(tmp_path / 'q.jsonl', question)
  (record,) = records.read_records(path, need_answer=False)
  assert record == JsonlIndex(path, need_answer=False)[0]
  assert record.targets == ''


def test_a_failed_write_leaves_the_old_file(tmp_path):
  path = lines(tmp_path / 'in.jsonl', GOOD)
  before = path.read_bytes()

  def broken():
    yield from records.read_records(path)
    raise RuntimeError

  with pytest.raises(RuntimeError):
    records.write_records(path, broken())
  assert path.read_bytes() == before
  assert os.listdir(tmp_path) == ['in.jsonl']
  records.write_records(path, [Record('<image0>图', [b'png'], 'x')])
  assert json.loads(path.read_text())['input_image'] == ['cG5n']


def test_index_reads_any_record_anywhere(tmp_path):
  values = [GOOD | {'id': i, 'output_text': 'ü' * i} for i in range(50)]
  path = lines(tmp_path / 'in.jsonl', '\ufeff' + json.dumps(values[0]), '')
  with open(path, 'a') as file:
    file.write('\r\n'.join(json.dumps(v) for v in values[1:]))  # no last end
  index = pickle.loads(pickle.dumps(JsonlIndex(path)))
  assert len(index) == 50
  assert list(index) == list(records.read_records(path))
  assert index[-1].id == 49 and index[np.int64(7)].id == 7
  with pytest.raises(IndexError):
    index[50]
  wrong = []

  def visit(offset):
    for i in range(200):
      k = (i * 7 + offset) % 50
      if index[k].id != k:
        wrong.append(k)

  threads = [threading.Thread(target=visit, args=(i,)) for i in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert not wrong


@pytest.mark.parametrize('k', range(1, 6))
def test_records_as_demonstrations(tmp_path, k):
  """The published builder's faults: one demonstration shares <image0> with the
  query; the query is its own demonstration; 'image 10' becomes 'image 110'."""
  text = (
    'image 0 is <image0>图.\nimage 1 is <image1>' + '图' * 32 + '.\n'
    'image 0 is left of image 1. Item {}. Is it image 10? preimage 0'
  )
  values = [
    GOOD
    | {
      'input_text': text.format(i % 8),
      'input_image': [f'{i % 8}l.png', f'{i % 8}r.png'],
      'output_text': 'image 1',
    }
    for i in range(16)
  ]
  index = JsonlIndex(lines(tmp_path / 'in.jsonl', *values))
  shots = sample_shots(index, 3, k, 0)
  assert all('Item 3' not in shot.inputs for shot in shots)
  example = assemble(
    records.turn_from_record(index[3]),
    [records.turn_from_record(shot) for shot in shots],
  )
  a, b = 2 * k, 2 * k + 1
  assert example.inputs.split('\n\n')[-1] == (
    f'image {a} is <image{a}>图.\nimage {b} is <image{b}>图.\n'
    f'image {a} is left of image {b}. Item 3. Is it image 10? preimage 0'
  )
  assert example.targets == f'image {b}'
  assert len(set(example.images)) == 2 * k + 2


def test_a_records_example_keeps_the_text():
  record = Record('<image0>' + '图' * 32 + ' is? {0}', ['a'], 'x', where='f:1')
  assert record.example.inputs == '<image0>图 is? {0}'
  assert record.example.targets == 'x' and record.example.name == 'f:1'
  assert record.example.images == ('a',) and record.example.copies == (1,)
  wrong = Record('<image0>图', ['a', 'b'], 'x', where='f:1')
  with pytest.raises(UserError, match='^f:1: 2 images but 1 图'):
    records.turn_from_record(wrong)

"""Files and lines of JSON that are nearly right."""

import bz2
import codecs
import gzip
import json
import lzma
import math
import os
import threading

import pytest

from mmicl_jax.data import jsonl
from mmicl_jax.data.records import (
  JsonlIndex,
  Record,
  parse_record,
  read_records,
  write_records,
)
from mmicl_jax.errors import UserError

LINE = b'{"input_text": "a", "input_image": [], "output_text": "b"}'


def both(path):
  """The records of a file, read in order and by number."""
  found = list(read_records(path))
  assert found == list(JsonlIndex(path))
  return found


@pytest.mark.parametrize(
  'text',
  [
    LINE,
    LINE + b'\n',
    LINE + b'\r\n',
    codecs.BOM_UTF8 + LINE + b'\n',
    codecs.BOM_UTF8 + b'\n' + LINE,
    b'\n \t\r\n\v\f\n' + LINE + b'\n\n\n',
    b'  ' + LINE + b'  \t\n' + codecs.BOM_UTF8,
  ],
)
def test_blank_lines_and_marks_are_no_records(tmp_path, text):
  path = tmp_path / 'a.jsonl'
  path.write_bytes(text)
  (record,) = both(path)
  assert (record.inputs, record.targets) == ('a', 'b')
  assert record.where == f'{path}:{1 + text[: text.index(LINE)].count(10)}'


def test_a_long_line(tmp_path):
  path = tmp_path / 'a.jsonl'
  text = 'word ' * 4_000_000
  write_records(path, [Record(text, [], 'b'), Record('c', [], 'd')])
  first, second = both(path)
  assert first.inputs == text and second.targets == 'd'


@pytest.mark.parametrize(
  'line, words',
  [
    (LINE[:-1] + b', "output_text": "c"}', '"output_text" stands twice'),
    (LINE[:-1] + b', "meta": {"x": 1, "y": 2, "x": 3}}', '"x" stands twice'),
    (LINE[:-1] + b', "output_te\\u0078t": 1}', '"output_text" stands twice'),
    (LINE[:-1] + b', "score": NaN}', 'NaN is no number of JSON'),
    (LINE[:-1] + b', "score": [-Infinity]}', '-Infinity is no number'),
    (LINE[:-1] + b', "score": 1e999}', '1e999 is no number of JSON'),
    (LINE[:9] + b'\0' + LINE[9:], 'holds NUL bytes'),
    (bytes(4096), 'holds NUL bytes'),
    (LINE + LINE, 'not JSON .Extra data at character 59.'),
    (LINE[:-1] + b', "meta": ' + b'[' * 100_000, 'not JSON'),
    (LINE[:-1] + b', "meta": ' + b'{"a":' * 100_000, 'not JSON'),
    (LINE[:-1] + b', "id": ' + b'1' * 5000 + b'}', 'not JSON'),
    (LINE[:-1] + b', "id": "\xff"}', 'not UTF-8 .byte 66'),
    (b"{'input_text': 'a'}", 'not JSON .* at character 2'),
    (LINE[:-1] + b', "meta": "\\ud83d"}', '"meta" holds half a character'),
    (LINE[:-1] + b', "x": {"\\uDE00": 1}}', '"x" holds half a character'),
    (LINE + b'\xef', 'not UTF-8'),
    (b'null', 'a JSON NoneType, not an object'),
  ],
)
def test_what_a_line_may_not_hold(tmp_path, line, words):
  path = tmp_path / 'a.jsonl'
  path.write_bytes(LINE + b'\n' + line + b'\n' + LINE)
  with pytest.raises(UserError, match=f'^{path}:2: .*{words}') as error:
    list(read_records(path))
  assert len(str(error.value)) < 300
  index = JsonlIndex(path)
  with pytest.raises(UserError, match=f'^{path}:2: '):
    index[1]
  assert index[2].targets == 'b'


def test_pairs_and_nul_characters_are_text():
  line = LINE[:-1] + b', "meta": "\\ud83d\\ude00 \\u0000"}'
  assert parse_record(line).meta == '\U0001f600 \0'


def test_no_number_is_written_that_cannot_be_read(tmp_path):
  for value in (math.nan, math.inf):
    with pytest.raises(UserError, match='JSON has neither NaN'):
      write_records(tmp_path / 'a.jsonl', [Record('a', [], 'b', meta=[value])])
  assert not (tmp_path / 'a.jsonl').exists()


TEXT = LINE + b'\n'
OTHERS = {
  'compressed by gzip': gzip.compress(TEXT),
  'compressed by bzip2': bz2.compress(TEXT),
  'compressed by xz': lzma.compress(TEXT),
  'compressed by zstd': b'\x28\xb5\x2f\xfd' + bytes(9),
  'a zip archive': b'PK\x03\x04' + bytes(9),
  'a Parquet file': b'PAR1' + bytes(9),
  'UTF-16': TEXT.decode().encode('utf-16'),
}


@pytest.mark.parametrize('what', OTHERS)
def test_other_files_are_called_by_their_names(tmp_path, what):
  path = tmp_path / 'a.jsonl'
  path.write_bytes(OTHERS[what])
  for read in (JsonlIndex, lambda path: list(read_records(path))):
    with pytest.raises(UserError, match=f'^{path} is {what}: '):
      read(path)


def test_files_that_cannot_be_opened(tmp_path):
  for path, reason in (
    (tmp_path / 'none.jsonl', 'No such file or directory'),
    (tmp_path, 'Is a directory'),
  ):
    for read in (JsonlIndex, lambda path: list(read_records(path))):
      words = f'^{path} could not be read .{reason}'
      with pytest.raises(UserError, match=words):
        read(path)
  index = JsonlIndex(_written(tmp_path / 'a.jsonl'))
  os.remove(tmp_path / 'a.jsonl')
  with pytest.raises(UserError, match='a.jsonl could not be read .No such'):
    index[0]


@pytest.fixture
def pipe(tmp_path):
  """A pipe into which somebody writes a record."""
  path = tmp_path / 'pipe'
  os.mkfifo(path)
  thread = threading.Thread(target=path.write_bytes, args=(TEXT,))
  thread.start()
  yield path
  thread.join()


def test_a_pipe_can_be_read_in_order(pipe):
  (record,) = read_records(pipe)
  assert record.targets == 'b'


def test_a_pipe_has_no_index(pipe):
  with pytest.raises(UserError, match=f'^{pipe} is a pipe, which .* once'):
    JsonlIndex(pipe)


def _written(path):
  path.write_bytes(TEXT)
  return path


def test_every_value_of_a_strict_line_is_what_json_says():
  value = {'a': [1, -2.5, 1e3, True, None, 'ü'], 'b': {'c': {}}, 'd': ''}
  assert jsonl.parse_line(json.dumps(value).encode()) == value

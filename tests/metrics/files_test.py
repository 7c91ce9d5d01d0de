"""Annotation files are found by pattern and read strictly."""

import pytest

from mmicl_jax.errors import UserError
from mmicl_jax.metrics import files


def test_a_pattern_stands_for_one_file(tmp_path):
  with pytest.raises(UserError, match=r'no file \*\.json or \*\.jsonl'):
    files.one_file(tmp_path, '*.json', '*.jsonl')
  assert files.optional_file(tmp_path, '*.json') is None
  (tmp_path / 'folder.json').mkdir()
  (tmp_path / '._a.json').write_text('of a Mac')
  (tmp_path / 'a.json').write_text('{}')
  assert files.one_file(tmp_path, '*.json').name == 'a.json'
  (tmp_path / 'b.json').write_text('{}')
  with pytest.raises(UserError, match=r'\(a\.json, b\.json\)'):
    files.optional_file(tmp_path, '*.json')
  found = files.matching_files(tmp_path, '*.json')
  assert [path.name for path in found] == ['a.json', 'b.json']


@pytest.mark.parametrize(
  'text, said',
  [
    (b'{"a": "\xe9"}', r'not UTF-8 \(byte 7\)'),
    (b'{"a": NaN}', 'NaN is no number of JSON'),
    (b'{"a": -1e999}', '-1e999 is no number of JSON'),
    (b'{"a": 1, "a": 2}', '"a" stands twice'),
    (b'{"a": 1}\n{', 'not JSON'),
    (b'{"a":\n1 x}', 'line 2, character 3'),
    (b'[]', 'should hold an object'),
    (b'', 'not JSON'),
    (b'[' * 100_000, 'not JSON'),
    (b'{"a": ' + b'9' * 5000 + b'}', 'not JSON'),
  ],
)
def test_json_is_read_strictly(text, said, tmp_path):
  path = tmp_path / 'a.json'
  path.write_bytes(text)
  with pytest.raises(UserError, match=said) as error:
    files.json_file(path)
  assert str(error.value).startswith(str(path))


def test_a_byte_order_mark_and_other_line_ends_are_allowed(tmp_path):
  mark, path = b'\xef\xbb\xbf', tmp_path / 'a'
  path.write_bytes(mark + b'{"a":\r\n"\xe2\x80\xa8"}')
  assert files.json_file(path) == {'a': '\u2028'}
  path.write_bytes(mark + b'{"a": 1}\r\n\r\n{"a": 2}')
  assert [row['a'] for _, row in files.json_lines(path)] == [1, 2]
  path.write_bytes(mark + b'a\tb\r\n\r\nc')
  assert files.text_lines(path) == [(1, 'a\tb'), (3, 'c')]
  path.write_bytes(mark + b'a,b\r\n1,"x\r\ny"\r\n2,z')
  assert files.column_rows(path, ['a']) == [
    (f'{path}, line 2', {'a': '1', 'b': 'x\r\ny'}),
    (f'{path}, line 4', {'a': '2', 'b': 'z'}),
  ]


@pytest.mark.parametrize(
  'text, said',
  [
    ('b,c\n1,2\n', "no column 'a'"),
    ('a,b,b\n1,2,3\n', "'b' twice"),
    ('a,b\n1,2\n3\n', 'line 3 has 1 cells instead of 2'),
    ('a,b\n"x\ny",2\n1,2,3\n', 'line 4 has 3 cells'),
    ('a,b\n1,"2\n', 'cannot be read'),
    ('a,b\n', 'no rows'),
    ('', 'no rows'),
  ],
)
def test_columns_are_checked(text, said, tmp_path):
  path = tmp_path / 'a.csv'
  path.write_text(text)
  with pytest.raises(UserError, match=said):
    files.column_rows(path, ['a', 'b'])


def test_a_cell_may_hold_an_image(tmp_path):
  path = tmp_path / 'a.tsv'
  path.write_text(f'a\tb\n{"x" * 500_000}\t2\n')
  [(_, row)] = files.column_rows(path, ['a'], '\t')
  assert len(row['a']) == 500_000


@pytest.mark.parametrize(
  'value, kinds, said',
  [
    (True, (int,), 'should be a whole number'),
    (1.0, (int,), 'should be a whole number'),
    ('1', (float,), 'should be a number'),
    (None, (str, int), 'should be a text or a whole number'),
    (1, (bool,), 'should be true or false'),
  ],
)
def test_values_are_of_their_kind(value, kinds, said):
  with pytest.raises(UserError, match=f"^here: 'a' {said}"):
    files.value_of('here', {'a': value}, 'a', *kinds)


def test_ids_are_texts_and_no_two_the_same():
  assert files.id_of('here', {'id': 7}, 'id') == '7'
  with pytest.raises(UserError, match="the id '7' twice"):
    files.unique_ids('a.json', ['7', '8', '7'])
  with pytest.raises(UserError, match='no items'):
    files.unique_ids('a.json', [])

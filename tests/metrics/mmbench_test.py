"""MMBench: how a letter is found, and which groups of rotations count."""

import csv
import re

import build_deps
import pytest
from small_benchmarks import SMALL

from mmicl_jax.errors import UserError
from mmicl_jax.metrics.choice_letter import lmms_eval_letter, vlmevalkit_letter
from mmicl_jax.metrics.table import scorer_of

MMBENCH = scorer_of('mmbench')
OPTIONS = {'A': 'happy', 'B': 'unhappy', 'C': 'a red car', 'D': 'banana'}


@pytest.mark.parametrize(
  'answer, vlmevalkit, lmms_eval',
  [
    ('B', 'B', 'B'),
    ('{C}', 'C', 'C'),
    ('unhappy', None, None),  # 'happy' is in it, too
    ('happy', 'A', 'A'),
    ('B it is, as I said before', None, 'B'),  # five words from the end
    ('A of them', 'A', 'A'),
    ('A of them all', 'A', 'A'),
    ('C or A or B', None, 'C'),
    ('the answer is bc', 'B', None),
    ('the correct answer is **D**, not A', 'D', 'A'),
    ('Z', 'Z', None),
    ('Cannot determine the answer', 'Z', 'C'),
    ('"C"', None, 'C'),
    ('E', None, 'E'),
    ('a red car ' * 6, None, 'C'),  # longer than twice all options
    ('I choose D-ish', None, 'D'),
    ('BAD', None, 'D'),
    ('BADABs', None, 'B'),
    ('A fine ripe banana', 'A', 'D'),
    ('', None, None),
  ],
)
def test_a_letter_is_found_as_each_harness_finds_it(
  answer, vlmevalkit, lmms_eval
):
  assert vlmevalkit_letter(answer, OPTIONS) == vlmevalkit
  assert lmms_eval_letter(answer, OPTIONS) == lmms_eval


def test_the_table_of_letters_in_the_docs_is_right():
  text = (build_deps.ROOT / 'docs/evaluation.md').read_text(encoding='utf-8')
  table = re.findall(r'^\| `(.*)` \| (\w+) \| (\w+) \|$', text, re.MULTILINE)
  assert len(table) > 8
  for answer, *letters in table:
    found = [
      vlmevalkit_letter(answer, OPTIONS),
      lmms_eval_letter(answer, OPTIONS),
    ]
    assert [letter or 'none' for letter in found] == letters, answer


def written(folder, rows, columns='index question A B C answer split'):
  with (folder / 'MMBench_DEV_EN.tsv').open('w', newline='') as file:
    table = csv.writer(file, delimiter='\t')
    table.writerow(columns.split())
    table.writerows(rows)
  return MMBENCH.read(folder)


def rows(*indices, answer='A'):
  return [(i, 'What?', 'cat', 'dog', 'None', answer, 'dev') for i in indices]


def test_groups_go_by_their_main_rows(tmp_path):
  """Group 1 is whole, 2 has no main row, 3 lacks a rotation."""
  read = written(tmp_path, rows(1_000_001, 1, 2_000_002, 3))
  answers = dict.fromkeys(('1000001', '1', '3'), 'A')
  found = MMBENCH.score(read, answers | {'2000002': 'B'}, 'official')
  assert found.metrics == {'dev/overall': 1}
  assert [item['score'] for item in found.per_item] == [1, 1, 1, 0]
  one_wrong = answers | {'2000002': 'A', '1000001': 'B'}
  for mode, name in (('official', 'dev/overall'), ('lmms-eval', 'overall')):
    assert MMBENCH.score(read, one_wrong, mode).metrics == {name: 0.5}


def test_each_split_has_its_own_numbers(tmp_path):
  [dev], [test] = rows(1), rows(2)
  read = written(tmp_path, [dev, (*test[:-1], 'test')])
  found = MMBENCH.score(read, {'1': 'A', '2': 'B'}, 'vlmevalkit')
  assert found.metrics == {'dev/overall': 1, 'test/overall': 0}
  found = MMBENCH.score(read, {'1': 'A', '2': 'B'}, 'lmms-eval')
  assert found.metrics == {'overall': 0.5}


def test_a_group_that_lacks_a_prediction_is_left_out(tmp_path):
  read = written(tmp_path, rows(1, 1_000_001, 2))
  found = MMBENCH.score(read, {'1': 'A', '2': 'B'}, 'official')
  assert found.metrics == {'dev/overall': 0}
  found = MMBENCH.score(read, {'1': 'A'}, 'official')
  assert found.metrics == {} and found.notes and len(found.per_item) == 1


def test_a_missing_option_is_no_option_or_the_text_nan(tmp_path):
  """pandas reads "None" as missing; in lmms-eval that is a text in answers."""
  read = written(tmp_path, rows(1, answer='C'))
  for output, official, lmms_eval in (
    ('None', None, None),
    ('C', None, 'C'),
    ('a dog', 'B', 'B'),
    ('banana dog', 'B', None),
  ):
    for mode, letter in (('official', official), ('lmms-eval', lmms_eval)):
      [item] = MMBENCH.score(read, {'1': output}, mode).per_item
      assert item['parsed'] == letter, (output, mode)


def test_splits_and_abilities(tmp_path):
  """Without a column of splits they are "none"; abilities are shortened."""
  SMALL['mmbench'](tmp_path, 'official')
  path = tmp_path / 'MMBench_DEV_EN.tsv'
  path.write_text(path.read_text().replace('\tsplit', '\tother'))
  read = MMBENCH.read(tmp_path)
  names = [
    *MMBENCH.score(read, dict.fromkeys(read.ids, 'A'), 'official').metrics
  ]
  assert names == ['none/overall', 'none/l2/CP', 'none/category/ocr']


@pytest.mark.parametrize(
  'bad, named',
  [
    (rows(1, answer=''), 'has no answer'),
    (rows(1_000_001), 'below 1000000'),
    (rows('x'), "index 'x'"),
    (rows(1, 1), "'1' twice"),
  ],
)
def test_a_faulty_table_is_refused(tmp_path, bad, named):
  with pytest.raises(UserError, match=named):
    written(tmp_path, bad)

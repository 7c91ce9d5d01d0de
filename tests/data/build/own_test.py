"""One's own table, CSV or JSON Lines, by the command's own flags."""

import csv
import json
from pathlib import Path

import pytest
from tiny_builds import Build, check_split
from tiny_pictures import FAULTS, lines, put, still

from mmicl_jax.__main__ import main

BASE = ['--question_column', 'q', '--answer_column', 'a', '--workers', '1']


def write(path, rows):
  path.parent.mkdir(parents=True, exist_ok=True)
  with open(path, 'w', newline='', encoding='utf-8') as file:
    writer = csv.DictWriter(file, list(rows[0]), restval='')
    writer.writeheader()
    writer.writerows(rows)


def command(raw, out, *flags):
  paths = ['--raw', str(raw), '--out', str(out)]
  return main(['data', 'build', '--dataset', 'csv', *paths, *BASE, *flags])


def made(raw, out, *flags):
  assert command(raw, out, *flags) == 0
  build = Build(out, json.loads((out / 'manifest.json').read_text('utf-8')))
  for split in build.manifest['splits']:
    check_split(build, split)
  return build


def pictures(folder, count):
  for i in range(count):
    put(folder / f'{i}.jpg', still(i))


def test_values_are_text_and_rows_are_numbered(tmp_path):
  table = tmp_path / 'mine/table.csv'
  values = ['NA', 'None', 'nan', '图 of <image3>', 'a, "b"\nc', 'null']
  rows = [
    {'q': f'Which {x}?', 'a': x, 'p': f'{i}.jpg'} for i, x in enumerate(values)
  ]
  write(table, rows)
  pictures(tmp_path / 'mine', 6)
  build = made(table, tmp_path / 'out', '--image_columns', 'p', '--shots', '0')
  assert build.ids('train') == [str(i) for i in range(6)]
  for i, record in enumerate(build.records('train')):
    assert record['dataset'] == 'csv'
    assert record['meta']['answers'] == [values[i]]
    assert record['meta']['source_ids'] == [str(i)]
    assert build.pictures(record) == [still(i)]
  outputs = [record['output_text'] for record in build.records('train')]
  assert outputs == [
    'NA', 'None', 'nan', '圖 of (image3)', 'a, "b"\nc', 'null'
  ]  # fmt: skip
  assert 'Which NA?' in build.records('train')[0]['input_text']


def test_slots_are_filled_in_the_order_of_columns(tmp_path):
  table = tmp_path / 'table.csv'
  rows = [
    {'q': 'Same {image}?', 'a': 'no', 'left': '0.jpg', 'right': '1.jpg'},
    {'q': 'Who?', 'a': 'he', 'left': '', 'right': '2.jpg'},
    {'q': 'Why?', 'a': 'so', 'left': '', 'right': ' '},
  ]
  write(table, rows)
  pictures(tmp_path, 3)
  flags = ['--image_columns', 'right,left', '--shots', '0']
  build = made(
    table,
    tmp_path / 'out',
    *flags,
    '--template',
    '{image} or {image}: {question}',
  )
  both, one, none = build.records('train')
  assert both['input_text'] == '<image0>图 or <image1>图: Same {image}?'
  assert build.pictures(both) == [still(1), still(0)]
  assert one['input_text'] == '<image0>图 or: Who?'
  assert build.pictures(one) == [still(2)]
  assert none['input_text'] == 'or: Why?'
  build = made(table, tmp_path / 'front', *flags, '--template', 'Q: {question}')
  both, one, none = build.records('train')
  assert both['input_text'] == (
    'image 0 is <image0>图.\nimage 1 is <image1>图.\nQ: Same {image}?'
  )
  assert one['input_text'] == 'image 0 is <image0>图.\nQ: Who?'
  assert none['input_text'] == 'Q: Why?'


def test_templates_are_drawn_and_named(tmp_path):
  table = tmp_path / 'table.csv'
  write(table, [{'q': f'Q{i}?', 'a': 'yes'} for i in range(40)])
  build = made(
    table, tmp_path / 'out', '--shots', '0',
    '--template', 'First. {question}', '--template', 'Second. {question}',
  )  # fmt: skip
  drawn = set()
  for i, record in enumerate(build.records('train')):
    number = record['meta']['template']
    drawn.add(number)
    assert record['input_text'] == f'{("First", "Second")[number]}. Q{i}?'
  assert drawn == {0, 1}


def test_options_are_a_json_list_or_parted_by_bars(tmp_path):
  table = tmp_path / 'table.csv'
  options = [
    '["a|b", "c"]', 'red| blue |NA', '[3, 10]', '["a", ""]', '[broken', 'a||b',
    '[]',
  ]  # fmt: skip
  write(table, [{'q': 'Which?', 'a': 'x', 'o': text} for text in options])
  build = made(
    table, tmp_path / 'out', '--options_column', 'o', '--shots', '0',
    '--max_bad', '1', '--template', '{question}\n{options}',
  )  # fmt: skip
  assert [x['input_text'] for x in build.records('train')] == [
    'Which?\nA. a|b\nB. c',
    'Which?\nA. red\nB. blue\nC. NA',
    'Which?\nA. 3\nB. 10',
  ]
  assert build.records('train')[2]['meta']['choices'] == ['3', '10']
  assert build.skipped('train') == {'missing_field': ['3', '4', '5', '6']}


def test_ids_and_groups_are_columns(tmp_path):
  table = tmp_path / 'table.csv'
  rows = [
    {'q': f'Q{i}?', 'a': 'yes', 'p': f'{i}.jpg', 'i': f'id {i}/x', 'g': group}
    for i, group in enumerate(['a', 'a', 'b', 'b', '', '', 'None', 'None'])
  ]
  write(table, rows)
  pictures(tmp_path, 8)
  build = made(
    table, tmp_path / 'out', '--image_columns', 'p', '--id_column', 'i',
    '--group_column', 'g', '--shots', '7', '--split', 'mine',
  )  # fmt: skip
  assert list(build.manifest['splits']) == ['mine']
  assert build.ids('mine') == [row['i'] for row in rows]
  groups = {f'csv/mine/{row["i"]}': row['g'] for row in rows}
  most, together = 0, False
  for record in build.records('mine'):
    shots = record['meta']['shots']
    own = groups[record['id']]
    assert record['id'] not in shots and len(set(shots)) == len(shots)
    if own:
      assert own not in [groups[name] for name in shots]
    elif any(groups[name] == '' for name in shots):
      together = True  # an empty cell is no group
    most = max(most, len(shots))
  assert most >= 4 and together


@pytest.mark.parametrize('kind', ['csv', 'jsonl'])
def test_bad_rows_have_a_reason(tmp_path, kind):
  folder = tmp_path / 'data'
  outside = tmp_path / 'outside.jpg'
  put(outside, still(1))
  pictures(folder, 2)
  put(folder / 'text.jpg', FAULTS['not_an_image'])
  (folder / 'link.jpg').symlink_to(outside)
  rows = [
    {'i': '0', 'q': 'Q?', 'a': 'yes', 'p': '0.jpg'},
    {'i': '1', 'q': 'Q?', 'a': 'yes', 'p': '../outside.jpg'},
    {'i': '2', 'q': 'Q?', 'a': 'yes', 'p': str(outside)},
    {'i': '3', 'q': 'Q?', 'a': ' ', 'p': '0.jpg'},
    {'i': '4', 'q': ' ', 'a': 'yes', 'p': '0.jpg'},
    {'i': '5', 'q': 'Q?', 'a': 'yes', 'p': 'gone.jpg'},
    {'i': '6', 'q': 'Q?', 'a': 'yes', 'p': 'text.jpg'},
    {'i': '0', 'q': 'Q?', 'a': 'yes', 'p': '1.jpg'},
    {'i': '7', 'q': 'Q?', 'a': 'yes', 'p': 'x/../1.jpg'},
    {'i': '8', 'q': 'Q?', 'a': 'yes', 'p': 'link.jpg'},
  ]
  wanted = {
    'duplicate_id': ['0'],
    'empty_text': ['4'],
    'missing_file': ['5'],
    'no_answer': ['3'],
    'not_an_image': ['6'],
    'outside_raw': ['1', '2'],
  }
  (folder / 'x').mkdir()
  if kind == 'csv':
    table = folder / 'table.csv'
    write(table, rows)
  else:
    table = folder / 'table.jsonl'
    rows += [
      '{"i": "9",', '[1]', {'i': 10, 'q': 'Q?', 'a': 7, 'p': None},
      {'i': '11', 'q': 5, 'a': 'yes'}, {'i': '12', 'q': 'Q?'},
      {'i': '13', 'q': 'Q?', 'a': True},
    ]  # fmt: skip
    lines(table, rows)
    wanted |= {
      'bad_line': ['table.jsonl:11'],
      'missing_field': ['table.jsonl:12', '11', '13'],
      'no_answer': ['3', '12'],
    }
  build = made(
    table, tmp_path / 'out', '--image_columns', 'p', '--id_column', 'i',
    '--max_bad', '1', '--shots', '0',
  )  # fmt: skip
  ids = ['0', '7', '8'] if kind == 'csv' else ['0', '7', '8', '10']
  assert build.ids('train') == ids
  assert build.skipped('train') == wanted
  assert build.pictures(build.record('train/8')) == [still(1)]  # by a link
  if kind == 'jsonl':
    number = build.record('train/10')
    assert number['output_text'] == '7' and number['input_image'] == []


def test_pictures_may_lie_in_another_folder(tmp_path):
  table = tmp_path / 'tables/table.csv'
  write(table, [{'q': 'Q?', 'a': 'yes', 'p': '1.jpg'}])
  pictures(tmp_path / 'shots', 2)
  pictures(tmp_path / 'tables', 1)
  build = made(
    table, tmp_path / 'out', '--image_columns', 'p',
    '--image_dir', str(tmp_path / 'shots'),
  )  # fmt: skip
  assert build.pictures(build.records('train')[0]) == [still(1)]
  assert list(build.manifest['raw']) == ['table.csv']


@pytest.mark.parametrize(
  ('flags', 'words'),
  [
    (['--image_columns', 'nothing'], 'nothing'),
    (['--image_dir', 'nowhere'], '--image_dir nowhere'),
    (['--template', '{answer}'], '{answer}'),
    (['--template', '{image} {question}', '--image_columns', 'p,p'], '2'),
    (['--template', '{question} {options}'], '{options}'),
  ],
)
def test_what_is_wrong_is_said_in_a_sentence(tmp_path, capsys, flags, words):
  table = tmp_path / 'table.csv'
  write(table, [{'q': 'Q?', 'a': 'yes', 'p': '0.jpg'}])
  pictures(tmp_path, 1)
  assert command(table, tmp_path / 'out', *flags) == 2
  message = capsys.readouterr().err.strip().splitlines()[-1]
  assert words in message
  assert not Path(tmp_path / 'out/train.jsonl').exists()


@pytest.mark.parametrize('kind', ['csv', 'jsonl'])
@pytest.mark.parametrize(
  'flag', ['question_column', 'answer_column', 'image_columns', 'group_column']
)
def test_a_column_that_is_not_there_is_named(tmp_path, capsys, kind, flag):
  table = tmp_path / f'table.{kind}'
  row = {'q': 'Q?', 'a': 'yes', 'p': '0.jpg'}
  write(table, [row]) if kind == 'csv' else lines(table, ['{"q":', row])
  assert command(table, tmp_path / 'out', f'--{flag}', 'colour') == 2
  message = capsys.readouterr().err.strip().splitlines()[-1]
  assert message == (
    f"mmicl: {table} has no column 'colour'; it has q, a, p: name one of them "
    f'by --{flag}'
  )
  assert not (tmp_path / 'out').exists()


def test_a_column_among_very_many(tmp_path, capsys):
  table = tmp_path / 'table.csv'
  write(table, [{f'x{i}': 'x' for i in range(24)}])
  assert command(table, tmp_path / 'out') == 2
  assert 'x19 and 4 more: name one' in capsys.readouterr().err


@pytest.mark.parametrize(
  'answers, flags, words',
  [
    ((' ', ''), (), 'none of 2 items gives a record; the commonest reason is '
     'no_answer (2)'),
    ((' ', 'yes'), (), 'reason is no_answer (1)'),
    (('no', 'yes'), ('--max_bad', '1'), 'reason is missing_file (2)'),
    (('no', 'yes'), (), '2 of 2 items are bad, more than --max_bad 0.5 allows'),
  ],
)  # fmt: skip
def test_a_build_without_a_record_is_refused(
  tmp_path, capsys, answers, flags, words
):
  table, out = tmp_path / 'table.csv', tmp_path / 'out'
  write(table, [{'q': 'Q?', 'a': a, 'p': f'{a}.jpg'} for a in answers])
  flags = ('--image_columns', 'p', *flags)
  assert command(table, out, *flags) == 2
  said = capsys.readouterr().err
  assert words in said and said.count('\n') == 1
  assert [path.name for path in out.iterdir()] == ['manifest.json']
  manifest = json.loads((out / 'manifest.json').read_text('utf-8'))
  assert manifest['complete'] is False
  # The same command goes on once the table is mended.
  write(table, [{'q': 'Q?', 'a': 'yes', 'p': ''}])
  assert len(made(table, out, *flags).records('train')) == 1


def test_blank_answers_are_not_bad(tmp_path):
  """Official sets have them by design, and a table is held to the same."""
  table = tmp_path / 'table.csv'
  write(table, [{'q': 'Q?', 'a': a} for a in ('', ' ', '', 'yes')])
  build = made(table, tmp_path / 'out', '--max_bad', '0')
  assert build.ids('train') == ['3']
  assert build.skipped('train') == {'no_answer': ['0', '1', '2']}

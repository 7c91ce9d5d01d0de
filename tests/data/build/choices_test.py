"""IconQA, ScienceQA and MMBench from trees in miniature."""

import base64
import csv
import io
import json

import pytest
from tiny_builds import built
from tiny_pictures import FAULTS, put, still

# IconQA


def problem(kind, **changes):
  row = {
    'question': 'How many kites of image 2 are there?',
    'ques_type': kind,
    'grade': 'grade1',
    'label': 'S2',
  }
  if kind == 'choose_txt':
    row |= {'choices': ['3', '10 图'], 'answer': 1}
  elif kind == 'choose_img':
    row |= {'choices': [f'choice_{i}.png' for i in range(3)], 'answer': 2}
  else:
    row |= {'answer': '7'}
  return row | changes


def iconqa(raw, splits, problems, faults=None, whole=True):
  """whole: problems.json holds the rows, and not only each one's data.json."""
  top = raw / 'iconqa_data'
  put(top / 'pid_splits.json', json.dumps(splits))
  if whole:
    put(top / 'problems.json', json.dumps(problems))
  for name, pids in splits.items():
    kind, part = name.rsplit('_', 1)
    for pid in pids:
      row = problems.get(pid)
      if row is None:
        continue
      folder = top / 'iconqa' / part / kind / pid
      put(folder / 'data.json', json.dumps(row))
      files = ['image.png']
      files += row['choices'] if kind == 'choose_img' else []
      for i, file in enumerate(files):
        data = still(5 * int(pid) + i, kind='PNG', mode='RGBA')
        if not file.startswith('..'):
          put(folder / file, (faults or {}).get((pid, file), data))


@pytest.mark.parametrize('whole', [True, False])
def test_iconqa(tmp_path, whole):
  raw = tmp_path / 'raw'
  splits = {
    'choose_txt_train': ['12', '3'],
    'choose_img_val': ['4'],
    'fill_in_blank_test': ['5'],
  }
  problems = {
    '3': problem('choose_txt', answer=0),
    '12': problem('choose_txt'),
    '4': problem('choose_img'),
    '5': problem('fill_in_blank'),
  }
  iconqa(raw, splits, problems, whole=whole)
  made = built('iconqa', raw, tmp_path / 'out')
  assert made.ids('choose_txt_train') == ['12', '3']  # as pid_splits.json
  text, _ = made.records('choose_txt_train')
  assert text['output_text'] == '10 圖'
  assert text['meta']['answers'] == ['10 图']
  assert text['meta']['options'] == 'A. 3\nB. 10 圖'
  assert text['meta']['options'] in text['input_text']
  assert 'How many kites of picture 2 are there?' in text['input_text']
  assert made.pictures(text) == [still(60, kind='PNG', mode='RGBA')]
  [image] = made.records('choose_img_val')
  assert image['output_text'] == 'image 3'
  assert image['meta']['answers'] == ['image 3']
  assert image['meta']['options'] == 'A. image 1\nB. image 2\nC. image 3'
  assert image['meta']['options'] in image['input_text']
  assert 'How many kites of picture 2 are there?' in image['input_text']
  assert made.pictures(image) == [
    still(20 + i, kind='PNG', mode='RGBA') for i in range(4)
  ]
  [blank] = made.records('fill_in_blank_test')
  assert blank['output_text'] == '7'
  assert 'options' not in blank['meta']


def test_choices_of_demonstrations_are_renumbered(tmp_path):
  raw = tmp_path / 'raw'
  pids = [str(i) for i in range(6)]
  problems = {pid: problem('choose_img') for pid in pids}
  iconqa(raw, {'choose_img_val': pids}, problems)
  made = built('iconqa', raw, tmp_path / 'out', shots=3)
  counts = set()
  for record in made.records('choose_img_val'):
    shots = len(record['meta']['shots'])
    counts.add(shots)
    assert len(record['input_image']) == 4 * (shots + 1)
    assert record['output_text'] == f'image {4 * shots + 3}'
    assert record['meta']['answers'] == [record['output_text']]
    assert f'B. image {4 * shots + 2}\n' in record['meta']['options']
    assert record['meta']['options'] in record['input_text']
  assert len(counts) > 1


def test_bad_problems(tmp_path):
  raw = tmp_path / 'raw'
  problems = {
    '1': problem('choose_img'),
    '2': problem('choose_img', answer=3),
    '3': problem('choose_img', answer='1'),
    '4': problem('choose_img', question=''),
    '5': problem('choose_img'),
    '6': problem('choose_img', choices=['../../x.png'], answer=0),
    '7': problem('choose_img', answer=True),
    '8': problem('choose_img', choices=[f'{i}.png' for i in range(20)]),
  }
  pids = [*problems, '99', '1']
  faults = {('5', 'choice_1.png'): FAULTS['empty_file']}
  iconqa(raw, {'choose_img_val': pids}, problems, faults)
  made = built(
    'iconqa', raw, tmp_path / 'out', splits=('choose_img_val',), max_bad=1.0
  )
  assert made.ids('choose_img_val') == ['1']
  assert made.skipped('choose_img_val') == {
    'bad_reference': ['2', '99'],
    'duplicate_id': ['1'],
    'empty_file': ['5'],
    'empty_text': ['4'],
    'missing_field': ['3', '7'],
    'outside_raw': ['6'],
    'too_many_images': ['8'],
  }


# ScienceQA


def lesson(**changes):
  return {
    'question': 'Which is {options}?',
    'choices': ['a gas', 'User: a liquid', 'a solid'],
    'answer': 1,
    'hint': 'Look at <image>.\nThen think.',
    'image': 'image.png',
    'task': 'closed choice',
    'grade': 'grade2',
    'subject': 'natural science',
    'lecture': 'A secret lecture.',
    'solution': 'A secret solution.',
    'split': 'val',
  } | changes


def scienceqa(raw, problems, split='val', pids=None):
  put(raw / 'problems.json', json.dumps(problems))
  pids = list(problems) if pids is None else pids
  put(raw / 'pid_splits.json', json.dumps({split: pids, 'minival': ['1']}))
  for pid, row in problems.items():
    if row.get('image') == 'image.png' and pid != '9':
      put(
        raw / 'images' / split / pid / 'image.png', still(int(pid), kind='PNG')
      )


def test_scienceqa_with_and_without_a_picture(tmp_path):
  raw = tmp_path / 'raw'
  problems = {'1': lesson(), '2': lesson(image=None, hint='', answer=2)}
  scienceqa(raw, problems, pids=['2', '1'])
  made = built('scienceqa', raw, tmp_path / 'out', splits=('val',))
  assert made.ids('val') == ['2', '1']
  bare, seen = made.records('val')
  assert bare['input_image'] == [] and bare['output_text'] == 'a solid'
  assert bare['meta']['question'] == 'Which is {options}?'
  assert made.pictures(seen) == [still(1, kind='PNG')]
  assert seen['output_text'] == 'User : a liquid'
  assert seen['meta']['answers'] == ['User: a liquid']
  options = 'A. a gas\nB. User: a liquid\nC. a solid'
  assert seen['meta']['options'] == options and options in seen['input_text']
  question = 'Look at (image).\nThen think.\nWhich is {options}?'
  assert seen['meta']['question'] == question
  assert question in seen['input_text']
  assert 'secret' not in seen['input_text']


def test_bad_lessons(tmp_path):
  raw = tmp_path / 'raw'
  problems = {
    '1': lesson(),
    '2': lesson(answer=3),
    '3': lesson(choices='a, b'),
    '4': lesson(question=None),
    '5': lesson(image='../../../x.png'),
    '6': lesson(answer=-1),
    '9': lesson(),
    '10': lesson(choices=['a', '']),
  }
  scienceqa(raw, problems, pids=[*problems, '77', None, '1'])
  made = built('scienceqa', raw, tmp_path / 'out', splits=('val',), max_bad=1.0)
  assert made.ids('val') == ['1']
  assert made.skipped('val') == {
    'bad_reference': ['2', '6', '77'],
    'duplicate_id': ['1'],
    'missing_field': ['3', '4', 'pid_splits.json[9]'],
    'missing_file': ['9'],
    'no_answer': ['10'],
    'outside_raw': ['5'],
  }


# MMBench

HEADER = (
  'index', 'question', 'hint', 'A', 'B', 'C', 'D', 'answer', 'category',
  'image', 'l2-category', 'split',
)  # fmt: skip


def mmbench(raw, rows, name='mmbench_dev_20230712.tsv'):
  text = io.StringIO()
  writer = csv.DictWriter(text, HEADER, delimiter='\t', restval='')
  writer.writeheader()
  writer.writerows(rows)
  put(raw / name, text.getvalue())


def choice(number, image=None, **changes):
  data = still(number % 1000) if image is None else image
  coded = base64.b64encode(data).decode()
  if data.startswith(b'='):  # as it is
    coded = data[1:].decode()
  return {
    'index': number,
    'question': 'Which one?',
    'A': 'None',
    'B': 'NA',
    'C': 'nan',
    'D': 'null',
    'answer': 'B',
    'category': 'object',
    'image': coded,
    'split': 'dev',
  } | changes


def test_mmbench(tmp_path):
  raw = tmp_path / 'raw'
  hint = 'A hint\nof "two" lines\tand a tab.'
  rows = [
    choice(241),
    choice(252, C='', D='', answer='A', hint=hint),
    choice(1000241, b'=241', answer='D'),
  ]
  mmbench(raw, rows)
  made = built('mmbench', raw, tmp_path / 'out')
  assert list(made.manifest['splits']) == ['dev']
  assert made.ids('dev') == ['241', '252', '1000241']
  four, two, turned = made.records('dev')
  assert four['output_text'] == 'NA'
  assert four['meta']['options'] == 'A. None\nB. NA\nC. nan\nD. null'
  assert two['meta']['options'] == 'A. None\nB. NA'
  assert two['output_text'] == 'None'
  assert two['meta']['question'] == f'{hint}\nWhich one?'
  assert two['meta']['question'] in two['input_text']
  assert turned['output_text'] == 'null'
  # The rotation names the row that has the picture.
  assert made.pictures(turned) == made.pictures(four) == [still(241)]


def test_the_test_split_of_mmbench_has_no_answers(tmp_path):
  raw = tmp_path / 'raw'
  mmbench(raw, [choice(1)])
  mmbench(raw, [choice(2, answer='')], 'mmbench_test_20230712.tsv')
  made = built('mmbench', raw, tmp_path / 'dev')
  assert made.manifest['unlabelled'] == ['test']
  made = built('mmbench', raw, tmp_path / 'out', splits=('test',))
  [record] = made.records('test')
  assert record['output_text'] == '' and record['meta']['answers'] == []


def test_bad_rows(tmp_path):
  raw = tmp_path / 'raw'
  rows = [
    choice(1),
    choice(2, answer='E'),
    choice(3, answer=''),
    choice(4, C='', answer='C'),
    choice(5, b'=not base64!' + b'*' * 80),
    choice(6, b'='),
    choice(7, FAULTS['broken_image']),
    choice(8, FAULTS['not_an_image'] * 9),
    choice(9, question=' '),
    choice(1),
    choice(10, index=''),
  ]
  mmbench(raw, rows)
  made = built('mmbench', raw, tmp_path / 'out', max_bad=1.0)
  assert made.ids('dev') == ['1']
  assert made.skipped('dev') == {
    'bad_reference': ['2', '4'],
    'broken_image': ['7'],
    'duplicate_id': ['1'],
    'empty_text': ['9'],
    'missing_field': ['6', 'mmbench_dev_20230712.tsv:12'],
    'no_answer': ['3'],
    'not_an_image': ['5', '8'],
  }

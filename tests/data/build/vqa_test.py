"""Questions with short answers, built from official trees in miniature."""

import pytest
from official_trees import build_tree, picture, refusal, sized, write_tree

TEN = ['net'] * 6 + ['a net', 'a net', '', ' goal']
SAYS = 'v2_OpenEnded_mscoco_{}_questions.json'
KNOWS = 'v2_mscoco_{}_annotations.json'


def question(image, number, text='What is this?'):
  return {'image_id': image, 'question': text, 'question_id': number}


def answered(image, number, answers=TEN, **more):
  rows = [
    {'answer': a, 'answer_confidence': 'maybe', 'answer_id': i + 1}
    for i, a in enumerate(answers)
  ]
  return {
    'question_type': 'what is this',
    'multiple_choice_answer': answers[0] if answers else '',
    'answers': rows,
    'image_id': image,
    'answer_type': 'other',
    'question_id': number,
    **more,
  }


def questions(*rows):
  head = {'info': {}, 'task_type': 'Open-Ended', 'data_type': 'mscoco'}
  return {**head, 'license': {}, 'data_subtype': 'x', 'questions': list(rows)}


def annotations(*rows):
  return {'info': {}, 'license': {}, 'annotations': list(rows)}


def coco(place, image, number, year=2014):
  prefix = '' if year == 2017 else f'COCO_{place}_'
  return {f'{place}/{prefix}{image:012d}.jpg': picture(number)}


@pytest.fixture
def vqav2(tmp_path):
  """Answers in another order than questions; one picture in 2017's copy."""
  return write_tree(
    tmp_path / 'raw',
    {
      SAYS.format('train2014'): questions(
        question(9, 9000), question(458752, 458752000), question(9, 9001)
      ),
      KNOWS.format('train2014'): annotations(
        answered(9, 9001, ['2'] * 10, answer_type='number'),
        answered(458752, 458752000),
        answered(9, 9000),
      ),
      SAYS.format('test2015'): questions(question(1, 1000), question(2, 2000)),
      SAYS.format('test-dev2015'): questions(question(2, 2000)),
      **coco('train2014', 9, 90),
      **coco('train2017', 458752, 91, 2017),
      **coco('test2015', 1, 92),
      **coco('test2015', 2, 93),
    },
  )


def test_vqav2_joins_by_question_and_keeps_ten_answers(vqav2):
  built = build_tree('vqav2', vqav2, '--shots', '0')
  assert built.ids('train') == ['9000', '458752000', '9001']
  assert built.skipped('train') == {}
  record = built.one('train', '458752000')
  assert built.shown(record) == [91]
  assert record['output_text'] in set(TEN) - {''}
  meta = record['meta']
  assert meta['answers'] == TEN
  assert meta['source_ids'] == ['458752000'] and meta['shots'] == []
  assert meta['score_id'] == '458752000'
  assert meta['question'] == 'What is this?' in record['input_text']
  assert built.one('train', '9001')['output_text'] == '2'
  assert built.one('train', '9001')['meta']['answer_type'] == 'number'


def test_vqav2_test_splits_have_no_answers_and_are_built_if_named(vqav2):
  manifest = build_tree('vqav2', vqav2).manifest
  assert manifest['unlabelled'] == ['test', 'test-dev']
  assert list(manifest['splits']) == ['train']
  built = build_tree('vqav2', vqav2, '--splits', 'test-dev,test')
  assert built.ids('test') == ['1000', '2000']
  assert built.ids('test-dev') == ['2000']
  for record in built.records('test'):
    assert record['output_text'] == '' and record['meta']['answers'] == []
    assert len(record['input_image']) == 1  # nothing could demonstrate
  assert built.manifest['unlabelled'] == []


def test_demonstrations_never_show_the_query_s_picture(vqav2):
  for seed in '0123':
    built = build_tree('vqav2', vqav2, '--seed', seed)
    for record in built.records('train'):
      shown = built.shown(record)
      assert len(set(shown)) == len(shown) == len(record['meta']['shots']) + 1
      turns = [*record['meta']['shots'], record['id']]
      own = {'9000': 90, '9001': 90, '458752000': 91}
      assert shown == [own[turn.split('/')[-1]] for turn in turns]


def test_each_bad_question_is_named_with_its_reason(vqav2):
  write_tree(
    vqav2,
    {
      SAYS.format('val2014'): questions(
        question(1, 1),
        question(2, 2),
        question(3, 3, ' '),
        question(1, 4),
        question(1, 5),
        question(1, 1, 'Again?'),
        question('1', 7),
        question(1, None),
        'nothing',
        question(4, 8),
        question(5, 9),
        question(1, 10),
        question(6, 12),
        question(7, 13),
        question(1, 11, '\ud83d 图 <image3>'),
      ),
      KNOWS.format('val2014'): annotations(
        *(answered(1, i) for i in (1, 2, 3, 7, 8, 9, 11, 12, 13)),
        answered(1, 5, ['', ' ']),
        answered(1, 10, [None]),
      ),
      **coco('val2014', 1, 1),
      **coco('val2014', 3, 3),
      'val2014/COCO_val2014_000000000004.jpg': b'<html>gone</html>',
      'val2014/COCO_val2014_000000000005.jpg': picture(5)[:400],
      'val2014/COCO_val2014_000000000006.jpg': sized(picture(6, 'PNG'), 30000),
      'val2014/COCO_val2014_000000000007.jpg': picture(7, 'PNG', size=(1, 9)),
    },
  )
  built = build_tree(
    'vqav2', vqav2, '--splits', 'val', '--shots', '0', '--max_bad', '1'
  )
  assert built.skipped('val') == {
    'bad_reference': ['4'],
    'broken_image': ['9'],
    'duplicate_id': ['1'],
    'empty_text': ['3'],
    'missing_field': [
      '7',
      f'{SAYS.format("val2014")}[7]',
      f'{SAYS.format("val2014")}[8]',
      '10',
    ],
    'missing_file': ['2'],
    'no_answer': ['5'],
    'not_an_image': ['8'],
    'too_large': ['12'],
    'too_small': ['13'],
  }
  assert built.ids('val') == ['1', '11']
  [name] = built.one('val', '11')['input_image']
  assert built.one('val', '11')['input_text'].count('图') == 1
  assert name.endswith('.jpg')
  assert 'What is this?' in built.one('val', '1')['input_text']


def test_no_answer_is_not_bad(vqav2):
  rows = [answered(1, i, ['']) for i in range(2, 9)]
  files = {
    SAYS.format('val2014'): questions(*(question(1, i) for i in range(1, 9))),
    KNOWS.format('val2014'): annotations(answered(1, 1), *rows),
    **coco('val2014', 1, 1),
  }
  write_tree(vqav2, files)
  built = build_tree('vqav2', vqav2, '--splits', 'val', '--max_bad', '0')
  assert len(built.skipped('val')['no_answer']) == 7
  assert built.ids('val') == ['1']


@pytest.mark.parametrize(
  'content, said',
  [
    (None, KNOWS.format('train2014')),
    (b'{"annotations": [\xff]}', 'byte 17 is not UTF-8'),
    ('{"annotations": [', 'line 1'),
    ('[]', '"annotations"'),
    ({'annotations': {}}, '"annotations"'),
  ],
)
def test_wrong_files_are_refused(vqav2, capsys, content, said):
  name = KNOWS.format('train2014')
  (vqav2 / name).unlink()
  if content is not None:
    write_tree(vqav2, {name: content})
  sentence = refusal('vqav2', vqav2, capsys)
  assert said in sentence and name in sentence


def test_okvqa_outputs_the_form_of_answer_not_the_raw_one(tmp_path):
  answers = [
    {
      'answer_id': i + 1,
      'raw_answer': 'racing',
      'answer_confidence': 'yes',
      'answer': 'race',
    }
    for i in range(10)
  ]
  row = answered(3, 35, confidence=3, question_type='four') | {
    'answers': answers
  }
  del row['multiple_choice_answer']
  raw = write_tree(
    tmp_path / 'raw',
    {
      'OpenEnded_mscoco_val2014_questions.json': questions(question(3, 35)),
      'mscoco_val2014_annotations.json': annotations(row),
      **coco('val2017', 3, 30, 2017),
    },
  )
  built = build_tree('okvqa', raw)
  assert list(built.manifest['splits']) == ['val']
  [record] = built.records('val')
  assert record['id'] == 'okvqa/val/35' and record['output_text'] == 'race'
  assert record['meta']['answers'] == ['race'] * 10
  assert built.shown(record) == [30]
  assert set(built.manifest['raw']) == {
    'OpenEnded_mscoco_val2014_questions.json',
    'mscoco_val2014_annotations.json',
  }


def gqa_row(image, **more):
  row = {'semantic': [], 'entailed': [], 'question': 'Is the sky dark?'}
  return {**row, 'imageId': image, 'isBalanced': True, **more}


def test_gqa_keeps_leading_zeros_and_outputs_the_full_answer(tmp_path):
  yes = {'answer': 'yes', 'fullAnswer': 'Yes, the sky is dark.'}
  raw = write_tree(
    tmp_path / 'raw',
    {
      'testdev_balanced_questions.json': {
        '02930152': gqa_row('2354786', **yes),
        '2930152': gqa_row('n161313', **yes),
        '07': gqa_row('n161313', answer='yes'),
        '08': [],
        **{f'1{i}': gqa_row('2354786', **yes) for i in range(8)},
      },
      'challenge_balanced_questions.json': {'001': gqa_row('n161313')},
      'images/2354786.jpg': picture(1),
      'images/n161313.jpg': picture(2),
    },
  )
  built = build_tree('gqa', raw, '--shots', '0')
  assert list(built.manifest['splits']) == ['testdev']
  ids = ['02930152', '2930152', *(f'1{i}' for i in range(8))]
  assert built.ids('testdev') == ids
  for record in built.records('testdev'):
    assert record['output_text'] == 'Yes, the sky is dark.'
    assert record['meta']['answers'] == ['Yes, the sky is dark.', 'yes']
  shown = [built.shown(record) for record in built.records('testdev')]
  assert shown[:2] == [[1], [2]]
  assert built.skipped('testdev') == {
    'missing_field': ['08'],
    'no_answer': ['07'],
  }
  assert built.manifest['unlabelled'] == ['challenge']
  named = build_tree('gqa', raw, '--splits', 'challenge')
  assert named.one('challenge', '001')['output_text'] == ''


def test_gqa_that_is_a_list_is_refused(tmp_path, capsys):
  name = 'train_balanced_questions.json'
  raw = write_tree(tmp_path / 'raw', {name: [], 'images/1.jpg': picture(1)})
  assert f'{name}: not the official layout' in refusal('gqa', raw, capsys)


def aokvqa_row(number, image, split, **more):
  row = {'split': split, 'image_id': image, 'question_id': number}
  choices = ['oak', 'None', 'NA', 'elm']
  return {**row, 'question': 'Which wood?', 'choices': choices, **more}


def test_aokvqa_outputs_the_choice_and_keeps_direct_answers(tmp_path):
  direct = ['elm'] * 8 + ['oak', 'wood']
  more = {
    'correct_choice_idx': 3,
    'direct_answers': direct,
    'difficult_direct_answer': False,
    'rationales': ['a', 'b', 'c'],
  }
  name = '22MexNkBPpdZGX6sxbxVBH'
  raw = write_tree(
    tmp_path / 'raw',
    {
      'aokvqa_v1p0_val.json': [
        aokvqa_row(name, 299207, 'val', **more),
        aokvqa_row('b', 5, 'val', **more | {'correct_choice_idx': 4}),
        aokvqa_row('c', 5, 'val', **more | {'correct_choice_idx': True}),
      ],
      'aokvqa_v1p0_test.json': [aokvqa_row('d', 6, 'test')],
      **coco('val2017', 299207, 1, 2017),
      **coco('val2017', 5, 2, 2017),
      **coco('test2017', 6, 3, 2017),
    },
  )
  built = build_tree('aokvqa', raw, '--max_bad', '1')
  [record] = built.records('val')
  assert record['id'] == f'aokvqa/val/{name}'
  assert record['output_text'] == 'elm' in record['meta']['answers']
  assert record['meta']['direct_answers'] == direct
  assert record['meta']['choices'] == ['oak', 'None', 'NA', 'elm']
  shown = [record['input_text'].index(x) for x in ('oak', 'None', 'NA', 'elm')]
  assert shown == sorted(shown)
  assert built.shown(record) == [1]
  assert built.skipped('val') == {
    'bad_reference': ['b'],
    'missing_field': ['c'],
  }
  named = build_tree('aokvqa', raw, '--splits', 'test')
  [record] = named.records('test')
  assert record['output_text'] == '' and named.shown(record) == [3]
  assert 'oak' in record['input_text']


def test_vizwiz_knows_questions_by_their_pictures(tmp_path):
  rows = [
    {
      'image': f'VizWiz_val_0000000{i}.jpg',
      'question': 'What is this? ',
      'answers': [{'answer': a, 'answer_confidence': 'yes'} for a in answers],
      'answer_type': 'unanswerable',
      'answerable': 0,
    }
    for i, answers in enumerate((TEN, [''] * 10, TEN))
  ]
  test = {'image': 'VizWiz_test_00000000.jpg', 'question': 'Color?'}
  raw = write_tree(
    tmp_path / 'raw',
    {
      'annotations/val.json': rows,
      'annotations/test.json': [test],
      'val/VizWiz_val_00000000.jpg': picture(1),
      'val/VizWiz_val_00000001.jpg': picture(2),
      'val/VizWiz_val_00000002.jpg': b'',
      'test/VizWiz_test_00000000.jpg': picture(3),
    },
  )
  built = build_tree('vizwiz', raw)
  assert built.ids('val') == ['VizWiz_val_00000000.jpg']
  [record] = built.records('val')
  assert record['meta']['answers'] == TEN
  assert record['meta']['score_id'] == 'VizWiz_val_00000000.jpg'
  assert record['meta']['answer_type'] == 'unanswerable'
  assert built.skipped('val') == {
    'empty_file': ['VizWiz_val_00000002.jpg'],
    'no_answer': ['VizWiz_val_00000001.jpg'],
  }
  assert built.manifest['unlabelled'] == ['test']
  named = build_tree('vizwiz', raw, '--splits', 'test')
  assert named.shown(named.one('test', 'VizWiz_test_00000000.jpg')) == [3]

"""LLaVA-Instruct-150K and Visual Dialog from trees in miniature."""

import json

import pytest
from tiny_builds import built
from tiny_pictures import FAULTS, put, still

# LLaVA


def talk(number, *spoken, image=..., **changes):
  """A conversation; '<image>' stands in the first turn."""
  name = f'{number:012d}'
  turns = [
    {'from': ('human', 'gpt')[i % 2], 'value': text}
    for i, text in enumerate(spoken)
  ]
  image = f'{name}.jpg' if image is ... else image
  return {'id': name, 'image': image, 'conversations': turns} | changes


def form(tmp_path):
  path = tmp_path / 'forms.json'
  value = {'fields': ['dialog'], 'forms': ['image {0} is {image}.\n{dialog}']}
  path.write_text(json.dumps(value))
  return str(path)


FIRST = talk(
  1,
  'What is on {0} of image 3?\n<image>',
  'User: a <image2> cup.',
  'And\nBot: then?',
  'A second <image> 图.',
)


def llava(raw, rows, name='llava_instruct_150k.json', places=(1, 2)):
  put(raw / name, json.dumps(rows))
  for number in places:
    put(raw / 'train2017' / f'{number:012d}.jpg', still(number))


def test_a_conversation_word_for_word(tmp_path):
  raw = tmp_path / 'raw'
  llava(raw, [FIRST, talk(2, '<image>\nWhat?', 'A kite.')])
  made = built('llava', raw, tmp_path / 'out', templates_path=form(tmp_path))
  first, second = made.records('train')
  assert {k: v for k, v in first.items() if k != 'input_image'} == {
    'input_text': (
      'image 0 is <image0>图.\n'
      'User: What is on {0} of picture 3?\n'
      'Bot: User : a (image2) cup.\n'
      'User: And\nBot : then?\n'
      'Bot:'
    ),
    'output_text': 'A second (image) 圖.',
    'id': 'llava/train/000000000001',
    'dataset': 'llava',
    'meta': {
      'answers': ['A second <image> 图.'],
      'source_ids': ['000000000001'],
      'template': 0,
      'shots': [],
      'dialog': (
        'User: What is on {0} of picture 3?\n'
        'Bot: User : a (image2) cup.\n'
        'User: And\nBot : then?\n'
        'Bot:'
      ),
      'image_id': '1',
    },
  }
  assert made.pictures(first) == [still(1)]
  assert second['input_text'] == 'image 0 is <image0>图.\nUser: What?\nBot:'
  assert second['output_text'] == 'A kite.'


def test_chat_does_not_call_the_speaker_twice(tmp_path):
  raw = tmp_path / 'raw'
  llava(raw, [talk(2, 'A?\n<image>', 'B.', 'C?', 'D.')])
  [record] = built(
    'llava', raw, tmp_path / 'out', style='chat', templates_path=form(tmp_path)
  ).records('train')
  assert record['input_text'] == (
    'User: image 0 is <image0>图.\nUser: A?\nBot: B.\nUser: C?'
  )
  assert record['output_text'] == 'Bot: D.'


def test_the_three_parts_stand_for_the_whole_and_the_80k_are_never_read(
  tmp_path,
):
  raw = tmp_path / 'raw'
  parts = ['conversation_58k', 'detail_23k', 'complex_reasoning_77k']
  for i, part in enumerate(parts):
    rows = [talk(1, 'Q?\n<image>', f'{part} of one.')]
    rows += [talk(2, 'Q?\n<image>', f'{part} of two.')] if i else []
    llava(raw, rows, f'{part}.json')
  llava(raw, [FIRST] * 3, 'llava_instruct_80k.json')
  made = built('llava', raw, tmp_path / 'out')
  one, two = '000000000001', '000000000002'
  assert made.ids('train') == [one, f'{one}#2', two, f'{one}#3', f'{two}#2']
  assert [x['output_text'] for x in made.records('train')] == [
    'conversation_58k of one.',
    'detail_23k of one.',
    'detail_23k of two.',
    'complex_reasoning_77k of one.',
    'complex_reasoning_77k of two.',
  ]
  llava(raw, [FIRST])
  made = built('llava', raw, tmp_path / 'whole')
  assert made.ids('train') == [one]


def test_pictures_are_found_in_2014_too(tmp_path):
  raw = tmp_path / 'raw'
  llava(raw, [FIRST], places=())
  put(raw / 'train2014/COCO_train2014_000000000001.jpg', still(9))
  made = built('llava', raw, tmp_path / 'out')
  assert made.pictures(made.record('train/000000000001')) == [still(9)]


def test_bad_conversations(tmp_path):
  raw = tmp_path / 'raw'
  ask = '<image>\nWhat?'
  rows = [
    talk(1, ask, 'A kite.'),
    talk(2, ask, 'A kite.', 'And?'),
    talk(3, ask, ' '),
    talk(4, '<image>', 'An answer to nothing.'),
    talk(5),
    talk(6, ask, 'A', conversations=None),
    talk(7, ask, 'A', image='../000000000001.jpg'),
    talk(8, ask, 'A', image='kite.jpg'),
    talk(9, ask, 'A', image=None),
    talk(10, ask, 'A', id=None),
    talk(11, ask, 'A'),
    talk(12, ask, 'A'),
    talk(13, ask, 'A', conversations=[{'from': 'gpt', 'value': 'A'}] * 2),
  ]
  llava(raw, rows)
  put(raw / 'train2017/000000000011.jpg', FAULTS['too_small'])
  made = built('llava', raw, tmp_path / 'out', max_bad=1.0)
  assert made.ids('train') == ['000000000001']
  assert made.skipped('train') == {
    'bad_reference': ['000000000008'],
    'empty_text': ['000000000004'],
    'missing_field': [
      '000000000006',
      '000000000009',
      'llava_instruct_150k.json[9]',
      '000000000013',
    ],
    'missing_file': ['000000000012'],
    'no_answer': ['000000000002', '000000000003', '000000000005'],
    'outside_raw': ['000000000007'],
    'too_small': ['000000000011'],
  }


# Visual Dialog

ANSWERS = ['yes', 'no', '2', 'red 图', 'i think so', 'image 1']
QUESTIONS = [
  'is it sunny',
  'how many kites',
  'what color',
  'User: are they old',
]


def turn(question, answer=..., options=100, gt=3):
  whole = {
    'question': question,
    'answer': answer,
    'answer_options': [i % len(ANSWERS) for i in range(options)],
    'gt_index': gt,
  }
  if answer is ...:
    del whole['answer'], whole['gt_index']
  return whole


def visdial(raw, dialogs, split='val', dense=None):
  data = {'questions': QUESTIONS, 'answers': ANSWERS, 'dialogs': dialogs}
  whole = {'version': '1.0', 'split': f'{split}2018', 'data': data}
  put(raw / f'visdial_1.0_{split}.json', json.dumps(whole))
  if dense is not None:
    put(raw / f'visdial_1.0_{split}_dense_annotations.json', json.dumps(dense))
  for number in (185565, 7):
    name = f'VisualDialog_{split}2018'
    put(raw / name / f'{name}_{number:012d}.jpg', still(number))


def dialog(number, turns, caption='a kite <image> in the sky '):
  return {'image_id': number, 'caption': caption, 'dialog': turns}


def test_rounds_word_for_word(tmp_path):
  raw = tmp_path / 'raw'
  turns = [turn(0, 3), turn(3, 5), turn(1, 2)]
  relevance = [0.0] * 99 + [1.0]
  dense = [{'image_id': 185565, 'round_id': 2, 'gt_relevance': relevance}]
  visdial(raw, [dialog(185565, turns), dialog(7, [turn(2, 0)])], dense=dense)
  made = built('visdial', raw, tmp_path / 'out', templates_path=form(tmp_path))
  assert made.ids('val') == ['185565/1', '185565/2', '185565/3', '7/1']
  last = made.record('val/185565/3')
  assert last['input_text'] == (
    'image 0 is <image0>图.\n'
    'Caption: a kite (image) in the sky\n'
    'User: is it sunny?\nBot: red 圖\n'
    'User: User : are they old?\nBot: picture 1\n'
    'User: how many kites?\nBot:'
  )
  assert last['output_text'] == '2'
  assert last['meta']['answers'] == ['2']
  assert last['meta']['source_ids'] == ['185565']
  assert last['meta']['gt_index'] == 3
  assert 'relevance' not in last['meta']
  assert last['meta']['candidates'] == [
    ANSWERS[i % len(ANSWERS)] for i in range(100)
  ]
  second = made.record('val/185565/2')
  assert second['output_text'] == 'picture 1'
  assert second['meta']['answers'] == ['image 1']
  assert second['meta']['relevance'] == relevance
  assert 'score_id' not in second['meta']  # image_id/round is in the id
  assert made.pictures(second) == made.pictures(last) == [still(185565)]


def test_of_the_test_split_the_last_round_is_asked(tmp_path):
  raw = tmp_path / 'raw'
  visdial(raw, [dialog(7, [turn(0, 1), turn(1)])], 'test')
  visdial(raw, [dialog(7, [turn(0, 1)])])
  made = built('visdial', raw, tmp_path / 'val')
  assert made.manifest['unlabelled'] == ['test']
  made = built('visdial', raw, tmp_path / 'out', splits=('test',))
  [record] = made.records('test')
  assert record['id'] == 'visdial/test/7/2'
  assert record['output_text'] == '' and record['meta']['answers'] == []
  assert record['input_text'].endswith(
    'User: is it sunny?\nBot: no\nUser: how many kites?\nBot:'
  )
  assert len(record['meta']['candidates']) == 100


def test_a_dialog_with_a_bad_round_gives_no_record(tmp_path):
  raw = tmp_path / 'raw'
  good = [turn(0, 1), turn(1, 2)]
  dialogs = [
    dialog(185565, good),
    dialog(1, [*good, turn(99, 0)]),
    dialog(2, [*good, turn(0, 99)]),
    dialog(3, [*good, {'answer': 1}]),
    dialog(4, good, caption=None),
    dialog(5, good, caption=' '),
    dialog(6, good),
    dialog(185565, good),
    dialog(None, good),
    dialog(8, None),
  ]
  visdial(raw, dialogs)
  made = built('visdial', raw, tmp_path / 'out', max_bad=1.0)
  assert made.ids('val') == ['185565/1', '185565/2']
  assert made.skipped('val') == {
    'bad_reference': ['1', '2'],
    'duplicate_id': ['185565'],
    'empty_text': ['5'],
    'missing_field': ['3', '4', 'visdial_1.0_val.json[8]', '8'],
    'missing_file': ['6'],
  }


@pytest.mark.parametrize('shots', [0, 4])
def test_demonstrations_of_a_round_are_of_other_dialogs(tmp_path, shots):
  raw = tmp_path / 'raw'
  visdial(raw, [dialog(n, [turn(0, 1), turn(1, 2)]) for n in (185565, 7)])
  made = built('visdial', raw, tmp_path / 'out', shots=shots)
  for record in made.records('val'):
    shown = [name.split('/')[2] for name in record['meta']['shots']]
    assert record['meta']['source_ids'][0] not in shown
    assert len(shown) <= min(shots, 1)

"""VCR: crops of what is named, tokens as text, options with labels."""

import io
import json

import pytest
from PIL import Image
from tiny_builds import built
from tiny_pictures import FAULTS, blocks, lines, put

RED, GREEN, BLUE, WHITE = (200, 0, 0), (0, 160, 0), (0, 0, 200), (250, 250, 250)
SIZE = (60, 40)
BOXES = [(2, 2, 12, 20), (14, 4, 30, 24), (32, 6, 44, 30), (46, 8, 58, 38)]
COLOURS = [RED, GREEN, BLUE, WHITE]
NAMES = ['person', 'person', 'tv', 'dog']
ANSWERS = [
  [[0], 'is', 'bored', '.'],
  ['She', 'does', "n't", 'like', [0, 1], 'or', [3], '!'],
  ['It', 'is', [3], "'s", 'turn', ';', 'not', 'everyone', "'s", '.'],
  ['No', 'reason', ',', 'I', 'think', '...'],
]
QUESTION = ['Why', 'are', [2, 0, 1], 'here', '?']


def row(number=0, split='train', **changes):
  movie = "3015_A & B'S FILM"
  whole = {
    'movie': movie,
    'objects': NAMES,
    'img_fn': f'lsmdc_{movie}/x@{number}.jpg',
    'metadata_fn': f'lsmdc_{movie}/x@{number}.json',
    'question': QUESTION,
    'answer_choices': ANSWERS,
    'answer_label': 1,
    'rationale_choices': [['So', '.'], [[3], 'barks', '.'], ['A'], ['B']],
    'rationale_label': 1,
    'question_orig': 'Why are 1 and 2 here?',
    'annot_id': f'{split}-{number}',
    'img_id': f'{split}-{number}',
  }
  whole |= changes
  return {key: value for key, value in whole.items() if value is not ...}


def write(raw, rows, split='train', boxes=BOXES, faults=None):
  """The tree: a frame for each row, its bytes as `faults` says."""
  lines(raw / 'vcr1' / f'{split}.jsonl', rows)
  for x in rows:
    if isinstance(x, str) or 'img_fn' not in x or x['img_fn'].startswith('..'):
      continue
    frame = blocks(SIZE, dict(zip(BOXES, COLOURS, strict=True)))
    place = raw / 'vcr1' / 'vcr1images'
    data = (faults or {}).get(x.get('annot_id'), frame)
    put(place / x['img_fn'], data)
    about = {
      'boxes': [[*map(float, box), 0.9] for box in boxes],
      'names': NAMES,
      'width': SIZE[0],
      'height': SIZE[1],
    }
    put(place / x['metadata_fn'], json.dumps(about))


def test_a_record_word_for_word(tmp_path):
  write(tmp_path / 'raw', [row()])
  forms = tmp_path / 'forms.json'
  forms.write_text(
    json.dumps(
      {'fields': ['question', 'options'], 'forms': ['{question}\n{options}']}
    )
  )
  made = built(
    'vcr', tmp_path / 'raw', tmp_path / 'out', templates_path=str(forms)
  )
  [record] = made.records('train')
  assert record['id'] == 'vcr/train/train-0'
  assert record['meta']['source_ids'] == ['train-0']
  assert record['input_text'] == (
    'image 0 is <image0>图.\nimage 1 is <image1>图.\nimage 2 is <image2>图.\n'
    'image 3 is <image3>图.\nimage 4 is <image4>图.\n'
    'Why are image 1, image 2 and image 3 here?\n'
    'A. image 2 is bored.\n'
    "B. She doesn't like image 2 and image 3 or image 4!\n"
    "C. It is image 4's turn; not everyone's.\n"
    'D. No reason, I think...'
  )
  answer = "B. She doesn't like image 2 and image 3 or image 4!"
  assert record['output_text'] == answer
  assert record['meta']['answers'] == [answer]
  assert record['meta']['question'] == (
    'Why are image 1, image 2 and image 3 here?'
  )
  assert record['meta']['objects'] == ['tv', 'person', 'person', 'dog']
  whole, *crops = made.pictures(record)
  frame = tmp_path / 'raw/vcr1/vcr1images' / row()['img_fn']
  assert whole == frame.read_bytes()
  for data, i in zip(crops, (2, 0, 1, 3), strict=True):
    with Image.open(io.BytesIO(data)) as crop:
      left, top, right, bottom = BOXES[i]
      assert crop.format == 'JPEG'
      assert crop.size == (right - left, bottom - top)
      rgb = COLOURS[i]
      middle = crop.getpixel((crop.width // 2, crop.height // 2))
      assert max(abs(a - b) for a, b in zip(middle, rgb, strict=True)) < 8


def test_the_rationale_follows_the_answer_and_shows_its_objects(tmp_path):
  choices = [['Yes'], ['No'], ['Perhaps'], ['Never']]
  write(tmp_path / 'raw', [row(question=[[0], '?'], answer_choices=choices)])
  [record] = built(
    'vcr', tmp_path / 'raw', tmp_path / 'out', settings={'rationale': 'true'}
  ).records('train')
  assert record['output_text'] == 'B. No Because image 2 barks.'
  assert len(record['input_image']) == 3
  [record] = built('vcr', tmp_path / 'raw', tmp_path / 'plain').records('train')
  assert record['output_text'] == 'B. No'
  assert len(record['input_image']) == 2


def test_demonstrations_move_the_numbers_of_question_options_and_answer(
  tmp_path,
):
  raw = tmp_path / 'raw'
  write(raw, [row(i) for i in range(4)])
  for i in range(4):  # frames of one look are one picture
    frame = blocks((60, 41 + i), dict(zip(BOXES, COLOURS, strict=True)))
    put(raw / 'vcr1/vcr1images' / row(i)['img_fn'], frame)
  # Crops of equal looks would be shared, so each row names its own object.
  rows = [
    row(
      i,
      question=['What', 'of', [i], '?'],
      answer_choices=[[[i], 'a'], ['b'], ['c'], ['d']],
      answer_label=0,
    )
    for i in range(4)
  ]
  lines(raw / 'vcr1/train.jsonl', rows)
  made = built('vcr', raw, tmp_path / 'out', shots=3)
  firsts = set()
  for record in made.records('train'):
    first = len(record['input_image']) - 2
    firsts.add(first)
    assert record['output_text'] == f'A. image {first + 1} a'
    assert record['meta']['answers'] == [record['output_text']]
    assert record['meta']['question'] == f'What of image {first + 1}?'
    assert record['output_text'] in record['input_text']
  assert len(firsts) > 1


def test_reserved_words_of_tokens_are_respelled(tmp_path):
  question = [
    'User',
    ':',
    'is',
    'image',
    '3',
    '图',
    '<image3>',
    [0],
    '{0}',
    '?',
  ]
  choices = [['image', '7', '.'], ['Bot', ':', [1]], ['图'], ['{1}']]
  write(tmp_path / 'raw', [row(question=question, answer_choices=choices)])
  [record] = built('vcr', tmp_path / 'raw', tmp_path / 'out').records('train')
  shown = 'User : is picture 3 圖 (image3) image 1 {0}?'
  assert record['meta']['question'] == shown
  assert shown in record['input_text']
  for text in ('A. picture 7.', 'C. 圖', 'D. {1}'):
    assert text in record['input_text']
  assert record['output_text'].startswith('B. Bot')
  assert record['output_text'].endswith('image 2')


def test_the_test_split_has_no_answers(tmp_path):
  unlabelled = {'answer_label': ..., 'rationale_label': ...}
  write(tmp_path / 'raw', [row(split='test', **unlabelled)], split='test')
  write(tmp_path / 'raw', [row(1, split='val')], split='val')
  made = built('vcr', tmp_path / 'raw', tmp_path / 'out')
  assert list(made.manifest['splits']) == ['val']
  assert made.manifest['unlabelled'] == ['test']
  made = built('vcr', tmp_path / 'raw', tmp_path / 'test', splits=('test',))
  [record] = made.records('test')
  assert record['output_text'] == '' and record['meta']['answers'] == []
  assert 'B. She' in record['input_text']


def test_bad_items_have_a_reason_and_no_record(tmp_path):
  rows = {
    'good': row(0),
    'missing_field': row(1, objects=...),
    'null question': row(2, question=None),
    'bad label': row(3, answer_label=4),
    'out of range': row(4, question=['Who', 'is', [4], '?']),
    'negative': row(5, question=['Who', 'is', [-1], '?']),
    'climbs': row(6, img_fn='../../../frame.jpg'),
    'double': row(0, question=['Another', '?']),
    'last': row(7),
  }
  faults = {}
  for number, (reason, data) in enumerate(FAULTS.items(), 20):
    rows[reason + ' of a frame'] = row(number)
    faults[f'train-{number}'] = data
  write(tmp_path / 'raw', [*rows.values(), '{"annot_id": '], faults=faults)
  made = built('vcr', tmp_path / 'raw', tmp_path / 'out', max_bad=1.0)
  assert made.ids('train') == ['train-0', 'train-7']
  assert made.skipped('train') == {
    'bad_line': [f'vcr1/train.jsonl:{len(rows) + 1}'],
    'bad_reference': ['train-3', 'train-4', 'train-5'],
    'broken_image': ['train-23'],
    'duplicate_id': ['train-0'],
    'empty_file': ['train-21'],
    'missing_field': ['train-1', 'train-2'],
    'missing_file': ['train-20'],
    'not_an_image': ['train-22'],
    'outside_raw': ['train-6'],
    'too_small': ['train-24'],
  }


def test_corners_are_rounded_and_clamped_and_empty_boxes_are_bad(tmp_path):
  raw = tmp_path / 'raw'
  rows = [
    row(i, question=[[i], '?'], answer_choices=[['y'], ['n'], ['a'], ['b']])
    for i in range(4)
  ]
  boxes = [
    (-3.2, 1.6, 10.4, 99.0),
    (20.0, 5.0, 20.4, 30.0),
    (70.0, 5.0, 90.0, 30.0),
    (46.0, 8.0, 58.0, 38.0),
  ]
  write(raw, rows, boxes=boxes)
  made = built('vcr', raw, tmp_path / 'out')
  assert made.skipped('train') == {'bad_box': ['train-1', 'train-2']}
  _, crop = made.pictures(made.record('train/train-0'))
  with Image.open(io.BytesIO(crop)) as image:
    assert image.size == (10, 38)


def test_more_than_twenty_pictures_are_too_many(tmp_path):
  raw = tmp_path / 'raw'
  many = [[i] for i in range(20)]
  boxes = [(i, 0, i + 5, 9) for i in range(20)]
  rows = [row(0, objects=['person'] * 20, question=[*many, '?']), row(1)]
  rows[1] |= {'objects': ['person'] * 20, 'question': [*many[:15], '?']}
  write(raw, rows, boxes=boxes)
  made = built('vcr', raw, tmp_path / 'out')
  assert made.skipped('train') == {'too_many_images': ['train-0']}
  [record] = made.records('train')
  assert len(record['input_image']) == 16


@pytest.mark.parametrize('about', ['no JSON', '{"names": []}', None])
def test_a_frame_without_boxes(tmp_path, about):
  raw = tmp_path / 'raw'
  write(raw, [row(0), row(1)])
  place = raw / 'vcr1/vcr1images' / row(1)['metadata_fn']
  place.unlink()
  put(place, about)
  made = built('vcr', raw, tmp_path / 'out')
  reason = 'missing_file' if about is None else 'missing_field'
  assert made.skipped('train') == {reason: ['train-1']}

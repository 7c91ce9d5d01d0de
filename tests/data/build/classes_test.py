"""miniImageNet, Hateful Memes and Bongard-HOI from trees in miniature."""

import io
import json

from PIL import Image
from tiny_builds import built
from tiny_pictures import FAULTS, blocks, lines, put, still

# miniImageNet


def test_miniimagenet_answers_with_names_that_no_file_has(tmp_path):
  raw = tmp_path / 'raw'
  wnids = ['n01532829', 'n01558993', 'n01704323']
  rows = [(f'{wnid}{i:08d}.jpg', wnid) for wnid in wnids for i in range(4)]
  text = 'filename,label\n' + ''.join(f'{a},{b}\n' for a, b in rows)
  put(raw / 'train.csv', text)
  for i, (name, wnid) in enumerate(rows):
    # Some copies move pictures to a folder of the class.
    place = raw / 'images' if i % 2 else raw / 'train' / wnid
    put(place / name, still(i, (84, 84)))
  made = built('miniimagenet', raw, tmp_path / 'out')
  assert made.ids('train') == [name for name, _ in rows]
  shown = set()
  for i, (record, (_, wnid)) in enumerate(
    zip(made.records('train'), rows, strict=True)
  ):
    assert record['meta']['class'] == wnid
    assert record['meta']['answers'] == [record['output_text']]
    assert made.pictures(record)[-1] == still(i, (84, 84))
    assert len(record['input_image']) == 1 + len(record['meta']['shots'])
    shown.add(len(record['meta']['shots']))
  assert len(shown) > 2
  found = {x['meta']['class']: x['output_text'] for x in made.records('train')}
  assert found == {
    'n01532829': 'house finch',
    'n01558993': 'robin',
    'n01704323': 'triceratops',
  }


def test_miniimagenet_bad_rows(tmp_path):
  raw = tmp_path / 'raw'
  wnid = 'n01532829'
  names = [f'{wnid}{i:08d}.jpg' for i in range(5)]
  rows = [f'{names[0]},{wnid}', f'{names[1]},n99999999']
  rows += [
    f'{names[2]}',
    f'{names[0]},{wnid}',
    f'{names[3]},{wnid}',
  ]
  rows += [f'../x.jpg,{wnid}', f',{wnid}']
  put(raw / 'val.csv', '\r\n'.join(['filename,label', *rows, '']))
  put(raw / 'images' / names[0], still(0))
  made = built('miniimagenet', raw, tmp_path / 'out', max_bad=1.0)
  assert made.ids('val') == [names[0]]
  assert made.skipped('val') == {
    'bad_reference': [names[1]],
    'duplicate_id': [names[0]],
    'missing_field': [names[2], 'val.csv:8'],
    'missing_file': [names[3]],
    'outside_raw': ['../x.jpg'],
  }


# Hateful Memes


def test_hateful_memes(tmp_path):
  raw = tmp_path / 'raw'
  text = 'when <image> says:\nUser: {text}'
  lines(
    raw / 'annotations/dev_seen.jsonl',
    [
      {'id': 8291, 'img': 'img/08291.png', 'label': 1, 'text': text},
      {'id': 42, 'img': 'img/00042.png', 'label': 0, 'text': 'a kite'},
      {'id': 43, 'img': 'img/00043.png', 'text': 'no label'},
      {'id': 44, 'img': '/img/00044.png', 'label': 0, 'text': 'absolute'},
      {'id': 45, 'img': 'img/00042.png', 'label': 2, 'text': 'x'},
      {'id': 42, 'img': 'img/00042.png', 'label': 0, 'text': 'double'},
      {'id': None, 'img': 'img/00042.png', 'label': 0, 'text': 'x'},
      {'id': 46, 'img': 'img/00046.png', 'label': 0, 'text': 'x'},
      {'id': 47, 'img': 'img/00042.png', 'label': 0, 'text': ' '},
      '[1',
    ],
  )
  put(raw / 'img/08291.png', still(1, kind='PNG', mode='RGBA'))
  put(raw / 'img/00042.png', still(2, kind='PNG', mode='P'))
  put(raw / 'img/00046.png', FAULTS['broken_image'])
  made = built('hateful_memes', raw, tmp_path / 'out', max_bad=1.0)
  assert list(made.manifest['splits']) == ['dev_seen']
  assert made.ids('dev_seen') == ['8291', '42']  # not padded
  yes, no = made.records('dev_seen')
  assert (yes['output_text'], no['output_text']) == ('yes', 'no')
  shown = 'when (image) says:\nUser : {text}'
  assert yes['meta']['text'] == shown and shown in yes['input_text']
  assert made.pictures(yes) == [still(1, kind='PNG', mode='RGBA')]
  assert made.pictures(no) == [still(2, kind='PNG', mode='P')]
  where = 'annotations/dev_seen.jsonl'
  assert made.skipped('dev_seen') == {
    'bad_line': [f'{where}:10'],
    'bad_reference': ['45'],
    'broken_image': ['46'],
    'duplicate_id': ['42'],
    'empty_text': ['47'],
    'missing_field': [f'{where}:7'],
    'no_answer': ['43'],
    'outside_raw': ['44'],
  }


# Bongard-HOI

BOX = (4, 4, 20, 16)


def shown(name, box=BOX):
  inner = [0.0, 0.0, 5.0, 5.0]
  return {
    'im_path': name,
    'crop_bbox': list(box),
    'sub_bbox': inner,
    'obj_bbox': inner,
  }


def side(front, top='vcoco/val2014'):
  return [shown(f'{top}/{front}{i}.jpg') for i in range(7)]


def bongard(raw, problems, missing=(), split='test_seen_obj_seen_act'):
  put(raw / f'cache/bongard_hoi_{split}.json', json.dumps(problems))
  for problem in problems:
    for part in problem[:2]:
      for number, one in enumerate(part):
        name = one['im_path']
        colour = (30 * number, 10 * len(name) % 256, ord(name[-6]) % 256)
        if name not in missing:
          put(
            raw / 'hake/images' / name,
            blocks((40, 32), {(0, 0, 40, 32): colour}),
          )


def colours(made, record):
  found = []
  for data in made.pictures(record):
    with Image.open(io.BytesIO(data)) as image:
      found.append(image.convert('RGB').getpixel((2, 2)))
  return found


def test_bongard_asks_of_the_last_of_each_side(tmp_path):
  raw = tmp_path / 'raw'
  problems = [
    [side('a'), side('b'), 'ride++bicycle'],
    [side('c'), side('d'), 'x'],
  ]
  bongard(raw, problems)
  made = built('bongard_hoi', raw, tmp_path / 'out')
  split = 'test_seen_obj_seen_act'
  assert made.ids(split) == ['0/0', '0/1', '1/0', '1/1']
  positive, negative, *_ = made.records(split)
  assert positive['output_text'] == 'positive'
  assert negative['output_text'] == 'negative'
  assert positive['meta']['source_ids'] == ['0']
  assert positive['meta']['score_id'] == f'{split}/0/0'
  assert positive['meta']['concept'] == 'ride++bicycle'
  assert 'bicycle' not in positive['input_text']
  # Six of one side, six of the other, then the query: red tells the place.
  for record, blue in ((positive, 'a'), (negative, 'b')):
    found = colours(made, record)
    assert len(found) == 13
    places = [round(red / 30) for red, _, _ in found]
    assert places == [*range(6), *range(6), 6]
    wanted = [*[ord('a')] * 6, *[ord('b')] * 6, ord(blue)]
    assert all(abs(x[2] - y) < 5 for x, y in zip(found, wanted, strict=True))


def test_bongard_boxes_of_openimages_are_scaled(tmp_path):
  raw = tmp_path / 'raw'
  other = side('b')
  other[6] = shown('vcoco/val2014/b6.jpg', (-2.0, 3.4, 12.6, 90))
  problems = [[side('a', 'openimages/images'), other, 'x']]
  bongard(raw, problems)
  made = built('bongard_hoi', raw, tmp_path / 'out')
  split = 'test_seen_obj_seen_act'
  sizes = {}
  for part in (0, 1):
    record = made.record(f'{split}/0/{part}')
    sizes[part] = []
    for data in made.pictures(record):
      with Image.open(io.BytesIO(data)) as image:
        assert image.format == 'JPEG'
        sizes[part].append(image.size)
  large, small = (26, 20), (16, 12)  # 1.6 x (4, 4, 20, 16) = 6, 6, 32, 26
  assert sizes[0] == [large] * 6 + [small] * 6 + [large]
  assert sizes[1] == [large] * 6 + [small] * 6 + [(13, 29)]


def test_bongard_leaves_out_the_whole_of_a_bad_problem(tmp_path):
  raw = tmp_path / 'raw'
  problems = [[side(2 * i), side(2 * i + 1), 'x'] for i in range(7)]
  problems[1][0] = problems[1][0][:6]
  problems[2][1][6] = shown('../../../x.jpg')
  problems[3][1][2] = shown('vcoco/val2014/72.jpg', (50, 4, 60, 9))
  problems[4][1][2] = shown('vcoco/val2014/92.jpg', (4, 4))
  del problems[5][0][0]['crop_bbox']
  gone = 'vcoco/val2014/136.jpg'  # the query of one side only
  bongard(raw, problems, missing=(gone, '../../../x.jpg'))
  made = built('bongard_hoi', raw, tmp_path / 'out', max_bad=1.0)
  split = 'test_seen_obj_seen_act'
  assert made.ids(split) == ['0/0', '0/1']
  assert made.skipped(split) == {
    'bad_box': ['3', '4'],
    'missing_field': ['1', '5'],
    'missing_file': ['6'],
    'outside_raw': ['2'],
  }

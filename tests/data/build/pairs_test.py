"""NLVR2, VSR, Winoground, POPE and MME: true or false of pictures."""

import json
import zipfile

import pytest
from tiny_builds import built
from tiny_pictures import FAULTS, lines, put, still


def forms(tmp_path, form, *fields):
  """A file of templates that has one form."""
  path = tmp_path / 'forms.json'
  path.write_text(json.dumps({'fields': fields, 'forms': [form]}))
  return str(path)


# NLVR2


def pair(name, sentence='The cups are red.', label='True', **changes):
  return {
    'validation': {'61': 'True'},
    'sentence': sentence,
    'left_url': 'http://a/b.jpg',
    'right_url': 'http://a/c.jpg',
    'label': label,
    'synset': 'cup',
    'identifier': name,
  } | changes


def nlvr2(raw, rows, split='dev', top='dev', faults=None):
  """Both pictures of each pair; PNGs by name, JPEGs by content every second."""
  lines(raw / 'data' / f'{split}.json', rows)
  names = {
    (row.get('directory'), row['identifier'].rpartition('-')[0])
    for row in rows
    if isinstance(row, dict) and isinstance(row.get('identifier'), str)
  }
  for number, (directory, name) in enumerate(sorted(names, key=repr)):
    for side in (0, 1):
      folder = raw / top / ('' if directory is None else str(directory))
      kind = ('JPEG', 'PNG')[number % 2]
      data = still(2 * number + side, kind=kind)
      file = f'{name}-img{side}.png'
      put(folder / file, (faults or {}).get(file, data))


def test_nlvr2_word_for_word_with_its_pair_in_order(tmp_path):
  raw = tmp_path / 'raw'
  nlvr2(raw, [pair('dev-850-0-0', 'Cups, {0} of image 5.', 'False')])
  made = built(
    'nlvr2',
    raw,
    tmp_path / 'out',
    templates_path=forms(
      tmp_path,
      'image {0}, left: {image}. image {1}, right: {image}. {statement}. So?',
      'statement',
    ),
  )
  [record] = made.records('dev')
  left, right = (
    (raw / 'dev' / f'dev-850-0-img{side}.png').read_bytes() for side in (0, 1)
  )
  assert made.pictures(record) == [left, right]
  assert [path[-4:] for path in record['input_image']] == ['.jpg', '.jpg']
  assert {k: v for k, v in record.items() if k != 'input_image'} == {
    'input_text': (
      'image 0, left: <image0>图. image 1, right: <image1>图. '
      'Cups, {0} of picture 5. So?'
    ),
    'output_text': 'False',
    'id': 'nlvr2/dev/dev-850-0-0',
    'dataset': 'nlvr2',
    'meta': {
      'answers': ['False'],
      'source_ids': ['dev-850-0-0'],
      'template': 0,
      'shots': [],
      'statement': 'Cups, {0} of picture 5.',
    },
  }


def test_nlvr2_demonstrations_show_neither_of_the_pair(tmp_path):
  raw = tmp_path / 'raw'
  rows = [
    pair(f'train-{i}-{j}-{s}', directory=i % 3)
    for i in range(6)
    for j in range(2)
    for s in range(2)
  ]
  nlvr2(raw, rows, 'train', 'images/train')
  made = built('nlvr2', raw, tmp_path / 'out', seed=3)
  records = made.records('train')
  assert made.ids('train') == [row['identifier'] for row in rows]
  counts = set()
  for record in records:
    shown = [name.split('/')[-1] for name in record['meta']['shots']]
    counts.add(len(shown))
    pairs = [name.rpartition('-')[0] for name in shown]
    own = record['meta']['source_ids'][0].rpartition('-')[0]
    assert len({*pairs, own}) == len(pairs) + 1
    wanted = [
      (raw / 'images/train' / str(int(p.split('-')[1]) % 3) / f'{p}-img{s}.png')
      for p in (*pairs, own)
      for s in (0, 1)
    ]
    assert made.pictures(record) == [path.read_bytes() for path in wanted]
  assert counts == set(range(6))
  other = built('nlvr2', raw, tmp_path / 'other', seed=4)
  assert [x['meta']['shots'] for x in other.records('train')] != [
    x['meta']['shots'] for x in records
  ]


def test_nlvr2_bad_items(tmp_path):
  raw = tmp_path / 'raw'
  rows = [
    pair('dev-0-0-0'),
    pair('dev-1-0-0', sentence=' '),
    pair('dev-2-0-0', label=...),
    pair('dev-3-0-0', label='Maybe'),
    pair('dev-4-0-0', label=True),
    pair('dev-0-0-0', 'A double.'),
    pair('dev-5-0-0', identifier=7),
    '{"identifier": "dev-6-0-0",',
    pair('nodash'),
    pair('../dev-7-0-0'),
    pair('dev-0-0-1', 'The pair has another sentence.', 'False'),
  ]
  faults = {}
  for number, (_, data) in enumerate(FAULTS.items(), 20):
    rows.append(pair(f'dev-{number}-0-0'))
    faults[f'dev-{number}-0-img1.png'] = data
  nlvr2(raw, rows, faults=faults)
  made = built('nlvr2', raw, tmp_path / 'out', max_bad=1.0)
  assert made.ids('dev') == ['dev-0-0-0', 'dev-0-0-1']
  assert made.skipped('dev') == {
    'bad_line': ['data/dev.json:8'],
    'bad_reference': ['dev-3-0-0', 'nodash'],
    'broken_image': ['dev-23-0-0'],
    'duplicate_id': ['dev-0-0-0'],
    'empty_file': ['dev-21-0-0'],
    'empty_text': ['dev-1-0-0'],
    'missing_field': ['dev-4-0-0', 'data/dev.json:7'],
    'missing_file': ['dev-20-0-0'],
    'no_answer': ['dev-2-0-0'],
    'not_an_image': ['dev-22-0-0'],
    'outside_raw': ['../dev-7-0-0'],
    'too_small': ['dev-24-0-0'],
  }


# VSR


def caption(image, label=1, text='The cat is on the mat.', **changes):
  return {
    'image': image,
    'image_link': 'http://a/b',
    'caption': text,
    'label': label,
    'relation': 'on',
    'subj': 'cat',
    'obj': 'mat',
    'annotator_id': 2,
    'vote_true_validator_id': '[18, 2]',
    'vote_false_validator_id': '[]',
  } | changes


def test_vsr(tmp_path):
  raw = tmp_path / 'raw'
  a, b = '000000000042.jpg', '000000000043.jpg'
  rows = [
    caption(a), caption(b, 0), caption(a, 0, 'The cat is 图 under.'),
    'no JSON', caption(b, 2), caption(b, None), caption(b, text=''),
    caption('../x.jpg'), caption('000000000044.jpg'), caption(a, 1, 'Third'),
    caption(None),
  ]  # fmt: skip
  lines(raw / 'splits/zeroshot/test.jsonl', rows)
  lines(raw / 'splits/random/test.jsonl', [caption(b, 0, 'Of the random set.')])
  put(raw / 'images' / a, still(1))
  put(raw / 'images' / b, still(2, mode='L'))
  made = built('vsr', raw, tmp_path / 'out', max_bad=1.0)
  assert list(made.manifest['splits']) == ['test']
  assert made.ids('test') == [a, b, f'{a}#2', f'{a}#3']
  records = made.records('test')
  assert [x['output_text'] for x in records] == [
    'True',
    'False',
    'False',
    'True',
  ]
  # The scorer knows a row by its number in the file.
  assert [x['meta']['score_id'] for x in records] == ['0', '1', '2', '9']
  assert records[2]['meta']['statement'] == 'The cat is 圖 under.'
  assert made.pictures(records[1]) == [still(2, mode='L')]
  where = 'splits/zeroshot/test.jsonl'
  assert made.skipped('test') == {
    'bad_line': [f'{where}:4'],
    'bad_reference': [f'{b}#2'],
    'empty_text': [f'{b}#4'],
    'missing_field': [f'{b}#3', f'{where}:11'],
    'missing_file': ['000000000044.jpg'],
    'outside_raw': ['../x.jpg'],
  }
  made = built('vsr', raw, tmp_path / 'random', settings={'set': 'random'})
  [record] = made.records('test')
  assert record['meta']['statement'] == 'Of the random set.'


# Winoground


def example(number, **changes):
  return {
    'id': number,
    'image_0': f'ex_{number}_img_0',
    'image_1': f'ex_{number}_img_1',
    'caption_0': f'a mug in some grass {number}',
    'caption_1': f'some grass in a mug {number}',
    'tag': 'Object',
    'secondary_tag': '',
    'num_main_preds': 1,
    'collapsed_tag': 'Object',
  } | changes


def winoground(raw, rows, how, faults=None):
  """how: where pictures lie, in a folder or inside the zip."""
  files = {
    f'ex_{number}_img_{side}.png': still(2 * number + side, kind='PNG')
    for number in range(4)
    for side in (0, 1)
  } | (faults or {})
  files = {name: data for name, data in files.items() if data is not None}
  if how == 'parquet':
    _as_parquet(raw / 'data/test-00000-of-00001-3f.parquet', rows, files)
    return
  lines(raw / 'data/examples.jsonl', rows)
  if how == 'folder':
    for name, data in files.items():
      put(raw / 'images' / name, data)
    return
  with zipfile.ZipFile(raw / 'data/images.zip', 'w') as archive:
    for name, data in files.items():
      archive.writestr(f'images/{name}' if how == 'zip' else name, data)


def _as_parquet(path, rows, files):
  """As the hub keeps it: pictures are structs of bytes and a name."""
  arrow = pytest.importorskip('pyarrow', reason='Parquet needs pyarrow')
  parquet = pytest.importorskip('pyarrow.parquet')
  path.parent.mkdir(parents=True)
  values = [
    row
    | {
      side: {'bytes': files[f'{row[side]}.png'], 'path': None}
      for side in ('image_0', 'image_1')
    }
    for row in rows
  ]
  parquet.write_table(arrow.Table.from_pylist(values), str(path))


@pytest.mark.parametrize('how', ['folder', 'zip', 'flat zip', 'parquet'])
def test_winoground_asks_four_times(tmp_path, how):
  winoground(tmp_path / 'raw', [example(1), example(0)], how)
  made = built('winoground', tmp_path / 'raw', tmp_path / 'out')
  parts = ['c0i0', 'c0i1', 'c1i0', 'c1i1']
  assert made.ids('test') == [f'{n}/{part}' for n in (1, 0) for part in parts]
  for part, answer in zip(parts, ['yes', 'no', 'no', 'yes'], strict=True):
    record = made.record(f'test/1/{part}')
    assert record['output_text'] == answer
    assert record['meta']['answers'] == [answer]
    assert record['meta']['source_ids'] == ['1']
    assert record['meta']['score_id'] == '1'
    texts = ('a mug in some grass 1', 'some grass in a mug 1')
    assert record['meta']['caption'] == texts[int(part[1])]
    assert made.pictures(record) == [still(2 + int(part[3]), kind='PNG')]


@pytest.mark.parametrize('how', ['folder', 'zip'])
def test_winoground_leaves_out_the_whole_of_a_bad_item(tmp_path, how):
  rows = [example(i) for i in range(4)]
  rows[2]['caption_1'] = None
  faults = {'ex_1_img_1.png': FAULTS['broken_image'], 'ex_3_img_0.png': None}
  winoground(tmp_path / 'raw', rows, how, faults)
  made = built('winoground', tmp_path / 'raw', tmp_path / 'out', max_bad=1.0)
  assert {name.split('/')[0] for name in made.ids('test')} == {'0'}
  assert made.skipped('test') == {
    'broken_image': ['1'],
    'missing_field': ['2'],
    'missing_file': ['3'],
  }
  assert made.manifest['splits']['test']['found'] == 4


# POPE


def asked(number, label='yes', image='COCO_val2014_000000000042.jpg', **more):
  text = 'Is there a snowboard in the image?'
  return {
    'question_id': number,
    'image': image,
    'text': text,
    'label': label,
  } | more


def test_pope(tmp_path):
  raw = tmp_path / 'raw'
  rows = [
    asked(1), asked(2, 'no'), asked(3, ''), asked(4, 'perhaps'), asked(1, 'no'),
    asked(5, image='COCO_val2014_000000000043.jpg'), asked(6, text=None),
    asked(7, image='../../COCO_val2014_000000000042.jpg'), asked(8, image='x'),
  ]  # fmt: skip
  lines(raw / 'output/coco/coco_pope_random.json', rows)
  lines(raw / 'output/coco/coco_pope_popular.json', [asked(1, 'no')])
  put(raw / 'val2014/COCO_val2014_000000000042.jpg', still(1))
  made = built('pope', raw, tmp_path / 'out', max_bad=1.0)
  assert list(made.manifest['splits']) == ['random', 'popular']
  yes, no = made.records('random')
  assert (yes['output_text'], no['output_text']) == ('yes', 'no')
  assert yes['id'] == 'pope/random/1'
  assert yes['meta']['score_id'] == 'random/1'
  assert made.pictures(yes) == [still(1)]
  assert made.skipped('random') == {
    'bad_reference': ['4', '8'],
    'duplicate_id': ['1'],
    'missing_field': ['6'],
    'missing_file': ['5'],
    'no_answer': ['3'],
    'outside_raw': ['7'],
  }


# MME


@pytest.mark.parametrize('apart', [True, False])
def test_mme_asks_twice_of_a_picture(tmp_path, apart):
  top = tmp_path / 'raw/MME_Benchmark_release_version/existence'
  texts = top / 'questions_answers_YN' if apart else top
  pictures = top / 'images' if apart else top
  question = 'Is there a {} in this image? Please answer yes or no.'
  for number, kind in ((2, 'jpg'), (1, 'png')):
    put(pictures / f'000{number}.{kind}', still(number))
    put(
      texts / f'000{number}.txt',
      f'{question.format("dog")}\tYes\r\n{question.format("cat")}\tNo\r\n',
    )
  put(texts / '0003.txt', 'One line\tYes\nAnother\tNo\n')  # has no picture
  put(pictures / '0004.jpg', still(4))
  put(texts / '0004.txt', 'One line\tYes\nAnother\n')
  put(pictures / '0005.jpg', still(5))
  put(texts / '0005.txt', 'One line\tYes\nAnother\t\n')
  put(pictures / '0006.jpg', still(6))
  put(texts / '0006.txt', 'One line\tYes\nAnother\tPerhaps\n')
  put(pictures / '0007.jpg', FAULTS['not_an_image'])
  put(texts / '0007.txt', 'One line\tYes\nAnother\tNo\n')
  made = built('mme', tmp_path / 'raw', tmp_path / 'out', max_bad=1.0)
  assert list(made.manifest['splits']) == ['existence']
  assert made.ids('existence') == [
    '0001.png/0', '0001.png/1', '0002.jpg/0', '0002.jpg/1',
  ]  # fmt: skip
  first, second, *_ = made.records('existence')
  assert (first['output_text'], second['output_text']) == ('Yes', 'No')
  assert first['meta']['question'] == question.format('dog')
  assert first['meta']['source_ids'] == ['0001.png']
  assert first['meta']['score_id'] == 'existence/0001.png/0'
  assert made.pictures(first) == made.pictures(second) == [still(1)]
  assert made.skipped('existence') == {
    'bad_reference': ['0006.jpg'],
    'missing_field': ['0004.jpg'],
    'missing_file': ['0003'],
    'no_answer': ['0005.jpg'],
    'not_an_image': ['0007.jpg'],
  }

"""Flickr30k and DiffusionDB, built from official trees in miniature."""

import pytest
from official_trees import build_tree, picture, refusal, write_tree

KARPATHY = 'dataset_flickr30k.json'


def image(name, split, first, raws, **more):
  sentences = [
    {'tokens': raw.split(), 'raw': raw, 'imgid': 0, 'sentid': first + i}
    for i, raw in enumerate(raws)
  ]
  return {
    'sentids': [row['sentid'] for row in sentences],
    'imgid': 0,
    'sentences': sentences,
    'split': split,
    'filename': name,
    **more,
  }


@pytest.fixture
def flickr(tmp_path):
  """Splits are mixed in one file; texts have stray blanks and newlines."""
  images = [
    image('20.jpg', 'train', 10, ['A kite .', ' Two kites\n', '图 up .']),
    image('10.jpg', 'test', 20, ['A dog .']),
    image('30.jpg', 'train', 5, ['A hat .', '  ']),
    image('40.jpg', 'val', 40, ['Gone .']),
  ]
  return write_tree(
    tmp_path / 'raw',
    {
      KARPATHY: {'images': images, 'dataset': 'flickr30k'},
      'flickr30k-images/20.jpg': picture(20),
      'flickr30k-images/10.jpg': picture(10, mode='L'),
      'flickr30k-images/30.jpg': picture(30),
    },
  )


def test_each_sentence_is_a_record_of_its_split(flickr):
  built = build_tree('flickr30k', flickr, '--splits', 'test,train')
  assert built.ids('train') == ['10', '11', '12', '5']
  assert built.skipped('train') == {'no_answer': ['6']}
  outputs = [record['output_text'] for record in built.records('train')]
  assert outputs[:2] == ['A kite .', 'Two kites']
  assert '图' not in outputs[2] and outputs[2].endswith(' up .')
  assert [built.own(r) for r in built.records('train')] == [[20]] * 3 + [[30]]
  [record] = built.records('test')
  assert record['output_text'] == 'A dog .' and built.shown(record) == [10]
  assert record['meta']['score_id'] == '10'
  assert record['meta']['source_ids'] == ['20']
  # The three sentences of a picture share one file.
  assert built.manifest['images']['count'] == 3


def test_sentences_of_one_picture_do_not_demonstrate_each_other(flickr):
  counts = set()
  for seed in range(6):
    built = build_tree(
      'flickr30k', flickr, '--splits', 'train', '--seed', str(seed)
    )
    for record in built.records('train'):
      shown = built.shown(record)
      assert len(set(shown)) == len(shown)
      counts.add(len(shown))
      own = {'10': 20, '11': 20, '12': 20, '5': 30}
      turns = [*record['meta']['shots'], record['id']]
      assert shown == [own[turn.split('/')[-1]] for turn in turns]
  assert counts == {1, 2}  # of two pictures


def test_bad_rows_are_told_of_once(flickr):
  images = [
    image('20.jpg', 'train', 1, ['A kite .', 'A kite again .']),
    {'split': 'val', 'filename': '20.jpg'},
    'nothing',
    image('20.jpg', 'train', 2, ['Its id is taken .']),
    image('../../etc/passwd', 'train', 8, ['Out .']),
    image('n' * 300 + '.jpg', 'train', 9, ['Long .']),
    {**image('20.jpg', 'train', 0, []), 'sentences': [{'raw': 'No id .'}]},
    {**image('20.jpg', 'train', 0, []), 'sentences': [{'sentid': 11}]},
    image('20.jpg', 'val', 12, ['A kite in val .']),
  ]
  write_tree(flickr, {KARPATHY: {'images': images, 'dataset': 'flickr30k'}})
  built = build_tree(
    'flickr30k', flickr, '--splits', 'train,val', '--max_bad', '1'
  )
  assert built.ids('train') == ['1', '2'] and built.ids('val') == ['12']
  assert built.skipped('train') == {
    'duplicate_id': ['2'],
    'missing_field': [f'{KARPATHY}[2]', f'{KARPATHY}[6][0]'],
    'missing_file': ['9'],
    'no_answer': ['11'],
    'outside_raw': ['8'],
  }
  assert built.skipped('val') == {'missing_field': [f'{KARPATHY}[1]']}


@pytest.mark.parametrize(
  'content, said',
  [
    (None, f'{KARPATHY} is not there'),
    (b'{"images": "caf\xe9"}', 'byte 15 is not UTF-8'),
    ('{"images": ', 'not JSON'),
    ({'dataset': 'flickr30k'}, 'it has no "images"'),
  ],
)
def test_wrong_files_of_flickr_are_refused(flickr, capsys, content, said):
  (flickr / KARPATHY).unlink()
  if content is not None:
    write_tree(flickr, {KARPATHY: content})
  sentence = refusal('flickr30k', flickr, capsys)
  assert said in sentence and KARPATHY in sentence


def prompt(text):
  return {'p': text, 'se': 1, 'c': 12.0, 'st': 50, 'sa': 'k_lms'}


def test_parts_of_diffusiondb_in_order(tmp_path):
  """PNGs in 2M, lossless WebPs in Large; prompts hold anything."""
  long = 'a lighthouse, ' * 400
  parts = {
    2: {'b.png': prompt('图, <image7>, User: me, image 3, ')},
    10: {'c.webp': prompt('灯台')},
    1: {
      'z.png': prompt(long),
      'a.png': prompt('{answer} in {0}, {image}'),
      'e.png': prompt(''),
      'f.png': prompt('gone'),
      'g.png': {'se': 1},
    },
  }
  files = {
    f'images/part-{n:06d}/part-{n:06d}.json': v for n, v in parts.items()
  }
  for number, (path, kind) in enumerate(
    (
      ('1/z.png', 'PNG'),
      ('1/a.png', 'PNG'),
      ('1/e.png', 'PNG'),
      ('2/b.png', 'PNG'),
      ('10/c.webp', 'WEBP'),
    )
  ):
    part, name = path.split('/')
    # WebP is lossy here unless told otherwise, but legible.
    files[f'images/part-{int(part):06d}/{name}'] = picture(number, kind)
  raw = write_tree(tmp_path / 'raw', files)
  built = build_tree('diffusiondb', raw, '--shots', '0')
  assert built.ids('train') == ['z.png', 'a.png', 'b.png', 'c.webp']
  assert [built.shown(r) for r in built.records('train')] == [
    [0], [1], [3], [4]
  ]  # fmt: skip
  outputs = [record['output_text'] for record in built.records('train')]
  assert outputs[0] == long.strip()
  assert outputs[1] == '{answer} in {0}, {image}' and outputs[3] == '灯台'
  assert '图' not in outputs[2] and '<image7>' not in outputs[2]
  assert 'image 3' not in outputs[2]
  assert built.skipped('train') == {
    'missing_file': ['f.png'],
    'no_answer': ['e.png', 'g.png'],
  }
  assert built.records('train')[3]['input_image'][0].endswith('.webp')
  assert len(built.manifest['raw']) == 3


def test_diffusiondb_without_a_part_is_refused(tmp_path, capsys):
  raw = write_tree(tmp_path / 'raw', {'images/readme.txt': 'nothing'})
  sentence = refusal('diffusiondb', raw, capsys)
  assert 'images/part-000001/part-000001.json is not there' in sentence

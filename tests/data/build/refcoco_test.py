"""RefCOCO, built from an official tree in miniature, its pickle included."""

import math
import os
import pickle
import tracemalloc

import pytest
from official_trees import build_tree, picture, refusal, write_tree

REFS = 'refcoco/refs(unc).p'
INSTANCES = 'refcoco/instances.json'
PLACES = (
  'top left', 'top middle', 'top right',
  'middle left', 'center', 'middle right',
  'bottom left', 'bottom middle', 'bottom right',
)  # fmt: skip


def python2(value):
  """Protocol 0 as Python 2 writes it: texts of bytes, each memoized."""
  count = 0

  def put():
    nonlocal count
    count += 1
    return f'p{count}\n'.encode()

  def write(x):
    if isinstance(x, bool) or not isinstance(x, (str, bytes, int, list, dict)):
      raise TypeError(x)
    if isinstance(x, int):
      return f'I{x}\n'.encode()
    if isinstance(x, (str, bytes)):
      data = x.encode('ascii') if isinstance(x, str) else x
      quoted = repr(data)[1:].encode()  # '...' with \x escapes
      return b'S' + quoted + b'\n' + put()
    if isinstance(x, list):
      return b'(l' + put() + b''.join(write(y) + b'a' for y in x)
    pairs = b''.join(write(k) + write(v) + b's' for k, v in x.items())
    return b'(d' + put() + pairs

  return write(value) + b'.'


def ref(number, image_id, split, sents, ann_id=None, **more):
  """A reference and its sentences, [(sent_id, sent)]."""
  return {
    'sent_ids': [i for i, _ in sents],
    'file_name': f'COCO_train2014_{image_id:012d}_{number}.jpg',
    'ann_id': number if ann_id is None else ann_id,
    'ref_id': number,
    'image_id': image_id,
    'split': split,
    'sentences': [
      {'tokens': ['x'], 'raw': 'Raw one.', 'sent_id': i, 'sent': sent}
      for i, sent in sents
    ],
    'category_id': 1,
    **more,
  }


def instances(boxes, sizes):
  return {
    'info': {},
    'licenses': [],
    'images': [
      {'id': i, 'file_name': 'x', 'width': w, 'height': h}
      for i, (w, h) in sizes.items()
    ],
    'annotations': [
      {'id': i, 'image_id': 1, 'bbox': box, 'category_id': 1}
      for i, box in boxes.items()
    ],
    'categories': [],
  }


def coco(image_id, number):
  place = f'images/mscoco/images/train2014/COCO_train2014_{image_id:012d}.jpg'
  return {place: picture(number)}


@pytest.fixture
def refcoco(tmp_path):
  return write_tree(
    tmp_path / 'raw',
    {
      REFS: python2(
        [
          ref(16, 581857, 'train', [(1, 'left one'), (0, 'red hat ')]),
          ref(17, 581857, 'testA', [(2, 'cap')]),
          ref(18, 9, 'val', [(3, 'sky')]),
          ref(19, 9, 'testB', [(4, b'caf\xe9')]),
        ]
      ),
      INSTANCES: instances(
        {i: [1.5, 2.25, 10.0, 9.5] for i in (16, 17, 18, 19)},
        {581857: (48, 24), 9: (48, 24)},
      ),
      **coco(581857, 1),
      **coco(9, 2),
    },
  )


def test_a_pickle_of_python_2_gives_a_record_for_each_sentence(refcoco):
  built = build_tree('refcoco', refcoco, '--shots', '0')
  assert list(built.manifest['splits']) == ['train', 'val', 'testA', 'testB']
  assert built.manifest['settings'] == {'split_by': 'unc'}
  assert built.ids('train') == ['1', '0']
  outputs = [record['output_text'] for record in built.records('train')]
  assert outputs == ['left one', 'red hat']
  for record in built.records('train'):
    assert built.shown(record) == [1]
    assert record['meta']['region'] == 'top left' in record['input_text']
    assert record['meta']['box'] == [1.5, 2.25, 10.0, 9.5]
  assert built.shown(built.one('val', '3')) == [2]
  # Python 2 wrote bytes, which are read as Latin-1 if they are not ASCII.
  assert built.one('testB', '4')['output_text'] == 'café'
  assert set(built.manifest['raw']) == {REFS, INSTANCES}


def test_the_other_split_and_json_are_read_too(refcoco):
  rows = [ref(16, 581857, 'val', [(7, 'other')])]
  google = 'refcoco/refs(google).p'
  write_tree(refcoco, {google: pickle.dumps(rows, 2)})
  flags = ['--set', 'split_by=google', '--splits', 'val']
  built = build_tree('refcoco', refcoco, *flags)
  assert built.ids('val') == ['7'] and google in built.manifest['raw']
  (refcoco / google).unlink()
  write_tree(refcoco, {'refcoco/refs(google).json': rows})
  assert build_tree('refcoco', refcoco, *flags).ids('val') == ['7']


def test_places_are_those_of_the_centre_on_a_grid(tmp_path):
  """Cells are cut at 0.33 and 0.67 of each side of the picture."""
  centres = [
    (x, y) for y in (0.32, 0.5, 0.68) for x in (0.32, 0.5, 0.68)
  ]  # as PLACES
  boxes = {
    i: [1000 * x - 2, 100 * y - 1, 4, 2] for i, (x, y) in enumerate(centres)
  }
  # What juts out of the picture is not seen.
  boxes[9] = [-1000, -50, 1300, 80]
  refs = [ref(i, 5, 'val', [(i, f'object {i}')]) for i in boxes]
  raw = write_tree(
    tmp_path / 'raw',
    {
      REFS: python2(refs),
      INSTANCES: instances(boxes, {5: (1000, 100)}),
      **coco(5, 5),
    },
  )
  built = build_tree('refcoco', raw)
  regions = [record['meta']['region'] for record in built.records('val')]
  assert regions == [*PLACES, 'top left']


def test_each_bad_reference_is_named(refcoco):
  rows = [
    ref(1, 1, 'train', [(1, 'one'), (2, ' '), (1, 'its id is taken')]),
    ref(2, 404, 'train', [(3, 'no such picture')]),
    ref(3, 1, 'train', [(4, 'no such object')], ann_id=404),
    ref(4, 1, 'train', [(5, 'flat')]),
    ref(5, 1, 'train', [(6, 'outside')]),
    ref(6, 1, 'train', [(7, 'three numbers')]),
    ref(7, 1, 'train', [(8, 'no number')]),
    ref(8, 2, 'train', [(9, 'lost')]),
    ref(9, 1, 'train', []) | {'sentences': 'none'},
    ref(9, 1, 'train', []) | {'sentences': ['text']},
    ref(10, 1, 'train', [(12, 'a text')]) | {'image_id': '1'},
    ref(11, 3, 'train', [(13, 'no size')]),
    'nothing',
  ]
  good = [1, 1, 5, 5]
  boxes = {i: good for i in range(1, 12)}
  boxes |= {4: [1, 1, 0, 5], 5: [60, 1, 5, 5], 6: [1, 1, 5]}
  boxes[7] = [math.nan, 1, 5, 5]
  sizes = {1: (48, 24), 2: (48, 24), 3: (0, 0)}
  files = {REFS: python2(rows), INSTANCES: instances(boxes, sizes)}
  write_tree(refcoco, files | coco(1, 1) | coco(3, 3))
  built = build_tree('refcoco', refcoco, '--splits', 'train', '--max_bad', '1')
  assert built.ids('train') == ['1']
  assert built.skipped('train') == {
    'bad_box': ['5', '6', '7', '8', '13'],
    'bad_reference': ['3', '4'],
    'duplicate_id': ['1'],
    'missing_field': [f'{REFS}[8]', f'{REFS}[9][0]', '12', f'{REFS}[12]'],
    'missing_file': ['9'],
    'no_answer': ['2'],
  }


class Runs:
  """A pickle of it makes a folder when it is loaded."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return os.mkdir, (str(self.path),)


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_runs_nothing(refcoco, tmp_path, capsys, protocol):
  made = tmp_path / 'made'
  rows = [ref(16, 581857, 'train', [(0, 'one')]), Runs(made)]
  write_tree(refcoco, {REFS: pickle.dumps(rows, protocol)})
  said = refusal('refcoco', refcoco, capsys)
  assert f'{REFS}: not the official layout' in said and 'mkdir' in said
  assert not made.exists()


@pytest.mark.parametrize(
  'content',
  [
    b"cos\nmkdir\n(S'made'\ntR.",  # global
    b"(S'made'\nios\nmkdir\n.",  # instance
    b'Pelsewhere\n.',  # persistent id
    b'\x80\x02]q\x00(K',  # cut short
    b'(lp1\n',  # without an end
    b'',
    b'(dp1\n.',  # an object where a list should be
    b'<html>',
  ],
)
def test_other_pickles_are_refused(refcoco, capsys, content):
  write_tree(refcoco, {REFS: content})
  said = refusal('refcoco', refcoco, capsys)
  assert f'{REFS}: not the official layout' in said


def test_a_pickle_takes_no_more_memory_than_it_has_bytes(refcoco, capsys):
  for content in (
    b'(lp99999999\n.',  # a memo of so many places
    b'\x80\x05\x96\xff\xff\xff\x2f\0\0\0\0.',  # so many bytes, which are absent
  ):
    write_tree(refcoco, {REFS: content})
    tracemalloc.start()
    refusal('refcoco', refcoco, capsys)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1e8


def test_wrong_files_of_refcoco_are_refused(refcoco, capsys):
  for content, problem in (
    ([], 'it is no object'),
    ({'images': []}, 'it has no list "annotations"'),
    ('{', 'not JSON'),
  ):
    write_tree(refcoco, {INSTANCES: content})
    said = refusal('refcoco', refcoco, capsys)
    assert INSTANCES in said and problem in said
  (refcoco / INSTANCES).unlink()
  assert f'{INSTANCES} is not there' in refusal('refcoco', refcoco, capsys)
  (refcoco / REFS).unlink()
  assert f'{REFS} is not there' in refusal('refcoco', refcoco, capsys)

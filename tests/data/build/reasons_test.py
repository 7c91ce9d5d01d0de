"""Each reason for an item without a record: counted, named, and no more.

A table of one's own has most faults; the last reasons need a dataset's own
files.
"""

import json

import pytest
from official_trees import picture, sized, video_file, write_tree
from tiny_builds import Build, check_split
from tiny_pictures import FAULTS, lines, put, still

from mmicl_jax.__main__ import main
from mmicl_jax.data.build.items import REASONS

GOOD = {'i': 'good', 'q': 'Which colour?', 'a': 'sand', 'p': 'good.jpg'}
WIDE = sized(picture(1, 'PNG'), 30_000)
# What is changed in the row of a bad item, and the bytes of its picture.
ROWS = {
  'missing_file': ({}, None),
  'empty_file': ({}, b''),
  'not_an_image': ({}, FAULTS['not_an_image']),
  'broken_image': ({}, FAULTS['broken_image']),
  'too_large': ({}, WIDE),
  'too_small': ({}, FAULTS['too_small']),
  'missing_field': ({'q': None}, still(2)),
  'bad_line': ('{"i": "bad", "q"', None),
  'outside_raw': ({'p': '../secret.jpg'}, still(2)),
  'no_answer': ({'a': ' '}, still(2)),
  'empty_text': ({'q': '\n'}, still(2)),
  'duplicate_id': ({'i': 'good'}, still(2)),
}


def build(name, raw, out, *flags):
  argv = ['data', 'build', '--dataset', name, '--raw', str(raw)]
  argv += ['--out', str(out), '--workers', '1', '--max_bad', '1', *flags]
  assert main(argv) == 0
  made = Build(out, json.loads((out / 'manifest.json').read_text('utf-8')))
  for split in made.manifest['splits']:
    check_split(made, split)
  assert main(['data', 'check', str(out)]) == 0
  return made


def table(raw, out, rows, *flags):
  lines(raw / 'table.jsonl', rows)
  flags = ('--question_column', 'q', '--answer_column', 'a', *flags)
  return build('csv', raw / 'table.jsonl', out, '--id_column', 'i', *flags)


@pytest.mark.parametrize('reason', ROWS)
def test_a_bad_row_is_named_and_changes_no_other(tmp_path, reason):
  change, data = ROWS[reason]
  raw = tmp_path / 'raw'
  put(tmp_path / 'secret.jpg', still(3))
  put(raw / 'good.jpg', still(1))
  put(raw / 'bad.jpg', data)
  bad = change
  if isinstance(change, dict):
    bad = GOOD | {'i': 'bad', 'p': 'bad.jpg'} | change
  flags = ('--image_columns', 'p')
  made = table(raw, tmp_path / 'out', [GOOD, bad, GOOD | {'i': 'last'}], *flags)
  named = {'bad_line': 'table.jsonl:2', 'duplicate_id': 'good'}
  assert made.skipped('train') == {reason: [named.get(reason, 'bad')]}
  sound = table(raw, tmp_path / 'sound', [GOOD, GOOD | {'i': 'last'}], *flags)
  for one, other in zip(
    made.records('train'), sound.records('train'), strict=True
  ):
    one['meta'].pop('row'), other['meta'].pop('row')
    assert one == other


@pytest.mark.parametrize(
  'suffix, codec', [('webm', 'libvpx'), ('avi', 'mpeg4')]
)
def test_a_video_that_was_cut_off(tmp_path, suffix, codec):
  raw = tmp_path / 'raw'
  for name in ('whole', 'cut'):
    video_file(raw / f'{name}.{suffix}', codec)
  data = (raw / f'cut.{suffix}').read_bytes()
  put(raw / f'cut.{suffix}', data[: len(data) // 2])
  rows = [
    {'i': name, 'q': 'What?', 'a': 'it', 'v': f'{name}.{suffix}'}
    for name in ('whole', 'cut')
  ]
  made = table(raw, tmp_path / 'out', rows, '--video_column', 'v')
  assert made.skipped('train') == {'broken_video': ['cut']}


def _vcr(number, **changes):
  frame = f'film/{number}.jpg'
  row = {
    'objects': ['person'] * 21,
    'img_fn': frame,
    'metadata_fn': f'film/{number}.json',
    'question': ['Who', 'is', [0], '?'],
    'answer_choices': [['He', '.'], ['She', '.']],
    'answer_label': 0,
    'annot_id': f'train-{number}',
  }
  return row | changes


def test_what_only_objects_of_a_scene_have(tmp_path):
  rows = [
    _vcr(0),
    _vcr(1, question=['Who', 'is', [21], '?']),
    _vcr(2, question=['Who', 'is', [20], '?']),
    _vcr(3, question=[[i] for i in range(20)]),
  ]
  boxes = [[1 + i, 2, 20 + i, 20, 0.9] for i in range(20)] + [[5, 5, 5, 9, 0.9]]
  files = {'train.jsonl': rows}
  for i in range(4):
    files[f'vcr1images/film/{i}.jpg'] = picture(i)
    files[f'vcr1images/film/{i}.json'] = {'boxes': boxes}
  made = build('vcr', write_tree(tmp_path / 'raw', files), tmp_path / 'out')
  assert made.ids('train') == ['train-0']
  assert made.skipped('train') == {
    'bad_box': ['train-2'],
    'bad_reference': ['train-1'],
    'too_many_images': ['train-3'],
  }


def test_a_published_record_whose_words_are_names(tmp_path):
  row = {'input_image': ['a.png'], 'output_text': 'A cat.'}
  rows = [
    row | {'input_text': 'image 0 is <image0>图. What?'},
    row | {'input_text': 'image 0 is <image0>图. See <image7>.'},
  ]
  files = {'data_jsonl/vqa/x/val.jsonl': rows, 'a.png': picture(1, 'PNG')}
  raw = write_tree(tmp_path / 'raw', files)
  made = build('mic_release', raw, tmp_path / 'out')
  [split] = made.manifest['splits'].values()
  assert split['written'] == 1 and split['skipped'] == {'reserved_text': ['1']}


def test_no_reason_is_without_a_test():
  others = {
    'broken_video', 'bad_box', 'bad_reference', 'too_many_images',
    'reserved_text',
  }  # fmt: skip
  assert {*ROWS, *others} == set(REASONS)

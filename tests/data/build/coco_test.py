"""COCO Caption and NoCaps, built from official trees in miniature."""

import pytest
from official_trees import build_tree, picture, refusal, write_tree


def image(number, split='val', **more):
  return {
    'license': 3,
    'file_name': f'COCO_{split}2014_{number:012d}.jpg',
    'height': 24,
    'width': 48,
    'id': number,
    **more,
  }


def caption(number, image_id, text):
  return {'image_id': image_id, 'id': number, 'caption': text}


@pytest.fixture
def coco(tmp_path):
  """Captions are not grouped by picture; a picture is in 2017's copy only."""
  return write_tree(
    tmp_path / 'raw',
    {
      'annotations/captions_val2014.json': {
        'info': {},
        'images': [image(42), image(9), image(7), image(8)],
        'licenses': [],
        'annotations': [
          caption(641613, 42, 'Shoes on a rack. '),
          caption(3, 9, 'A kite.\n'),
          caption(641614, 42, 'A rack <image> 图'),
          caption(5, 7, 'A lost picture.'),
          caption(6, 77, 'Of no picture.'),
          caption(7, 9, ' \n'),
          caption(8, 9, None),
          caption(3, 42, 'A number that is taken.'),
          caption(10, 8, 'A dot.'),
          {'image_id': 9, 'caption': 'Without a number.'},
        ],
      },
      'val2014/COCO_val2014_000000000042.jpg': picture(42, mode='CMYK'),
      'train2017/000000000009.jpg': picture(9, mode='L'),
      'val2014/COCO_val2014_000000000008.jpg': b'GIF89a',
    },
  )


def test_each_caption_is_a_record(coco):
  built = build_tree('coco_caption', coco, '--shots', '0', '--max_bad', '1')
  assert list(built.manifest['splits']) == ['val']
  assert built.manifest['settings'] == {'karpathy': 'false'}
  assert built.ids('val') == ['641613', '3', '641614']
  shoes, kite, rack = built.records('val')
  assert shoes['output_text'] == 'Shoes on a rack.'
  assert kite['output_text'] == 'A kite.'
  assert '图' not in rack['output_text'] + rack['input_text'].replace(
    '图', '', 1
  )
  assert shoes['input_image'] == rack['input_image']
  assert shoes['meta']['score_id'] == '42'
  data = (built.out / shoes['input_image'][0]).read_bytes()
  assert data == picture(42, mode='CMYK')
  assert built.shown(kite) == [9]
  where = 'annotations/captions_val2014.json'
  assert built.skipped('val') == {
    'bad_reference': ['6'],
    'broken_image': ['10'],
    'duplicate_id': ['3'],
    'missing_field': ['8', f'{where}[9]'],
    'missing_file': ['5'],
    'no_answer': ['7'],
  }


def karpathy(cocoid, split, first, raws, place='val2014'):
  return {
    'filepath': place,
    'sentids': list(range(first, first + len(raws))),
    'filename': f'COCO_{place}_{cocoid:012d}.jpg',
    'imgid': first,
    'split': split,
    'sentences': [
      {'tokens': [], 'raw': raw, 'imgid': first, 'sentid': first + i}
      for i, raw in enumerate(raws)
    ],
    'cocoid': cocoid,
  }


def test_karpathy_s_splits_if_asked(coco):
  images = [
    karpathy(42, 'restval', 770, ['A rack.', ' Shoes ']),
    karpathy(9, 'test', 20, ['A kite.']),
    karpathy(1, 'train', 30, ['A dog.'], 'train2014'),
    karpathy(42, 'train', 40, ['Out.'], '../..'),
  ]
  write_tree(
    coco,
    {
      'dataset_coco.json': {'images': images, 'dataset': 'coco'},
      'train2014/COCO_train2014_000000000001.jpg': picture(1),
    },
  )
  flags = ['--set', 'karpathy=true', '--splits', 'train,restval,test']
  built = build_tree('coco_caption', coco, *flags)
  assert built.ids('restval') == ['770', '771']
  assert [r['output_text'] for r in built.records('restval')] == [
    'A rack.', 'Shoes'
  ]  # fmt: skip
  assert built.shown(built.one('test', '20')) == [9]
  assert built.shown(built.one('train', '30')) == [1]
  assert built.skipped('train') == {'bad_reference': ['40']}
  assert list(built.manifest['raw']) == ['dataset_coco.json']
  assert built.one('test', '20')['meta']['score_id'] == '9'


def test_wrong_files_of_coco_are_refused(coco, capsys):
  said = refusal('coco_caption', coco, capsys, '--splits', 'train')
  assert 'annotations/captions_train2014.json is not there' in said
  said = refusal('coco_caption', coco, capsys, '--splits', 'restval')
  assert 'dataset_coco.json' in said and 'karpathy=true' in said
  said = refusal('coco_caption', coco, capsys, '--set', 'karpathy=yes')
  assert 'karpathy=yes' in said
  said = refusal('coco_caption', coco, capsys, '--splits', 'dev')
  assert "'dev'" in said and 'restval' in said
  name = 'annotations/captions_val2014.json'
  for content, problem in (
    (b'{"images": [], "annotations": "\xe9"}', 'byte 31 is not UTF-8'),
    ('{"images": [],', 'not JSON'),
    ({'images': [], 'annotations': None}, 'it has no list "annotations"'),
    ([], 'it is no object'),
  ):
    write_tree(coco, {name: content})
    said = refusal('coco_caption', coco, capsys)
    assert name in said and problem in said


def test_too_many_bad_items_leave_a_manifest_and_no_records(coco, capsys):
  said = refusal('coco_caption', coco, capsys, '--max_bad', '0.1')
  assert '6 of 10 items are bad' in said and 'missing_field (2)' in said


def test_nocaps_has_ten_captions_a_picture_and_domains(tmp_path):
  domains = ('in-domain', 'near-domain', 'out-domain')
  images = [
    image(
      i,
      file_name=f'0013ea208702090{i}.jpg',
      open_images_id=f'0013ea208702090{i}',
      domain=domain,
    )
    for i, domain in enumerate(domains)
  ]
  raw = write_tree(
    tmp_path / 'raw',
    {
      'nocaps_val_4500_captions.json': {
        'info': {},
        'licenses': [],
        'images': images,
        'annotations': [
          caption(10 * i + j, i, f'Caption {j}. ')
          for j in range(10)
          for i in range(3)
        ],
      },
      'nocaps_test_image_info.json': {
        'images': [image(5, file_name='0001.jpg'), image(5), {'id': 6}]
      },
      **{
        f'validation/0013ea208702090{i}.jpg': picture(i + 50) for i in range(3)
      },
      'test/0001.jpg': picture(60),
    },
  )
  built = build_tree('nocaps', raw)
  assert list(built.manifest['splits']) == ['val']
  assert built.manifest['unlabelled'] == ['test']
  records = built.records('val')
  assert len(records) == 30 and built.skipped('val') == {}
  assert built.ids('val')[:4] == ['0', '10', '20', '1']
  assert [built.shown(r) for r in records[:3]] == [[50], [51], [52]]
  assert [r['meta']['domain'] for r in records[:3]] == list(domains)
  assert records[1]['output_text'] == 'Caption 0.'
  assert records[1]['meta']['score_id'] == '1'
  assert built.manifest['images']['count'] == 3
  named = build_tree('nocaps', raw, '--splits', 'test', '--max_bad', '1')
  [record] = named.records('test')
  assert record['output_text'] == '' and named.shown(record) == [60]
  assert named.skipped('test') == {
    'duplicate_id': ['5'],
    'missing_field': ['6'],
  }

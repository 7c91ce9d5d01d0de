"""Pictures with captions, as people download them, become records."""

import io
import json
import pickle
import tarfile
import time

import pytest
from PIL import Image

from mmicl_jax.__main__ import main
from mmicl_jax.data.opened import open_chain, open_index
from mmicl_jax.data.sources import open_sources
from mmicl_jax.errors import UserError


def picture(colour='red', kind='JPEG'):
  file = io.BytesIO()
  Image.new('RGB', (8, 8), colour).save(file, kind)
  return file.getvalue()


def write_tar(path, files):
  """As webdataset writes them: each file after a header of its time."""
  with tarfile.open(path, 'w') as tar:
    for name, data in files.items():
      info = tarfile.TarInfo(name)
      info.size, info.mtime = len(data), time.time()
      tar.addfile(info, io.BytesIO(data))
  return str(path)


@pytest.fixture
def shard(tmp_path):
  return write_tar(
    tmp_path / '00000.tar',
    {
      'a/000000000.jpg': picture('red'),
      'a/000000000.json': b'{"caption": "not this", "url": "http://x"}',
      'a/000000000.txt': b' A red\tkite\n',
      '000000001.txt': b'its picture is gone',
      '000000002.jpg': picture('blue'),
      '000000003.PNG': picture('green', 'PNG'),
      '000000003.json': json.dumps({'caption': 'image 1, 图'}).encode(),
      '000000004.jpg': b'',
      '000000004.txt': b'an empty file',
    },
  )


def outputs(data):
  return [record.output_text for record in data]


def test_a_shard_of_webdataset(shard):
  index = open_index(shard)
  assert outputs(index) == ['A red kite', 'picture 1, 圖']
  assert [record.id for record in index] == ['000000000', '000000003']
  assert [record.images for record in index] == [
    (picture('red'),),
    (picture('green', 'PNG'),),
  ]
  assert index.omitted.count == 3 and '000000001 of ' in str(index.omitted)
  assert outputs(pickle.loads(pickle.dumps(index))) == outputs(index)
  assert index[0].example.inputs.count('图') == 1


def test_what_is_left_out_is_told(shard, caplog, capsys):
  [source] = open_sources(shard, templates='caption')
  assert len(source.data) == 2
  assert 'beside 2 pairs, 3 without a picture or a caption' in caplog.text
  assert source.data[0].targets == 'A red kite'
  assert source.data[0].images == (picture('red'),)
  assert main(['data', 'check', shard]) == 2
  assert '00000.tar:0: 3 without a picture' in capsys.readouterr().out
  assert main(['data', 'stats', shard]) == 0


def test_many_shards_are_one_source_called_after_its_folder(tmp_path):
  folder = tmp_path / 'cc3m'
  folder.mkdir()
  for i in range(2):
    files = {f'{i}.jpg': picture(), f'{i}.txt': f'kite {i}'.encode()}
    write_tar(folder / f'{i:05d}.tar', files)
  [source] = open_sources(f'{folder}/*.tar')
  assert source.name == 'cc3m' and outputs(source.data) == ['kite 0', 'kite 1']


def test_a_shard_that_was_cut_off_or_is_none(shard, tmp_path):
  with open(shard, 'rb') as file:
    data = file.read()
  cut = tmp_path / 'cut.tar'
  cut.write_bytes(data[: data.index(b'\x89PNG') + 20])
  index = open_index(cut)
  assert outputs(index) == ['A red kite'] and index.omitted.count == 3
  # In the middle of a header.
  cut.write_bytes(data[: data.index(b'000000002.jpg') + 30])
  assert outputs(open_index(cut)) == ['A red kite']
  for length in (6, 1200):
    cut.write_bytes((b'<html>' * 200)[:length])
    with pytest.raises(UserError, match='cut.tar is no tar file.* at byte 0'):
      open_index(cut)
  cut.write_bytes(b'')
  with pytest.raises(UserError, match='cut.tar could not be read'):
    open_index(cut)
  with pytest.raises(UserError, match='none.tar could not be read'):
    open_index(tmp_path / 'none.tar')


@pytest.mark.parametrize(
  'files, match',
  [
    ({'1.txt': b'\xff'}, r'0.tar:0: the caption of 1 is not UTF-8'),
    ({'1.txt': b' \n'}, r'0.tar:0: the caption of 1 is blank'),
    ({'1.json': b'[]'}, r'0.tar:0: its .json is not an object'),
    ({'1.json': b'{"caption": 3}'}, r'its .json is not an object'),
  ],
)
def test_bad_captions_are_named(tmp_path, files, match):
  index = open_index(
    write_tar(tmp_path / '0.tar', {'1.jpg': picture(), **files})
  )
  with pytest.raises(UserError, match=match):
    index[0]


@pytest.mark.parametrize(
  'lines',
  [
    'a kite\thttp://x/0\nno picture\thttp://x/1\nüber 2\thttp://x/2\n',
    'http://x/0\ta kite\nhttp://x/1\tno picture\nhttp://x/2\tüber 2',
    'url\tcaption\nhttp://x/0\ta kite\nhttp://x/1\tno\nhttp://x/2\tüber 2\n',
  ],
)
def test_lists_of_addresses(tmp_path, lines):
  (tmp_path / 'list.tsv').write_text(lines, 'utf-8')
  (tmp_path / '00000').mkdir()
  for name in ('000000000.jpg', '000000002.webp', '000000001.json'):
    (tmp_path / '00000' / name).write_bytes(b'')
  index = open_index(tmp_path / 'list.tsv')
  assert outputs(index) == ['a kite', 'über 2']
  assert [record.images for record in index] == [
    (f'{tmp_path}/00000/000000000.jpg',),
    (f'{tmp_path}/00000/000000002.webp',),
  ]
  assert [record.id for record in index] == ['0', '2']
  heading = lines.startswith('url')
  assert index.omitted.first == f'line {2 + heading} of {tmp_path}/list.tsv'
  assert outputs(pickle.loads(pickle.dumps(index))) == outputs(index)


def test_lists_with_paths(tmp_path):
  path = tmp_path / 'list.tsv'
  path.write_text('filepath\ttitle\na/1.jpg\tone\na/2.jpg\n')
  index = open_index(path, '/pictures')
  assert index[0].images == ('/pictures/a/1.jpg',) and len(index) == 2
  with pytest.raises(UserError, match=r'list.tsv:3: only 1 columns'):
    index[1]
  path.write_text('a kite\tno address\n')
  with pytest.raises(UserError, match='names no columns'):
    open_index(path)
  path.write_text('\n')
  assert len(open_index(path)) == 0


def test_lists_in_json(tmp_path):
  path = tmp_path / 'list.json'
  rows = [
    {'image': 'a.jpg', 'caption': 'one'},
    {'image': 'b.jpg', 'caption': ['two', 'three'], 'image_id': 'x'},
  ]
  path.write_text(json.dumps(rows))
  index = open_index(path)
  assert outputs(index) == ['one', 'two', 'three']
  assert [record.id for record in index] == ['0', '1/0', '1/1']
  assert index[2].images == (f'{tmp_path}/b.jpg',)
  path.write_text('[{"image": "a.jpg"}]')
  with pytest.raises(UserError, match="KeyError: 'caption'"):
    open_index(path)
  # A .json file of JSON Lines is read as before.
  record = {'input_text': 'x', 'input_image': [], 'output_text': 'y'}
  path.write_text(json.dumps(record))
  assert outputs(open_chain(str(path))) == ['y']


def test_the_regions_of_visual_genome(tmp_path):
  for name in ('VG_100K/1.jpg', 'VG_100K_2/3.jpg'):
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_bytes(picture())
  rows = [
    {
      'id': i,
      'regions': [
        {'region_id': 10 * i, 'phrase': f'a kite {i}', 'image_id': i}
      ],
    }
    for i in (1, 2, 3)
  ]
  path = tmp_path / 'region_descriptions.json'
  path.write_text(json.dumps(rows))
  index = open_index(path)
  assert outputs(index) == ['a kite 1', 'a kite 3']
  assert index[1].images == (f'{tmp_path}/VG_100K_2/3.jpg',)
  assert index[1].id == '30' and index.omitted.count == 1

"""What is a path, what is base64, what is a data URL: decided once."""

import base64
import io
import os
import urllib.parse

import numpy as np
import pytest
from PIL import Image

from mmicl_jax.data import image_files
from mmicl_jax.data.image_files import (
  holds_bytes,
  read_image_file,
  resolve,
)
from mmicl_jax.data.images import load_image
from mmicl_jax.data.records import Record, parse_record
from mmicl_jax.errors import UserError

KINDS = {
  'PNG': {},
  'JPEG': {},
  'GIF': {},
  'WEBP': {},
  'BMP': {},
  'TIFF': {},
  'PPM': {},
  'JPEG2000': {},
  'BigTIFF': {'format': 'TIFF', 'big_tiff': True},
  'codestream': {'format': 'JPEG2000', 'no_jp2': True},
}


def file_of(kind, size=(1, 1)):
  """The file of a small picture; by default of a single pixel."""
  file = io.BytesIO()
  picture = Image.linear_gradient('L').resize(size).convert('RGB')
  picture.save(file, **{'format': kind, **KINDS[kind]})
  return file.getvalue()


def forms(data):
  """All texts that hold the bytes of a file."""
  text = base64.b64encode(data).decode()
  yield 'base64', text
  yield 'wrapped', base64.encodebytes(data).decode()
  yield 'without padding', text.rstrip('=')
  yield 'data URL', f'data:image/png;base64,{text}'
  yield 'no type', f'data:;base64,{text}'
  yield 'nothing', f'data:application/octet-stream,{percent(data)}'
  yield 'octet-stream', f'data:application/octet-stream;base64,{text}'
  yield 'parameters', f'data:image/png;name=a%20b;charset=x;base64,{text}'
  yield 'upper case', f'DATA:IMAGE/PNG;BASE64,{text}'
  yield 'a blank', f'data:image/png; base64,{text}'
  yield (
    'wrapped URL',
    f'data:image/png;base64,\n{base64.encodebytes(data).decode()}',
  )
  yield 'escaped', f'data:image/png;base64,{urllib.parse.quote(text, safe="")}'
  yield 'percent', f'data:image/png,{percent(data)}'


def percent(data):
  return urllib.parse.quote_from_bytes(data)


@pytest.mark.parametrize('size', [(1, 1), (24, 20)])
@pytest.mark.parametrize('kind', KINDS)
def test_text_that_holds_a_file_is_that_file(kind, size):
  data = file_of(kind, size)
  line = {'input_text': '<image0>图', 'output_text': 'x'}
  for name, text in forms(data):
    assert holds_bytes(text), name
    assert read_image_file(text)[0] == data, name
    assert resolve(text, '/root') == text, name
    np.testing.assert_array_equal(load_image(text, 8), load_image(data, 8))
    written = Record(**line, input_image=[text]).to_json().encode()
    assert parse_record(written, 'f:1', '/root').images == (text,), name


@pytest.mark.parametrize(
  'path',
  [
    'abcd',
    'images/' + 'a' * 57,
    '/9j/' + 'a' * 10,
    '/9j/' + 'a' * 59,
    'COCO' * 40,
    ' ' * 61 + 'abc.png',
    'a' + ' ' * 70,
    'iVBORw0KGgo/a.png',
    'UDYgimages/cat',
    'data:image/a.png',
    'data/a,b.png',
    '../a.png',
    './a//b/../c.png',
    '',
  ],
)
def test_a_path_is_joined_and_nothing_else(path):
  assert not holds_bytes(path)
  assert resolve(path, '/root') == os.path.join('/root', path)
  assert resolve(path) == path


@pytest.mark.parametrize('root', ['iVBORw0KGgoAAAANSUhEUgAA', '/9j', 'data:,'])
def test_a_path_stays_one_whatever_its_folder_is_called(root, tmp_path):
  image = 'a' * 60
  joined = resolve(image, root)
  assert holds_bytes(f'{root}/{image}') and not holds_bytes(joined)
  assert os.path.normpath(joined) == f'{root}/{image}'  # the same file


def test_the_system_says_which_file_a_path_is(tmp_path, monkeypatch):
  """'..' behind a link is the folder above the link's target."""
  monkeypatch.chdir(tmp_path)
  for folder in ('disk/v3', 'disk/images', 'runs/images'):
    os.makedirs(folder)
  os.symlink('../disk/v3', 'runs/current')
  for folder, colour in (('disk', 'red'), ('runs', 'blue')):
    Image.new('RGB', (4, 4), colour).save(f'{folder}/images/a.png')
  path = resolve('../images/a.png', 'runs/current')
  red, _, blue = load_image(path, 2)[0, 0]
  assert (red, blue) == (255, 0)


def test_long_text_is_never_a_path():
  text = 'A' * 2000
  assert holds_bytes(text)
  with pytest.raises(UserError, match='not an image that can be read'):
    load_image(text, 8)


@pytest.mark.parametrize(
  'text, words',
  [
    ('data:image/png;base64,@@@@', "the data URL 'data:image/png;base64,@"),
    ('A' * 2000 + '!', "the base64 'AAAA"),
    ('A' * 2001, 'cannot be decoded .*encode the image file again'),
    ('https://x.org/a.png', r'^https://x.org/a.png is an address.*download'),
    ('abc://bucket/a.png', r'^abc://bucket/a.png is an address of an unknown'),
  ],
)
def test_texts_that_hold_nothing_are_told(text, words):
  with pytest.raises(UserError, match=words) as error:
    read_image_file(resolve(text, '/root'))
  assert len(str(error.value)) < 200


def test_only_files_of_a_sane_size_are_read(monkeypatch, tmp_path):
  os.mkfifo(tmp_path / 'pipe')  # nobody writes to it
  for name in (tmp_path / 'pipe', '/dev/zero'):
    with pytest.raises(UserError, match='it is no file'):
      read_image_file(name)
  monkeypatch.setattr(image_files, 'MAX_BYTES', 9)
  (tmp_path / 'a.png').write_bytes(b'0123456789')
  with pytest.raises(UserError, match='a.png.*10 bytes, more than 9'):
    read_image_file(tmp_path / 'a.png')


@pytest.mark.parametrize(
  'text', ['\0', 'x' * 5000 + '!', 'A' * 65, '', '\ud800']
)
def test_text_that_is_no_path_is_a_short_error(text):
  for source in (text, 'data:image/png;base64,' + text):
    with pytest.raises(UserError) as error:
      load_image(source, 8)
    assert len(str(error.value)) < 500

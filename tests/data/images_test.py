import base64
import io
import os

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from mmicl_jax.data import images
from mmicl_jax.data.images import load_image
from mmicl_jax.errors import UserError
from mmicl_jax.models.mmicl import normalise

SIZE = 28


def photo(width=61, height=47, channels=3):
  rng = np.random.default_rng(width + channels)
  y, x = np.mgrid[:height, :width]
  smooth = 127 + 80 * np.sin(x / 7)[..., None] * np.cos(y / 5)[..., None]
  pixels = smooth + rng.normal(0, 30, (height, width, channels))
  return np.clip(pixels, 0, 255).astype(np.uint8)


def encoded(image, kind='PNG', **options):
  data = io.BytesIO()
  image.save(data, kind, **options)
  return data.getvalue()


def exif_rotated():
  exif = Image.Exif()
  exif[0x0112] = 6
  return encoded(Image.fromarray(photo()), 'JPEG', exif=exif)


def palette(**options):
  return encoded(
    Image.fromarray(photo()).convert('P', palette=Image.Palette.ADAPTIVE),
    **options,
  )


KINDS = {
  'rgb': lambda: encoded(Image.fromarray(photo())),
  'rgb jpeg': lambda: encoded(Image.fromarray(photo()), 'JPEG'),
  'rgb webp': lambda: encoded(Image.fromarray(photo()), 'WEBP'),
  'cmyk jpeg': lambda: encoded(
    Image.fromarray(photo()).convert('CMYK'), 'JPEG'
  ),
  'rgba': lambda: encoded(Image.fromarray(photo(channels=4))),
  'grey': lambda: encoded(Image.fromarray(photo(channels=1)[..., 0])),
  'grey alpha': lambda: encoded(
    Image.fromarray(photo(channels=4)).convert('LA')
  ),
  'bits': lambda: encoded(Image.fromarray(photo()).convert('1')),
  'palette': palette,
  'palette transparent': lambda: palette(transparency=3),
  'gif': lambda: encoded(Image.fromarray(photo()), 'GIF'),
  '16 bit': lambda: encoded(
    Image.fromarray(photo(channels=1)[..., 0].astype(np.uint16) * 257)
  ),
  'exif rotated': exif_rotated,
  'one wide': lambda: encoded(Image.fromarray(photo(1, 40))),
  'one high': lambda: encoded(Image.fromarray(photo(40, 1))),
  'three wide': lambda: encoded(Image.fromarray(photo(3, 3))),
  'one pixel': lambda: encoded(Image.fromarray(photo(1, 1))),
  'already right': lambda: encoded(Image.fromarray(photo(SIZE, SIZE))),
}


@pytest.mark.parametrize('kind', KINDS)
def test_bytes_equal_hugging_face(kind):
  pytest.importorskip(
    'transformers', '5.23', 'transformers 5.23 lays transparency on white'
  )
  from transformers.models.blip.image_processing_pil_blip import (
    BlipImageProcessorPil,
  )

  data = KINDS[kind]()
  processor = BlipImageProcessorPil(
    size={'height': SIZE, 'width': SIZE},
    do_rescale=False,
    do_normalize=False,
  )
  theirs = processor(Image.open(io.BytesIO(data)))['pixel_values'][0]
  np.testing.assert_array_equal(
    load_image(data, SIZE), np.moveaxis(np.asarray(theirs), 0, -1)
  )


def test_normalised_pixels_equal_hugging_face():
  pytest.importorskip('transformers', '5.23')
  from transformers.models.blip.image_processing_pil_blip import (
    BlipImageProcessorPil,
  )

  processor = BlipImageProcessorPil(size={'height': SIZE, 'width': SIZE})
  theirs = processor(Image.fromarray(photo()))['pixel_values'][0]
  ours = normalise(jnp.asarray(load_image(photo(), SIZE))[None, None])[0, 0]
  np.testing.assert_allclose(
    np.asarray(ours), np.moveaxis(np.asarray(theirs), 0, -1), atol=1e-6
  )


def test_every_kind_gives_a_square_of_bytes():
  for make in KINDS.values():
    image = load_image(make(), SIZE)
    assert image.shape == (SIZE, SIZE, 3) and image.dtype == np.uint8


def test_all_sources_of_one_image_agree(tmp_path):
  data = encoded(Image.fromarray(photo()))
  (tmp_path / 'a.png').write_bytes(data)
  text = base64.b64encode(data).decode()
  expected = load_image(photo(), SIZE)
  for source in (
    tmp_path / 'a.png',
    str(tmp_path / 'a.png'),
    data,
    text,
    base64.encodebytes(data).decode(),
    f'data:image/png;base64,{text}',
    Image.open(tmp_path / 'a.png'),
  ):
    np.testing.assert_array_equal(load_image(source, SIZE), expected)
  np.testing.assert_array_equal(
    load_image('a.png', SIZE, root=tmp_path), expected
  )


def test_transparency_is_laid_on_white():
  clear = np.zeros((4, 4, 4), np.uint8)
  assert (load_image(clear, 2) == 255).all()


def test_exif_rotation_is_not_applied():
  rotated, plain = exif_rotated(), KINDS['rgb jpeg']()
  np.testing.assert_array_equal(
    load_image(rotated, SIZE), load_image(plain, SIZE)
  )


def test_grey_arrays_have_three_equal_channels():
  grey = photo(channels=1)
  image = load_image(grey, SIZE)
  assert (image == image[..., :1]).all()
  np.testing.assert_array_equal(image, load_image(grey[..., 0], SIZE))


@pytest.mark.parametrize(
  ('content', 'reason'),
  [
    (None, 'cannot read the image'),
    (b'', 'not an image'),
    (b'hello, world' * 10, 'not an image'),
    (b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n', 'not an image'),
    (encoded(Image.fromarray(photo()))[:2000], 'damaged'),
    (encoded(Image.fromarray(photo()), 'JPEG')[:500], 'damaged'),
  ],
)
def test_bad_files_are_named(tmp_path, content, reason):
  path = tmp_path / 'bad.png'
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(UserError, match=reason) as error:
    load_image(path, SIZE)
  assert str(path) in str(error.value)


def test_only_files_of_a_sane_size_are_read(monkeypatch, tmp_path):
  os.mkfifo(tmp_path / 'pipe')  # nobody writes to it
  for name in (tmp_path / 'pipe', '/dev/zero'):
    with pytest.raises(UserError, match='it is no file'):
      load_image(name, SIZE)
  monkeypatch.setattr(images, 'MAX_BYTES', 9)
  (tmp_path / 'a.png').write_bytes(b'0123456789')
  with pytest.raises(UserError, match='a.png.*10 bytes, more than 9'):
    load_image(tmp_path / 'a.png', SIZE)


def test_corrupt_bytes_never_raise_anything_but_user_errors():
  rng = np.random.default_rng(0)
  for make in KINDS.values():
    for _ in range(20):
      data = bytearray(make())
      for at in rng.integers(0, len(data), 5):
        data[at] = rng.integers(256)
      try:
        load_image(bytes(data), SIZE)
      except UserError:
        pass


def test_bombs_are_refused_before_they_are_decoded(monkeypatch, tmp_path):
  Image.new('1', (20000, 20000)).save(tmp_path / 'bomb.png')
  with pytest.raises(UserError, match='bomb.png.*(pixels|bomb)'):
    load_image(tmp_path / 'bomb.png', SIZE)
  monkeypatch.setattr(images, 'MAX_PIXELS', 60 * 47)
  with pytest.raises(UserError, match='61 x 47 pixels'):
    load_image(photo(), SIZE)


@pytest.mark.parametrize('text', ['\0', 'x' * 5000 + '!', 'A' * 65, ''])
def test_text_that_is_no_path_is_a_short_error(text):
  with pytest.raises(UserError) as error:
    load_image(text, SIZE)
  assert len(str(error.value)) < 500


def test_arrays_of_other_types_are_refused():
  with pytest.raises(UserError, match='float64'):
    load_image(np.zeros((4, 4, 3)), SIZE)
  with pytest.raises(UserError, match=r'\[4, 4, 2\]'):
    load_image(np.zeros((4, 4, 2), np.uint8), SIZE)

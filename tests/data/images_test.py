import base64
import io
import struct

import jax.numpy as jnp
import numpy as np
import PIL
import pytest
from PIL import Image, PngImagePlugin

from mmicl_jax.data import images
from mmicl_jax.data.images import MAX_PIXELS, load_image
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
  'exif rotated': exif_rotated,
  'one wide': lambda: encoded(Image.fromarray(photo(1, 40))),
  'one high': lambda: encoded(Image.fromarray(photo(40, 1))),
  'three wide': lambda: encoded(Image.fromarray(photo(3, 3))),
  'one pixel': lambda: encoded(Image.fromarray(photo(1, 1))),
  'already right': lambda: encoded(Image.fromarray(photo(SIZE, SIZE))),
}


def blip(image):
  """The bytes that Hugging Face's processor gives the model."""
  pytest.importorskip(
    'transformers', '5.23', 'transformers 5.23 lays transparency on white'
  )
  from transformers.models.blip.image_processing_pil_blip import (
    BlipImageProcessorPil,
  )

  processor = BlipImageProcessorPil(
    size={'height': SIZE, 'width': SIZE},
    do_rescale=False,
    do_normalize=False,
  )
  pixels = processor(image)['pixel_values'][0]
  return np.moveaxis(np.asarray(pixels), 0, -1)


@pytest.mark.parametrize('kind', KINDS)
def test_bytes_equal_hugging_face(kind):
  data = KINDS[kind]()
  theirs = blip(Image.open(io.BytesIO(data)))
  np.testing.assert_array_equal(load_image(data, SIZE), theirs)


@pytest.mark.parametrize('size', [(20, 61), (30, 90), (SIZE, 90), (300, 301)])
def test_tall_pictures_are_resized_as_pillow_did_before_13(size):
  """Width, then height; Pillow 13 takes the height first where it shrinks."""
  picture = Image.fromarray(photo(*size))
  ours = load_image(encoded(picture), SIZE)
  wide = picture.resize((SIZE, size[1]), Image.Resampling.BICUBIC)
  np.testing.assert_array_equal(ours, blip(wide))
  if int(PIL.__version__.split('.')[0]) < 13:
    np.testing.assert_array_equal(ours, blip(picture))


def tiff(grey, bits, photometric=1, sample_format=1):
  """A file that Pillow does not write: 12 bits, white is 0, signs."""
  height, width = grey.shape
  if bits == 12:
    rows = [''.join(f'{level:012b}' for level in row) for row in grey]
    strip = b''.join(int(r, 2).to_bytes(len(r) // 8, 'big') for r in rows)
  else:
    strip = grey.tobytes()
  tags = {
    **{256: width, 257: height, 258: bits, 259: 1, 262: photometric},
    **{273: 8, 277: 1, 278: height, 279: len(strip), 339: sample_format},
  }
  ends = b''.join(struct.pack('<HHII', t, 4, 1, v) for t, v in tags.items())
  return (
    b'II*\0'
    + struct.pack('<I', 8 + len(strip))
    + strip
    + struct.pack('<H', len(tags))
    + ends
    + bytes(4)
  )


LEVELS = np.arange(256, dtype=np.uint16).reshape(16, 16)
DEEP = {
  '16 bit PNG': lambda: encoded(Image.fromarray(LEVELS * 257)),
  '16 bit TIFF': lambda: encoded(Image.fromarray(LEVELS * 257), 'TIFF'),
  '16 bit PPM': lambda: encoded(Image.fromarray(LEVELS * 257), 'PPM'),
  '16 bit JPEG 2000': lambda: encoded(
    Image.fromarray(LEVELS * 257), 'JPEG2000', irreversible=False
  ),
  '12 bit TIFF': lambda: tiff(np.rint(LEVELS * (4095 / 255)).astype(int), 12),
  'white is 0': lambda: tiff(65535 - LEVELS * 257, 16, photometric=0),
  'floats': lambda: encoded(
    Image.fromarray((LEVELS / 255).astype(np.float32)), 'TIFF'
  ),
}


@pytest.mark.parametrize('kind', DEEP)
def test_more_than_eight_bits_are_scaled(kind):
  data = DEEP[kind]()
  for source in (data, Image.open(io.BytesIO(data))):
    image = load_image(source, 16)
    np.testing.assert_array_equal(image[..., 0], LEVELS)
    np.testing.assert_array_equal(image[..., 2], LEVELS)


def test_a_transparent_level_of_16_bits_is_white():
  data = encoded(Image.fromarray(LEVELS * 257), transparency=3 * 257)
  expected = np.where(LEVELS == 3, 255, LEVELS)
  np.testing.assert_array_equal(load_image(data, 16)[..., 1], expected)


def grey_of(dtype, low, high):
  return Image.fromarray(np.linspace(low, high, 64).reshape(8, 8).astype(dtype))


@pytest.mark.parametrize(
  'make, words',
  [
    (lambda: grey_of(np.float32, 0, 255), 'floats from 0 to 255'),
    (lambda: grey_of(np.float32, -1, 1), 'floats from -1 to 1'),
    (lambda: grey_of(np.float32, 0, np.nan), 'floats from nan to nan'),
    (lambda: grey_of(np.int32, 0, 2**20), 'integers of 32 bits or with a sign'),
    (
      lambda: tiff(LEVELS.astype(np.int16) - 9, 16, sample_format=2),
      'integers of 32 bits or with a sign',
    ),
  ],
)
def test_pixels_without_a_white_are_refused(make, words, tmp_path):
  image = make()
  if not isinstance(image, bytes):
    image = encoded(image, 'TIFF')
  (tmp_path / 'a.tiff').write_bytes(image)
  with pytest.raises(
    UserError, match=f'a.tiff: its pixels are {words}.*8 bits'
  ):
    load_image(tmp_path / 'a.tiff', 8)


@pytest.mark.parametrize('after', [False, True])
def test_a_png_is_read_whatever_its_texts_hold(after):
  picture = Image.fromarray(photo())
  info = PngImagePlugin.PngInfo()
  info.add_text('workflow', 'x' * (2 << 20), zip=True)
  for options in (
    {'pnginfo': info},
    {'icc_profile': b'x' * (3 << 20)},
  ):
    data = encoded(picture, **options)
    if after:  # where Pillow meets the texts only when it reads the pixels
      at = data.index(b'IDAT') - 4
      end = data.index(b'IEND') - 4
      data = data[:33] + data[at:end] + data[33:at] + data[end:]
    np.testing.assert_array_equal(
      load_image(data, SIZE), load_image(photo(), SIZE)
    )


def test_a_png_without_its_texts_may_be_damaged_all_the_same():
  info = PngImagePlugin.PngInfo()
  info.add_text('workflow', 'x' * (2 << 20), zip=True)
  data = encoded(Image.fromarray(photo()), pnginfo=info)
  with pytest.raises(UserError, match='is damaged'):
    load_image(data[: data.index(b'IDAT') + 500], SIZE)


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
    (None, 'could not be read .No such file'),
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
  with pytest.raises(UserError, match='bomb.png: .* more than 100000000 pixel'):
    load_image(tmp_path / 'bomb.png', SIZE)
  strip = Image.new('1', (1, MAX_PIXELS // SIZE + 1))
  with pytest.raises(UserError, match='too narrow a strip .* 28 x 28; crop'):
    load_image(strip, SIZE)
  monkeypatch.setattr(images, 'MAX_PIXELS', 60 * 47)
  with pytest.raises(UserError, match='61 x 47 pixels'):
    load_image(photo(), SIZE)


def test_arrays_of_other_types_are_refused():
  with pytest.raises(UserError, match='float64'):
    load_image(np.zeros((4, 4, 3)), SIZE)
  with pytest.raises(UserError, match=r'\[4, 4, 2\]'):
    load_image(np.zeros((4, 4, 2), np.uint8), SIZE)


def test_a_png_holds_the_pixels_at_every_level():
  pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
  pixels[1:] = pixels[0]
  for level in (1, 6):
    file = io.BytesIO(images.to_png(pixels, level))
    np.testing.assert_array_equal(np.asarray(Image.open(file)), pixels)
  assert len(images.to_png(pixels, 0)) > len(images.to_png(pixels))

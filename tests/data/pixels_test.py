"""The same bytes of pixels under every version of Pillow and numpy allowed.

The digests were made with Pillow 13.0.0 and numpy 2.4.6, and found again with
Pillow 11.3.0 and numpy 2.1.3.
"""

import hashlib
import io

import lossy_pictures
import numpy as np
import pytest
from PIL import Image

from mmicl_jax.data.images import load_image

SIZE = 224


def pattern(width, height):
  """Pixels whose neighbours differ much, by whole numbers alone."""
  y, x = np.mgrid[:height, :width]
  red = x * x * 3 + y * 7 + x * y
  green = x * 11 + y * y
  blue = x * 5 + y * 13 + (x * y) // 3
  return (np.stack([red, green, blue], -1) % 256).astype(np.uint8)


def encoded(image, kind='PNG', **options):
  file = io.BytesIO()
  image.save(file, kind, **options)
  return file.getvalue()


def palette(**options):
  image = Image.fromarray(pattern(40, 30)[..., 0]).convert('P')
  image.putpalette(pattern(256, 1)[0].tobytes())
  return encoded(image, **options)


def with_alpha(mode):
  pixels = pattern(40, 30)
  bands = [*np.moveaxis(pixels, -1, 0)][: len(mode) - 1]
  alpha = pattern(40, 31)[1:, :, 1]
  return encoded(
    Image.merge(mode, [Image.fromarray(b.copy()) for b in (*bands, alpha)])
  )


GREY = np.arange(40 * 30, dtype=np.uint16).reshape(30, 40)
KINDS = {
  **lossy_pictures.FILES,
  'palette': palette(),
  'palette with a clear colour': palette(transparency=3),
  'palette with alpha': palette(transparency=bytes(range(256))),
  'gif': palette(kind='GIF'),
  'bits': encoded(Image.fromarray(pattern(40, 30)[..., 0] > 99)),
  'grey of 16 bits': encoded(Image.fromarray(GREY * 54)),
  'grey of floats': encoded(
    Image.fromarray((GREY / 1200).astype(np.float32)), 'TIFF'
  ),
  'grey and alpha': with_alpha('LA'),
  'colours and alpha': with_alpha('RGBA'),
  'cmyk tiff': encoded(
    Image.fromarray(pattern(40, 30)).convert('CMYK'), 'TIFF'
  ),
}
SIZES = (
  *((100, 700), (700, 100), (100, 100), (300, 300), (100, 230), (200, 300)),
  *((223, 600), (224, 600), (225, 600), (600, 223), (600, 224), (600, 225)),
  *((300, 3000), (3000, 300), (1, 40), (40, 1), (1, 1), (224, 224)),
)
DIGESTS = {
  'jpeg': 'fcee890fb1077a56',
  'jpeg_444': '502e3c29a7a32236',
  'jpeg_progressive': '19a29fcca0bc2b5f',
  'jpeg_grey': 'f0b55d86f1e1a4e9',
  'jpeg_cmyk': '73613b9f82fc2065',
  'jpeg_exif_rotated': '80b923fa35ad9643',
  'webp': '75192663ea95787e',
  'webp_alpha': '13728c6dbd72de69',
  'jpeg2000': '472e097b8d70ddee',
  'palette': '3f0de88e181b7d8e',
  'palette with a clear colour': 'f7749009dd969105',
  'palette with alpha': 'b8188521e995fb7a',
  'gif': '3f0de88e181b7d8e',
  'bits': '2f9374bc0498c17a',
  'grey of 16 bits': 'cacc8a9570e3818b',
  'grey of floats': '7e5742782b29caa0',
  'grey and alpha': 'f5d50b6e0c2c3433',
  'colours and alpha': '3e6051645bc82f7e',
  'cmyk tiff': 'abd760120aab3c71',
  (100, 700): 'fb99a1cb22b1c221',
  (700, 100): '7c774dd2900afff8',
  (100, 100): '9237c5f69dcab962',
  (300, 300): '61130157854e9afe',
  (100, 230): 'c4d5c351e2dd5fa6',
  (200, 300): 'affca46475d16019',
  (223, 600): '417c3dc5eb4d5b75',
  (224, 600): '10d5ee75cd32d909',
  (225, 600): 'dc43ded30855fa03',
  (600, 223): '36b2fa8630524976',
  (600, 224): '95b6c19bc7a20ff1',
  (600, 225): '033783803b2ca2ac',
  (300, 3000): '3513d0e3c0eca7ac',
  (3000, 300): '848377190585b280',
  (1, 40): '98b8ad6072ed95e9',
  (40, 1): '522e0a82ba723d2f',
  (1, 1): '0a3f0ee9e3cbab26',
  (224, 224): '5eb8d6a08f8a9ea5',
}


def digest(pixels):
  return hashlib.sha256(pixels.tobytes()).hexdigest()[:16]


@pytest.mark.parametrize('name', KINDS)
def test_files_of_each_kind(name):
  assert digest(load_image(KINDS[name], SIZE)) == DIGESTS[name]


@pytest.mark.parametrize('size', SIZES)
def test_sizes_below_and_above(size):
  pixels = load_image(encoded(Image.fromarray(pattern(*size))), SIZE)
  assert digest(pixels) == DIGESTS[size]

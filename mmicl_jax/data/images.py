"""Turns images into pixels: opens them safely, makes them RGB, resizes them.

The resulting uint8 pixels are those of Hugging Face's BlipImageProcessor (PIL
backend), except for images of more than eight bits per channel
(docs/convert.md). The model normalises them on the device
(`models.mmicl.normalise`).
"""

import contextlib
import os
import struct
import warnings
from collections.abc import Iterator
from io import BytesIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from mmicl_jax.data.image_files import read_image_file
from mmicl_jax.errors import UserError

ImageSource = str | os.PathLike[str] | bytes | Image.Image | np.ndarray

MAX_PIXELS = 100_000_000  # 0.3 GB of RGB
# No PostScript and the like, since records may come from strangers.
_FORMATS = ('JPEG', 'PNG', 'WEBP', 'GIF', 'BMP', 'TIFF', 'PPM', 'JPEG2000')
_PNG = b'\x89PNG\r\n\x1a\n'
# Chunks of a PNG file that do not change its pixels.
_METADATA = (b'tEXt', b'zTXt', b'iTXt', b'iCCP')
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # tags of TIFF


def load_image(
  source: ImageSource, size: int
) -> UInt8[np.ndarray, 'size size 3']:
  """Loads an image as RGB bytes, resized to a square without cropping.

  source: a path, the bytes of an image file, text that holds them (see
  image_files.py), a PIL image, or a uint8 array [H, W], [H, W, 1], [H, W, 3] or
  [H, W, 4]. Transparent pixels become white. Pixels of 16 bits and floats from
  0 to 1 are scaled to eight bits. EXIF rotation is not applied, since the
  published model was trained without it.

  Raises UserError, naming the file, if the image is missing, damaged, of an
  unknown kind or larger than MAX_PIXELS.
  """
  if isinstance(source, np.ndarray):
    if source.shape == (size, size, 3) and source.dtype == np.uint8:
      return source  # resizing would not change it
    source = _from_array(source)
  if isinstance(source, Image.Image):
    name = str(getattr(source, 'filename', '') or 'the image given')
    with _explained(name):
      return _resize(source, size, name)
  data, name = read_image_file(source)
  with _explained(name):
    try:
      return _decode(data, size, name)
    except ValueError:
      # Pillow refuses a PNG if its texts or profile unpack to over a mebibyte.
      bare = without_metadata(data)
      if bare == data:
        raise
      return _decode(bare, size, name)


def to_png(
  pixels: UInt8[np.ndarray, 'H W 3'] | UInt8[np.ndarray, 'H W'],
  compress_level: int = 6,
) -> bytes:
  """Encodes pixels as a PNG file; compress_level 1 is fast, 9 is small."""
  file = BytesIO()
  Image.fromarray(pixels).save(file, 'PNG', compress_level=compress_level)
  return file.getvalue()


def content(source: ImageSource) -> bytes:
  """Bytes that identify an image: its file's, or its shape and pixels.

  Raises UserError, naming the file, if it cannot be read.
  """
  if isinstance(source, Image.Image):
    with _explained('the image given'):
      source = np.asarray(_to_rgb(source, 'the image given'))
  if isinstance(source, np.ndarray):
    return repr(source.shape).encode() + np.ascontiguousarray(source).tobytes()
  return read_image_file(source)[0]


def header_pixels(data: bytes) -> int:
  """The pixels that the header of an image file names; none is decoded.

  Raises UserError if it is no image.
  """
  name = read_image_file(data)[1]
  with _explained(name):
    try:
      image = _opened(data)
    except ValueError:  # see load_image
      image = _opened(without_metadata(data))
    with image:
      return image.width * image.height


def _decode(
  data: bytes, size: int, name: str
) -> UInt8[np.ndarray, 'size size 3']:
  with _opened(data) as image:
    return _resize(image, size, name)


def _opened(data: bytes) -> Image.Image:
  """The image whose header was read; its pixels are not."""
  with warnings.catch_warnings():
    warnings.simplefilter('ignore', Image.DecompressionBombWarning)
    return Image.open(BytesIO(data), formats=_FORMATS)


def without_metadata(data: bytes) -> bytes:
  """Drops a PNG's texts and colour profile; other files stay as they are."""
  if not data.startswith(_PNG):
    return data
  kept, at = [_PNG], len(_PNG)
  while at < len(data):
    length, kind = struct.unpack_from('>I4s', data.ljust(at + 8, b'\0'), at)
    end = at + length + 12  # the length, kind and checksum have 4 bytes each
    if kind not in _METADATA:
      kept.append(data[at:end])
    at = end
  return b''.join(kept)


def _resize(
  image: Image.Image, size: int, name: str
) -> UInt8[np.ndarray, 'size size 3']:
  width, height = image.size
  if not width or not height:
    raise UserError(f'{name}: the image has no pixels; replace it.')
  if width * height > MAX_PIXELS:
    raise UserError(
      f'{name}: {width} x {height} pixels are more than {MAX_PIXELS}; shrink '
      'the image.'
    )
  if size * height > MAX_PIXELS:
    raise UserError(
      f'{name}: {width} x {height} pixels are too narrow a strip to be '
      f'resized to {size} x {size}; crop the image.'
    )
  rgb = _to_rgb(image, name)
  # One side at a time: Pillow's versions differ in which side comes first.
  wide = rgb.resize((size, height), Image.Resampling.BICUBIC)
  return np.array(wide.resize((size, size), Image.Resampling.BICUBIC))


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
  """RGB of eight bits, on white, as transformers' convert_to_rgb makes it."""
  if image.mode in ('I', 'F') or image.mode.startswith('I;16'):
    image = _eight_bits(image, name)
  transparent = image.info.get('transparency') is not None
  if 'A' in image.getbands() or transparent:
    white = Image.new('RGBA', image.size, (255, 255, 255, 255))
    image = Image.alpha_composite(white, image.convert('RGBA'))
  return image if image.mode == 'RGB' else image.convert('RGB')


def _eight_bits(image: Image.Image, name: str) -> Image.Image:
  """Scales a grey image of 16 bits, or of floats from 0 to 1, to 8 bits.

  Pillow would clip it at 255. Raises UserError for other floats and for
  integers of 32 bits, since nothing says which value is white.
  """
  grey, white = np.asarray(image), 1.0
  tags = getattr(image, 'tag_v2', {})  # of a TIFF
  if image.mode == 'F':
    low, high = float(grey.min()), float(grey.max())
    if not (low >= 0 and high <= 1):
      raise UserError(
        f'{name}: its pixels are floats from {low:g} to {high:g}, but 0 is '
        'black and 1 is white; save it with 8 bits a channel.'
      )
  elif image.mode == 'I' and image.format not in ('PNG', 'PPM'):
    raise UserError(
      f'{name}: its pixels are integers of 32 bits or with a sign, and nothing '
      'says which is white; save it with 8 bits a channel.'
    )
  else:  # Pillow may give the 16 bits of a PPM as mode I
    white = 2.0 ** tags.get(_BITS_PER_SAMPLE, (16,))[0] - 1
  levels = np.rint(grey * (255 / white)).astype(np.uint8)
  if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
    levels = 255 - levels
  if (clear := image.info.get('transparency')) is not None:
    levels[grey == clear] = 255
  return Image.fromarray(levels)


def _from_array(array: np.ndarray) -> Image.Image:
  if array.ndim == 3 and array.shape[-1] == 1:
    array = array[..., 0]
  if array.dtype != np.uint8 or not (
    array.ndim == 2 or array.ndim == 3 and array.shape[-1] in (3, 4)
  ):
    raise UserError(
      f'image array: {array.dtype} {list(array.shape)}; give uint8 [H, W, 3].'
    )
  return Image.fromarray(array)


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
  """Turns what Pillow raises into a UserError that names file and remedy."""
  try:
    yield
  except UserError:
    raise
  except UnidentifiedImageError as error:
    raise UserError(
      f'{name}: not an image that can be read; convert it to JPEG or PNG, or '
      'leave the record out.'
    ) from error
  except Image.DecompressionBombError as error:
    raise UserError(
      f'{name}: the image has more than {MAX_PIXELS} pixels; shrink it.'
    ) from error
  except MemoryError as error:
    raise UserError(
      f'{name}: not enough memory to open the image; shrink it.'
    ) from error
  except Exception as error:  # Pillow's decoders may raise anything
    reason = str(error) or type(error).__name__
    raise UserError(
      f'{name}: the image is damaged ({reason}); copy it again or leave the '
      'record out.'
    ) from error

"""Images to bytes: open safely, RGB, resize. Pixels travel as uint8.

The resized bytes are those of Hugging Face's BlipImageProcessor (PIL backend);
the model normalises them on the device (`models.mmicl.normalise`).
"""

import base64
import binascii
import os
import re
import stat
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from mmicl_jax.errors import UserError

Source = str | os.PathLike[str] | bytes | Image.Image | np.ndarray

MAX_PIXELS = 89_478_485  # Pillow's own limit, 1/4 GiB of RGB
MAX_BYTES = 1 << 30  # of a file: more than so many pixels need
# No PostScript and the like: records may come from strangers.
_FORMATS = ('JPEG', 'PNG', 'WEBP', 'GIF', 'BMP', 'TIFF', 'PPM', 'JPEG2000')
_DATA_URL = re.compile(r'data:image/[\w.+-]+;base64,')
_BASE64 = re.compile(r'[A-Za-z0-9+/\s]{64,}={0,2}\s*')


def load_image(
  source: Source, size: int, root: str | os.PathLike[str] = ''
) -> UInt8[np.ndarray, 'size size 3']:
  """Returns the image as RGB bytes, resized to a square without cropping.

  `source` is a path (relative to `root`), the bytes of an image file, base64
  text (with or without `data:image/...;base64,`), a PIL image, or a uint8 array
  [H, W], [H, W, 1], [H, W, 3] or [H, W, 4]. Transparency is laid on white; EXIF
  rotation is not applied, because the published model never saw it applied.

  Raises UserError, naming the file, if the image is missing, damaged, of an
  unknown kind or larger than MAX_PIXELS.
  """
  if isinstance(source, np.ndarray):
    if source.shape == (size, size, 3) and source.dtype == np.uint8:
      return source  # what resizing to the same size gives
    return _resize(_from_array(source), size, 'image array')
  if isinstance(source, Image.Image):
    name = getattr(source, 'filename', '') or 'PIL image'
    return _resize(source, size, str(name))
  data, name = _read(source, Path(root))
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore', Image.DecompressionBombWarning)
      image = Image.open(BytesIO(data), formats=_FORMATS)
  except UnidentifiedImageError as error:
    raise UserError(
      f'{name}: not an image that can be read; convert it to JPEG or PNG, or '
      'leave the record out.'
    ) from error
  except (OSError, ValueError, Image.DecompressionBombError) as error:
    raise _damaged(name, error) from error
  with image:
    return _resize(image, size, name)


def content(source: Source, root: str | os.PathLike[str] = '') -> bytes:
  """What identifies an image: its file's bytes, or its shape and pixels.

  Raises UserError, naming the file, if it cannot be read.
  """
  if isinstance(source, Image.Image):
    source = np.asarray(_to_rgb(source))
  if isinstance(source, np.ndarray):
    return repr(source.shape).encode() + np.ascontiguousarray(source).tobytes()
  return _read(source, Path(root))[0]


def _resize(
  image: Image.Image, size: int, name: str
) -> UInt8[np.ndarray, 'size size 3']:
  width, height = image.size
  if width * height > MAX_PIXELS:
    raise UserError(
      f'{name}: {width} x {height} pixels are more than {MAX_PIXELS}; shrink '
      'the image.'
    )
  if not width or not height:
    raise UserError(f'{name}: the image has no pixels; replace it.')
  try:
    rgb = _to_rgb(image)
    return np.array(rgb.resize((size, size), Image.Resampling.BICUBIC))
  except (OSError, ValueError, SyntaxError, EOFError) as error:
    raise _damaged(name, error) from error


def _to_rgb(image: Image.Image) -> Image.Image:
  """RGB on white, as transformers' convert_to_rgb."""
  transparent = image.info.get('transparency') is not None
  if 'A' in image.getbands() or transparent:
    white = Image.new('RGBA', image.size, (255, 255, 255, 255))
    image = Image.alpha_composite(white, image.convert('RGBA'))
  return image.convert('RGB')


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


def _read(
  source: str | os.PathLike[str] | bytes, root: Path
) -> tuple[bytes, str]:
  """Returns the bytes of the image file and a name for messages."""
  if isinstance(source, bytes):
    return source, f'image of {len(source)} bytes'
  text = os.fspath(source)
  if match := _DATA_URL.match(text):
    return _from_base64(text[match.end() :]), 'base64 image'
  path = root / text
  try:
    # A pipe or a device may give bytes for ever, or wait for them.
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
      raise OSError('it is no file')
    if status.st_size > MAX_BYTES:
      raise OSError(f'it has {status.st_size} bytes, more than {MAX_BYTES}')
    return path.read_bytes(), str(path)
  except (OSError, ValueError) as error:
    if _BASE64.fullmatch(text):
      return _from_base64(text), 'base64 image'
    shown = str(path) if len(str(path)) < 200 else str(path)[:200] + '...'
    reason = getattr(error, 'strerror', None) or str(error)
    raise UserError(
      f'{shown}: cannot read the image ({reason}); correct the path or put the '
      'file there.'
    ) from error


def _from_base64(text: str) -> bytes:
  try:
    return base64.b64decode(''.join(text.split()), validate=True)
  except (binascii.Error, ValueError) as error:
    raise UserError(
      f'base64 image: {text[:20]!r}... is no base64 ({error}); encode the '
      'image file again.'
    ) from error


def _damaged(name: str, error: BaseException) -> UserError:
  reason = str(error) or type(error).__name__
  return UserError(
    f'{name}: the image is damaged ({reason}); copy it again or leave the '
    'record out.'
  )

"""Reads the bytes of image files, from paths or from text.

An image is given as a path, as the bytes of an image file, or as text that
holds those bytes: base64 or a data URL (RFC 2397). Only `holds_bytes` decides
whether text is bytes or a path.
"""

import base64
import binascii
import os
import re
import stat
import urllib.parse

from mmicl_jax.errors import UserError, explained
from mmicl_jax.runtime import remote

ImageFile = str | os.PathLike[str] | bytes

MAX_BYTES = 1 << 30  # of a file; MAX_PIXELS of images.py need less
_DATA_URL = re.compile(r'data:(?P<about>[^,]*),', re.IGNORECASE)
_URL = re.compile(r'[a-z][a-z0-9+.-]+://', re.IGNORECASE)
_BASE64 = re.compile(r'[A-Za-z0-9+/\s]*={0,2}\s*', re.ASCII)
# A longer text without a dot, a dash or an underscore cannot be a path.
_LONGER_THAN_PATHS = 1024
# The first bytes of the files that images.py reads. JPEG's beginning is short,
# and in base64, '/9j/', looks like a path; so 48 bytes, which every JPEG has,
# are required.
_BEGINNING = re.compile(
  rb'\x89PNG\r\n\x1a\n'
  rb'|\xff\xd8\xff.{45}'
  rb'|GIF8[79]a'
  rb'|RIFF.{4}WEBP'
  rb'|BM.{12}[\x0c(48@l|]\0{3}'
  rb'|II[*+]\0|MM\0[*+]'
  rb'|P[1-6f]\s+[0-9#]'
  rb'|\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51',
  re.DOTALL,
)


def holds_bytes(text: str) -> bool:
  """Whether text holds the bytes of an image file; otherwise it is a path.

  It does if it is a data URL, or base64 whose bytes begin like an image file.
  Base64 that is too long to be a path holds bytes, whatever they are.
  """
  if _DATA_URL.match(text):
    return True
  if not _BASE64.fullmatch(text[:_LONGER_THAN_PATHS]):
    return False
  if len(text) > _LONGER_THAN_PATHS:
    return True
  digits = re.sub(r'[\s=]', '', text[:200])[:88]
  head = base64.b64decode(digits[: len(digits) // 4 * 4])
  return _BEGINNING.match(head) is not None


def resolve(image: str | bytes, root: str = '') -> str | bytes:
  """Joins a relative path to root; anything else is returned unchanged.

  '..' and links in the path are left to the system.
  """
  if isinstance(image, bytes) or holds_bytes(image) or _URL.match(image):
    return image
  path = os.path.join(root, image)
  if holds_bytes(path):  # the joined path must still look like a path
    path = f'/.{path}' if path.startswith('/') else f'./{path}'
  return path


def read_image_file(source: ImageFile) -> tuple[bytes, str]:
  """Returns (the bytes of an image file, its name for messages).

  Raises UserError, naming the file, if it cannot be read.
  """
  if isinstance(source, bytes):
    return source, f'image of {len(source)} bytes'
  if isinstance(source, str) and holds_bytes(source):
    return _held(source)
  path = os.fspath(source)
  shown = path if len(path) < 200 else path[:200] + '...'
  if re.match('https?:', path, re.IGNORECASE):
    raise UserError(
      f'{shown} is an address, not a file: download the image and give its path'
    )
  remedy, what = 'correct the path or put the file there', 'could not be read'
  if remote.is_remote(path):
    with remote.explaining(f'the image {shown}', remedy, what):
      return remote.read_bytes(path, MAX_BYTES), shown
  try:
    status = os.stat(path)
    # A pipe or a device may give bytes without end, or wait for ever.
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
      raise OSError('it is no file')
    if status.st_size > MAX_BYTES:
      raise OSError(f'it has {status.st_size} bytes, more than {MAX_BYTES}')
    with open(path, 'rb') as file:
      return file.read(), shown
  except (OSError, ValueError) as error:
    raise explained(error, f'the image {shown}', remedy, what) from error


def _held(text: str) -> tuple[bytes, str]:
  """Returns (the bytes in a data URL or in base64, a name for them)."""
  name, data = f'the base64 {text[:20]!r}...', text
  if url := _DATA_URL.match(text):
    name, data = f'the data URL {text[:40]!r}...', text[url.end() :]
  data = data.encode('utf-8', 'surrogatepass')
  if url:
    data = urllib.parse.unquote_to_bytes(data)
    if not re.search(r';\s*base64\s*$', url['about'], re.IGNORECASE):
      return data, name
  data = data.translate(None, b' \t\n\r\v\f')
  try:
    padding = b'=' * (-len(data) % 4)  # browsers accept data URLs without it
    return base64.b64decode(data + padding, validate=True), name
  except binascii.Error as error:
    raise UserError(
      f'{name} cannot be decoded ({error}): encode the image file again'
    ) from error

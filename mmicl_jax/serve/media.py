"""Images of a request: from URLs to the bytes of files, judged before decoding.

Only bytes go on from here. What a client sent as text is never taken for the
path of a file.
"""

import base64
import binascii
import contextlib
import re
import threading
import urllib.parse
from collections.abc import Iterator

from mmicl_jax.data.images import header_pixels
from mmicl_jax.errors import UserError
from mmicl_jax.serve.http_errors import HttpError, bad_request
from mmicl_jax.serve.messages import ImageAt

# Of a pixel while an image is decoded: the file's own form, its RGBA on white,
# and RGB.
BYTES_PER_PIXEL = 11
_DATA_URL = re.compile(r'data:([^,]{0,200}),', re.IGNORECASE)
_ADDRESS = re.compile(r'https?:', re.IGNORECASE)


def is_address(image: ImageAt) -> bool:
  """Whether an image would have to be fetched from another server."""
  return _ADDRESS.match(image.url) is not None


def held_bytes(image: ImageAt, most: int) -> bytes:
  """The bytes in a data URL; raises HttpError for any other text."""
  match = _DATA_URL.match(image.url)
  if match is None:
    raise invalid_image(
      image,
      'is no data URL: send the file as data:image/png;base64,... (paths and '
      'other addresses are not read)',
    )
  data = image.url[match.end() :]
  if len(data) > most * 4:
    raise invalid_image(image, _too_long(most))
  found = None
  if '%' in data:
    found = urllib.parse.unquote_to_bytes(data.encode('utf-8', 'replace'))
  if match[1].lower().rstrip().endswith('base64'):
    try:
      text = found if found is not None else data.encode('ascii')
      text = text.translate(None, b' \t\r\n\f')
      found = base64.b64decode(text + b'=' * (-len(text) % 4), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
      raise invalid_image(image, 'is no base64: encode it again') from error
  elif found is None:
    found = data.encode('utf-8', 'replace')
  if len(found) > most:
    raise invalid_image(image, _too_long(most))
  return found


def judged_pixels(image: ImageAt, data: bytes, most: int) -> int:
  """The number of pixels that the file's header names; nothing is decoded.

  Raises HttpError for more than `most`, and for what is no image.
  """
  try:
    pixels = header_pixels(data)
  except UserError as error:
    raise invalid_image(image, str(error)) from error
  if pixels > most:
    raise invalid_image(
      image, f'has {pixels} pixels, more than {most}: shrink it'
    )
  return pixels


def invalid_image(image: ImageAt, problem: str) -> HttpError:
  """The HttpError that says what is wrong with an image."""
  return bad_request(
    f'The image at {image.param} {problem.rstrip(".")}.'
    if not problem.startswith('image of ')
    else f'{image.param}: {problem}',
    image.param,
    'invalid_image',
  )


def _too_long(most: int) -> str:
  return f'has more than {most} bytes: shrink it'


class DecodingRoom:
  """A budget of bytes for the images that are decoded at the same time.

  It is shared by all threads that decode. One image always fits, however large
  it is.
  """

  def __init__(self, size: int):
    self._size, self._used = size, 0
    self._changed = threading.Condition()

  @contextlib.contextmanager
  def holding(self, size: int) -> Iterator[None]:
    """Waits until `size` bytes are free, and holds them in the block."""
    size = min(size, self._size)
    with self._changed:
      self._changed.wait_for(lambda: self._used + size <= self._size)
      self._used += size
    try:
      yield
    finally:
      with self._changed:
        self._used -= size
        self._changed.notify_all()

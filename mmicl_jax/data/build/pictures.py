"""Pictures: looked at once, kept byte for byte under a name made of them.

A file keeps its bytes, whatever its mode or orientation; it is decoded to see
that it is sound. Crops and frames of videos have no file: they become JPEGs of
quality 95 without subsampling.
"""

import hashlib
import io
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from mmicl_jax.data.build import video
from mmicl_jax.data.build.items import Bad, PictureRef
from mmicl_jax.data.build.tree import Tree
from mmicl_jax.data.images import MAX_PIXELS, without_metadata
from mmicl_jax.runtime import files

# How a file begins, and the suffix of its name.
_BEGINNINGS = {
  b'\x89PNG': 'png',
  b'\xff\xd8': 'jpg',
  b'GIF8': 'gif',
  b'RIFF': 'webp',
  b'BM': 'bmp',
}
_FORMATS = ('JPEG', 'PNG', 'GIF', 'WEBP', 'BMP')


def look(
  tree: Tree, pictures: Sequence[PictureRef], folder: Path
) -> list[tuple[str, str, str]]:
  """Keeps the pictures of one file in `folder`, those of them that are sound.

  Returns of each its key, its name in the folder and '', or its key, '' and the
  reason why there is none.
  """
  path = pictures[0].path
  try:
    if any(picture.frame for picture in pictures):
      made = _frames(tree, path, pictures)
    else:
      data = pictures[0].data or tree.read(path)
      made = _stills(data, pictures)
  except Bad as error:
    return [(picture.key, '', error.reason) for picture in pictures]
  found = []
  for picture, file in zip(pictures, made, strict=True):
    if isinstance(file, Bad):
      found.append((picture.key, '', file.reason))
    else:
      found.append((picture.key, keep(file, folder), ''))
  return found


def keep(data: bytes, folder: Path) -> str:
  """Writes a sound picture under its name, unless it is there; its name."""
  suffix = next(x for start, x in _BEGINNINGS.items() if data.startswith(start))
  name = f'{hashlib.sha256(data).hexdigest()[:32]}.{suffix}'
  place = folder / name
  if not place.exists() or place.stat().st_size != len(data):
    files.write_bytes(place, data)
  return name


def sound(data: bytes) -> Image.Image:
  """The decoded picture. Raises Bad for damage and for sizes out of bounds."""
  limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
      except UnidentifiedImageError as error:
        known = data.startswith(tuple(_BEGINNINGS))
        raise Bad('broken_image' if known else 'not_an_image') from error
      width, height = image.size
      if width * height > MAX_PIXELS:
        raise Bad('too_large')
      if min(width, height) <= 1:
        raise Bad('too_small')
      image.load()
      return image
  except Bad:
    raise
  except ValueError as error:
    # Pillow refuses a PNG whose texts or profile unpack to a mebibyte.
    bare = without_metadata(data)
    if bare == data:
      raise Bad('broken_image') from error
    return sound(bare)
  except Exception as error:  # decoders raise whatever they like
    raise Bad('broken_image') from error
  finally:
    Image.MAX_IMAGE_PIXELS = limit


def jpeg(image: Image.Image) -> bytes:
  """A picture that has no file of its own, as one."""
  file = io.BytesIO()
  # A new image: no metadata travels with it.
  bare = Image.new('RGB', image.size)
  bare.paste(image.convert('RGB'))
  bare.save(file, 'JPEG', quality=95, subsampling=0)
  return file.getvalue()


def _stills(data: bytes, pictures: Sequence[PictureRef]) -> list[bytes | Bad]:
  """The file itself, or crops of it."""
  image = sound(data)
  return [
    data if picture.box is None else _crop(image, picture.box)
    for picture in pictures
  ]


def _crop(image: Image.Image, box: Sequence[float]) -> bytes | Bad:
  """Corners rounded to whole pixels and clamped to the picture."""
  try:
    left, top, right, bottom = (round(x) for x in box)
  except (ValueError, OverflowError):  # not a number, or infinite
    return Bad('bad_box')
  left, right = max(left, 0), min(right, image.width)
  top, bottom = max(top, 0), min(bottom, image.height)
  if left >= right or top >= bottom:
    return Bad('bad_box')
  return jpeg(image.convert('RGB').crop((left, top, right, bottom)))


def _frames(
  tree: Tree, path: str, pictures: Sequence[PictureRef]
) -> list[bytes | Bad]:
  """One decoding for all frames that are asked of a video."""
  place = os.fspath(tree.file(path))
  made: dict[int, list[bytes]] = {}
  found: list[bytes | Bad] = []
  for picture in pictures:
    assert picture.frame is not None
    i, count = picture.frame
    if count not in made:
      made[count] = [jpeg(f) for f in video.frames(place, count)]
    found.append(made[count][i - 1])
  return found

"""Small pictures of one colour or of halves, in files of any format."""

import io
import json
from pathlib import Path

from PIL import Image

PICTURE = (40, 30)


def still(number: int, size=PICTURE, kind: str = 'JPEG', mode: str = 'RGB'):
  """The bytes of a picture that no other number has.

  kind: JPEG, PNG, GIF, WEBP or BMP.
  """
  colour = (37 * number % 256, 91 * number % 256, 10 * number % 256)
  image = Image.new('RGB', size, colour).convert(mode)
  if kind in ('JPEG', 'WEBP', 'GIF'):
    image.putpixel(
      (number % size[0], number % size[1]),
      255
      if mode == 'L'
      else 0
      if mode == 'P'
      else (0,) * len(image.getbands()),
    )
  file = io.BytesIO()
  image.save(file, kind)
  return file.getvalue()


def blocks(size, boxes) -> bytes:
  """A gray PNG with coloured blocks; boxes: {(x1, y1, x2, y2): colour}."""
  image = Image.new('RGB', size, (128, 128, 128))
  for box, colour in boxes.items():
    image.paste(colour, box)
  file = io.BytesIO()
  image.save(file, 'PNG')
  return file.getvalue()


def broken() -> bytes:
  """A JPEG that ends too early."""
  return still(250, (200, 200))[:600]


# What may lie where a picture should, and the reason that names it.
FAULTS = {
  'missing_file': None,
  'empty_file': b'',
  'not_an_image': b'<html>404</html>',
  'broken_image': broken(),
  'too_small': still(1, (1, 9), 'PNG'),
}


def put(path: Path, data: bytes | str | None) -> None:
  """Writes a file and the folders above it; None writes nothing."""
  if data is None:
    return
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(data.encode() if isinstance(data, str) else data)


def lines(path: Path, rows) -> None:
  """Writes JSON Lines: texts as they are, objects without fields of ..."""
  text = [
    row
    if isinstance(row, str)
    else json.dumps({k: v for k, v in row.items() if v is not ...})
    for row in rows
  ]
  put(path, ''.join(f'{line}\n' for line in text))

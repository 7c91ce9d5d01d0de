"""Shows records on one HTML page that needs no network and no script.

Records may come from strangers, so text is escaped, and images are decoded and
encoded again, in the shape that the model sees.
"""

import io
import os
from collections.abc import Sequence
from typing import Any

from PIL import Image

from mmicl_jax.context.lint import lint
from mmicl_jax.context.text import IMAGE_SPAN
from mmicl_jax.context.turns import collapse
from mmicl_jax.data.images import load_image
from mmicl_jax.data.opened import Chained
from mmicl_jax.data.records import Record
from mmicl_jax.errors import UserError
from mmicl_jax.runtime import page

_SIZE = 224


def render_gallery(index: Chained, chosen: Sequence[int]) -> str:
  """Returns the page's HTML. chosen: the indices of the records to show."""
  return page.render(
    'data/gallery.html.j2',
    path=index.path,
    number=len(index),
    size=_SIZE,
    cards=[_card(index, i) for i in chosen],
  )


def _card(index: Chained, i: int) -> dict[str, Any]:
  try:
    record = index[i]
  except UserError as error:
    where, _, text = str(error).partition(': ')
    return {
      'title': _line(index, where), 'problems': [text], 'paragraphs': []
    }  # fmt: skip
  title = [_line(index, record.where)]
  title += [str(x) for x in (record.dataset, record.id) if x is not None]
  return {
    'title': ' · '.join(title),
    'problems': lint(record),
    'paragraphs': _paragraphs(record),
    'answer': record.targets,
  }


def _line(index: Chained, where: str) -> str:
  """'line 3', with the file's name if there are several files."""
  path, _, line = where.rpartition(':')
  file = f'{os.path.basename(path)} ' if len(index.parts) > 1 else ''
  return f'{file}line {line}'


def _paragraphs(record: Record) -> list[list[dict[str, str]]]:
  """The prompt's lines, each cut into texts and images."""
  images = iter(record.images)
  lines = []
  for line in collapse(record.inputs).splitlines():
    pieces, end = [], 0
    for span in IMAGE_SPAN.finditer(line):
      pieces.append({'text': line[end : span.start()]})
      name = '' if span['name'] is None else f'image {span["name"]}'
      pieces.append({'name': name, **_picture(next(images))})
      end = span.end()
    pieces.append({'text': line[end:]})
    lines.append(pieces)
  return lines


def _picture(image: str | bytes) -> dict[str, str]:
  try:
    pixels = load_image(image, _SIZE)
  except UserError as error:
    return {'error': str(error)}
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, 'JPEG', quality=85)
  return {'uri': page.data_uri(file.getvalue(), 'jpeg')}

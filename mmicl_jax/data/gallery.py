"""Shows records on one HTML page that needs no network and no script.

Records may come from strangers, so text is escaped, and images are decoded and
encoded again, in the shape that the model sees.
"""

import collections
import io
import os
import re
from collections.abc import Sequence
from typing import Any

from PIL import Image

from mmicl_jax.context.text import IMAGE_SPAN
from mmicl_jax.context.turns import collapse
from mmicl_jax.data import across
from mmicl_jax.data.check import linted
from mmicl_jax.data.images import load_image
from mmicl_jax.data.opened import Chained
from mmicl_jax.data.records import Record
from mmicl_jax.errors import UserError
from mmicl_jax.runtime import page

_SIZE = 224
_UNKNOWN, _NONE, _UNREADABLE = '(no name)', 'none', 'No record.'


def render_gallery(index: Chained, chosen: Sequence[int]) -> str:
  """Returns the page's HTML. chosen: the indices of the records to show."""
  seen = across.Across()
  cards = [_card(index, i, seen) for i in chosen]
  filters = [
    _filter(name, cards)
    for name in ('dataset', 'images', 'problem')
    if len({tuple(card['kinds'][name]) for card in cards}) > 1
  ]
  return page.render(
    'data/gallery.html.j2',
    path=index.path,
    number=len(index),
    size=_SIZE,
    cards=cards,
    filters=filters,
  )


def _filter(name: str, cards: Sequence[dict[str, Any]]) -> dict[str, Any]:
  """What a reader may choose of, and of how many cards each choice is.

  The cards get the classes by which the page's style hides them.
  """
  counts = collections.Counter(kind for c in cards for kind in c['kinds'][name])
  options = sorted(counts, key=lambda kind: (kind != _NONE, kind))
  for card in cards:
    card['classes'] += [
      f'{name}-{options.index(kind)}' for kind in card['kinds'][name]
    ]
  return {
    'name': name,
    'options': [
      {'id': f'{name}-{i}', 'text': str(kind), 'count': counts[kind]}
      for i, kind in enumerate(options)
    ],
  }


def _card(index: Chained, i: int, seen: across.Across) -> dict[str, Any]:
  card: dict[str, Any] = {'paragraphs': [], 'classes': []}
  try:
    record = index[i]
  except UserError as error:
    where, _, text = str(error).partition(': ')
    kinds = {'dataset': [_UNKNOWN], 'images': [], 'problem': [_UNREADABLE]}
    return card | {
      'title': _line(index, where), 'problems': [text], 'kinds': kinds
    }  # fmt: skip
  title = [_line(index, record.where)]
  title += [str(x) for x in (record.dataset, record.id) if x is not None]
  problems = [*linted(record), *seen.problems(record)]
  paragraphs = _paragraphs(record)
  found = [_kind(problem) for problem in problems]
  if any('error' in piece for line in paragraphs for piece in line):
    found.append('A picture cannot be shown.')
  return card | {
    'title': ' · '.join(title),
    'problems': problems,
    'paragraphs': paragraphs,
    'answer': record.targets,
    'kinds': {
      'dataset': [record.dataset or _UNKNOWN],
      'images': [len(record.images)],
      'problem': list(dict.fromkeys(found)) or [_NONE],
    },
  }


def _kind(problem: str) -> str:
  """A problem without what only this record has: numbers, quoted texts."""
  text = re.sub(r"'[^']*'|\"[^\"]*\"|<image[0-9]+>|[0-9]+", '…', problem)
  return text if len(text) <= 60 else f'{text[:59].rstrip()}…'


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

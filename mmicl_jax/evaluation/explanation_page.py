"""The page of `mmicl explain`: prompts, and what carried their answers."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from mmicl_jax.context.text import IMAGE_SPAN
from mmicl_jax.context.turns import Example
from mmicl_jax.data.images import load_image
from mmicl_jax.errors import UserError
from mmicl_jax.evaluation.changed_prompts import KINDS, UNCHANGED
from mmicl_jax.evaluation.split_prompt import divided
from mmicl_jax.runtime import page

_SHOWN = 24
_SIDE = 112  # of an embedded image, in pixels
_FULL = 4.0  # a demonstration that carried so much has the full colour

Done = Sequence[tuple[Example, Mapping[str, Any]]]


def explanation_page(found: Mapping[str, Any], done: Done) -> str:
  """The HTML. found: as explain.json; done: prompts, and their lines in JSON.

  At most _SHOWN prompts are on it, spread evenly over all.
  """
  step = max(1, -(-len(done) // _SHOWN))
  return page.render(
    'evaluation/explanation.html.j2',
    found=found,
    rows=[effect_row(row) for row in found['effects']],
    cards=[_card(example, line) for example, line in done[::step]],
  )


def effect_row(row: Mapping[str, Any]) -> dict[str, str]:
  """A row of attribution.effects as texts; shares are in per cent."""
  interval = row['accuracy_interval']
  return {
    'change': KINDS[row['kind']],
    'prompts': f'{row["records"]:,}',
    'log_prob': _signed(row['change']),
    'interval': _span(row['change_interval']),
    'right, %': f'{100 * row["accuracy"]:.1f}',
    'points': _signed(100 * row['accuracy_change'], 1),
    'interval of points': _span(interval and [100 * x for x in interval], 1),
    'other answer, %': f'{100 * row["answers_changed"]:.1f}',
  }


def _card(example: Example, line: Mapping[str, Any]) -> dict[str, Any]:
  images = iter(example.images)
  turns: list[dict[str, Any]] = [
    {'lines': _lines(text, images)}
    for text in divided(example.inputs, example.style)
  ]
  for turn, carried in zip(turns[:-1], line['carried'], strict=True):
    turn['carried'] = '' if carried is None else _signed(carried)
    turn['colour'] = 'good' if (carried or 0) >= 0 else 'bad'
    turn['strength'] = f'{min(abs(carried or 0) / _FULL, 1):.2f}'
  whole, candidates = line[UNCHANGED], line['candidates']
  return {
    'title': ' · '.join(str(x) for x in (line['id'], line['dataset']) if x),
    'shots': turns[:-1],
    'query': turns[-1],
    'right': whole['right'],
    'answer': candidates[0],
    'best': candidates[whole['best']],
    'share': f'{100 * whole["share"]:.0f} %',
    'log_prob': _signed(whole['log_prob']),
    'changed': [
      {
        'about': KINDS[one['kind']],
        'place': '' if one['place'] is None else one['place'] + 1,
        'change': _signed(one['change']),
        'best': candidates[one['best']],
        'right': one['right'],
      }
      for one in line['changed']
    ],
  }


def _lines(text: str, images: Any) -> list[list[dict[str, str]]]:
  """A turn's lines, each cut into texts and images."""
  lines = []
  for line in text.splitlines():
    pieces, end = [], 0
    for span in IMAGE_SPAN.finditer(line):
      pieces.append({'text': line[end : span.start()]})
      pieces.append({'name': f'<image{span["name"]}>', **_shown(next(images))})
      end = span.end()
    pieces.append({'text': line[end:]})
    lines.append(pieces)
  return lines


def _shown(image: Any) -> dict[str, str]:
  try:
    pixels = load_image(image, _SIDE)
  except UserError as error:
    return {'error': str(error)}
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, 'JPEG', quality=85)
  return {'uri': page.data_uri(file.getvalue(), 'jpeg')}


def _signed(value: float, digits: int = 2) -> str:
  """A number with its sign: -0.004 -> '0.00', 1.5 -> '+1.50'."""
  text = f'{value:+.{digits}f}'
  return text[1:] if float(text) == 0 else text.replace('-', '−')


def _span(interval: Sequence[float] | None, digits: int = 2) -> str:
  if interval is None:
    return ''
  return ' to '.join(_signed(x, digits) for x in interval)

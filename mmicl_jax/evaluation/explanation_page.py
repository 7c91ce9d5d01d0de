"""The page of `mmicl explain`: prompts, and what carried their answers."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmicl_jax.context.text import IMAGE_SPAN, divided
from mmicl_jax.context.turns import Example
from mmicl_jax.data.images import load_image
from mmicl_jax.errors import UserError
from mmicl_jax.evaluation.changed_prompts import KINDS, UNCHANGED
from mmicl_jax.evaluation.heat_maps import heat_maps, picture_uri
from mmicl_jax.runtime import page

_SHOWN = 24
_SIDE = 112  # of an embedded image, in pixels
_FULL = 4.0  # a demonstration that carried so much has the full colour


def page_step(count: int) -> int:
  """Every how many of the prompts one is on the page: at most _SHOWN are."""
  return max(1, -(-count // _SHOWN))


def explanation_page(
  found: Mapping[str, Any], cards: Mapping[int, Mapping[str, Any]]
) -> str:
  """The HTML. found: as explain.json; cards: of `page_card`, by their order."""
  return page.render(
    'evaluation/explanation.html.j2',
    found=found,
    rows=[effect_row(row) for row in found['effects']],
    cards=[cards[number] for number in sorted(cards)],
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


def page_card(example: Example, line: Mapping[str, Any]) -> dict[str, Any]:
  """A prompt on the page; line: its line in JSON. A value of JSON itself."""
  images = iter(example.images)
  turns: list[dict[str, Any]] = [
    {'lines': _lines(text, images)}
    for text in divided(example.inputs, example.style)
  ]
  for turn, carried in zip(turns[:-1], line['carried'], strict=True):
    turn['carried'] = '' if carried is None else _signed(carried)
    turn['colour'] = 'good' if (carried or 0) >= 0 else 'bad'
    turn['strength'] = f'{min(abs(carried or 0) / _FULL, 1):.2f}'
  attention = line.get('attention')
  if attention is not None:
    shares = [*attention['demonstrations'], attention['query']]
    for turn, share in zip(turns, shares, strict=True):
      turn['attention'] = f'{100 * share:.0f} %'
  whole, candidates = line[UNCHANGED], line['candidates']
  return {
    'looks': attention and heat_maps(example, attention),
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
    return {'uri': picture_uri(load_image(image, _SIDE))}
  except UserError as error:
    return {'error': str(error)}


def _signed(value: float, digits: int = 2) -> str:
  """A number with its sign: -0.004 -> '0.00', 1.5 -> '+1.50'."""
  text = f'{value:+.{digits}f}'
  return text[1:] if float(text) == 0 else text.replace('-', '−')


def _span(interval: Sequence[float] | None, digits: int = 2) -> str:
  if interval is None:
    return ''
  return ' to '.join(_signed(x, digits) for x in interval)

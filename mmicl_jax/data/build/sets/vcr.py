"""VCR: a frame of a film, the people and things that a question names, options.

image 0 is the whole frame; a crop follows for each object that is named, in the
order of first mention. So most frames fit, where MIC crops every detection and
then drops the crowded ones.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from mmicl_jax.context.text import escape
from mmicl_jax.data.build.catalog import (
  Dataset,
  Settings,
  Wanted,
  annotation,
  the_file,
)
from mmicl_jax.data.build.items import Bad, PictureRef, Skip, SourceItem
from mmicl_jax.data.build.rows import answered, each, field
from mmicl_jax.data.build.tree import Tree
from mmicl_jax.data.build.words import labelled, respelled

_TAG = '\0'  # stands for a tag while words are respelled
_NO_BLANK_BEFORE = re.compile(r" (?=[,.?!:;']|n't\b)")


def _files(split: str, settings: Settings) -> Sequence[Wanted]:
  del settings
  return [annotation(f'{split}.jsonl')]


def _items(
  tree: Tree, split: str, settings: Settings, paths: Sequence[str | None]
) -> Iterator[SourceItem | Skip]:
  path = the_file(paths)
  folders = tree.folders('vcr1images', 'images')
  with_rationale = settings['rationale'] == 'true'

  def make(row: Any) -> SourceItem:
    objects = field(row, 'objects', list)
    question = field(row, 'question', list)
    choices = field(row, 'answer_choices', list)
    parts = [question, *choices]
    label, reason = None, None
    if split != 'test':
      label = _label(row, 'answer_label', choices)
      if with_rationale:
        reasons = field(row, 'rationale_choices', list)
        reason = reasons[_label(row, 'rationale_label', reasons)]
        parts.append(reason)
    named = _named(parts, len(objects))
    whole = tree.picture(folders, field(row, 'img_fn'))
    boxes = _boxes(tree, tree.picture(folders, field(row, 'metadata_fn')))
    if max(named, default=-1) >= len(boxes):
      raise Bad('bad_reference')
    pictures = [PictureRef(whole)]
    pictures += [PictureRef(whole, box=_corners(boxes[i])) for i in named]
    place = {number: i for i, number in enumerate(named, 1)}
    shown = labelled([_text(choice, place) for choice in choices])
    output = ''
    if label is not None:
      output = shown[label]
      if reason is not None:
        output = f'{output} Because {_text(reason, place)}'
    return SourceItem(
      row['annot_id'],
      row['annot_id'],
      {'question': _text(question, place), 'options': '\n'.join(shown)},
      tuple(pictures),
      outputs=(output,) if output else (),
      slots=True,
      meta={'objects': [str(objects[i]) for i in named]},
    )

  return each(tree.lines(path), make, lambda row: field(row, 'annot_id'))


def _label(row: Any, name: str, choices: Sequence[Any]) -> int:
  label = answered(row, name, int)
  if not 0 <= label < len(choices):
    raise Bad('bad_reference')
  return label


def _named(parts: Sequence[Any], count: int) -> list[int]:
  """The objects that are named, in the order of first mention. Raises Bad."""
  found: dict[int, None] = {}
  for part in parts:
    if not isinstance(part, list) or not part:
      raise Bad('missing_field')
    for token in part:
      if isinstance(token, str):
        continue
      if not isinstance(token, list) or not token:
        raise Bad('missing_field')
      for number in token:
        if isinstance(number, bool) or not isinstance(number, int):
          raise Bad('missing_field')
        if not 0 <= number < count:
          raise Bad('bad_reference')
        found[number] = None
  return list(found)


def _text(tokens: Sequence[Any], place: dict[int, int]) -> str:
  """Tokens as text with slots: [[0, 1], 'wait', '.'] -> 'image {1} and ...'.

  Words are respelled after they are joined: 'User' and ':' are two tokens.
  """
  written = ' '.join(
    token.replace(_TAG, ' ') if isinstance(token, str) else _TAG
    for token in tokens
  )
  written = escape(respelled(_NO_BLANK_BEFORE.sub('', written).strip()))
  first, *rest = written.split(_TAG)
  tags = [
    _joined([f'image {{{place[number]}}}' for number in dict.fromkeys(token)])
    for token in tokens
    if not isinstance(token, str)
  ]
  pairs = zip(tags, rest, strict=True)
  return first + ''.join(tag + text for tag, text in pairs)


def _joined(names: list[str]) -> str:
  """'a', 'a and b', 'a, b and c'."""
  return ' and '.join(filter(None, [', '.join(names[:-1]), names[-1]]))


def _boxes(tree: Tree, path: str) -> list[Any]:
  """The boxes of the objects of a frame, as they came. Raises Bad."""
  try:
    value = json.loads(tree.read(path).decode())
  except (ValueError, RecursionError) as error:
    raise Bad('missing_field') from error
  return field(value, 'boxes', list)


def _corners(box: Any) -> tuple[float, float, float, float]:
  """x1, y1, x2, y2 of a box, whose score is dropped. Raises Bad."""
  numbers = box[:4] if isinstance(box, list) else []
  if len(numbers) < 4 or not all(
    isinstance(x, (int, float)) and not isinstance(x, bool) for x in numbers
  ):
    raise Bad('bad_box')
  left, top, right, bottom = map(float, numbers)
  return left, top, right, bottom


DATASETS = (
  Dataset(
    'vcr',
    'visual reasoning',
    'train',
    '{train,val}.jsonl, vcr1images/<movie>/*.{jpg,json}',
    'https://visualcommonsense.com/download',
    'by agreement, non-commercial',
    ('train', 'val'),
    'vcr',
    _files,
    _items,
    unlabelled=('test',),
    settings={'rationale': ('false', 'true')},
  ),
)

"""Answers that were wrong, with their prompts and pictures, for the page."""

import io
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from mmicl_jax.evaluation.items import BUILT, IMAGES
from mmicl_jax.evaluation.questions import ASKED, read_questions
from mmicl_jax.evaluation.scoring import TaskScores, read_lines
from mmicl_jax.runtime import page

SHOWN = 12
_SIDE = 160  # of an embedded picture, in pixels
_SLOT = re.compile(r'(<image\d+>)?图')
_LONGEST = 1500  # characters of a prompt


def wrong_answers(scores: TaskScores, out: Path) -> list[dict[str, Any]]:
  """Cards of the first wrong answers of the first variant, spread evenly.

  Empty where the scorer gives no score to an item.
  """
  main, task = scores.main, scores.task
  wrong = [
    name for name, item in main.per_item.items() if float(item['score']) < 1
  ]
  chosen = set(wrong[:: max(len(wrong) // SHOWN, 1)][:SHOWN])
  if not chosen:
    return []
  place = task.place(main.variant)
  asked = {q.id: q for q in read_questions(place / ASKED) if q.id in chosen}
  thumbs: dict[str, str] = {}
  cards = []
  for line in read_lines(place):
    name = line['id']
    if name not in chosen:
      continue
    question, item = asked[name], main.per_item[name]
    prompts = line['prompt']
    several = isinstance(prompts, list)
    cards.append(
      {
        'id': name,
        'score': float(item['score']),
        'parsed': item.get('parsed'),
        'answer': _answer(line, question.candidates, several),
        'targets': [] if several else list(question.targets[:5]),
        'lines': _lines(
          prompts[0] if several else prompts,
          [_thumb(out, image, thumbs) for image in line['images']],
        ),
        'asked': len(prompts) if several else 1,
        'lost': line.get('lost', ''),
        'ranking': _ranking(line, question.candidates),
      }
    )
  return cards


def _answer(
  line: Mapping[str, Any], candidates: tuple[str, ...] | None, several: bool
) -> str:
  """What the model said, or which candidate it found likeliest."""
  if 'output' in line:
    return line['output']
  scores = line['scores']
  if several or candidates is None or len(candidates) != len(scores):
    return ', '.join(f'{score:.2f}' for score in scores)
  return candidates[max(range(len(scores)), key=lambda i: scores[i])]


def _ranking(
  line: Mapping[str, Any], candidates: tuple[str, ...] | None
) -> list[tuple[str, str]]:
  """The likeliest candidates with their log-probabilities."""
  scores = line.get('scores', line.get('ranked'))
  if not scores or candidates is None or len(candidates) != len(scores):
    return []
  pairs = sorted(zip(candidates, scores, strict=True), key=lambda x: -x[1])
  return [(text, f'{score:.2f}') for text, score in pairs[:5]]


def _lines(prompt: str, images: list[str]) -> list[list[dict[str, str]]]:
  """The prompt's lines, each cut into texts and pictures."""
  waiting = iter(images)
  lines = []
  if len(prompt) > _LONGEST:
    # The question is at the end; what is cut off takes its pictures with it.
    cut = len(prompt) - _LONGEST
    for _ in _SLOT.finditer(prompt[:cut]):
      next(waiting, '')
    prompt = f'… {prompt[cut:]}'
  for line in prompt.splitlines():
    pieces, end = [], 0
    for slot in _SLOT.finditer(line):
      pieces.append({'text': line[end : slot.start()]})
      pieces.append({'name': slot[1] or '', 'image': next(waiting, '')})
      end = slot.end()
    pieces.append({'text': line[end:]})
    if line.strip():
      lines.append(pieces)
  return lines


def _thumb(out: Path, name: str, known: dict[str, str]) -> str:
  """A small copy of a picture as a data URI; '' if the file is gone."""
  if name not in known:
    path = os.fspath(out / BUILT / IMAGES / name)
    try:
      with Image.open(path) as image:
        small = image.convert('RGB')
      small.thumbnail((_SIDE, _SIDE))
      file = io.BytesIO()
      small.save(file, 'JPEG', quality=80)
      known[name] = page.data_uri(file.getvalue(), 'jpeg')
    except OSError:
      known[name] = ''
  return known[name]

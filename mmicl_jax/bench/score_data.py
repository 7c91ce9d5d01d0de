"""Made-up benchmarks of the official sizes, for timing the scorers."""

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_SEED = 0
_ANSWERS = (
  *('yes', 'no', 'Yes.', '2', 'two', 'the dog', 'a red bus', "it's", 'White'),
  *('10,000', '12:30', 'left side', 'black, white', 'cant', 'none', '3.5'),
)
_SPECIAL = (
  "man's",
  "isn't",
  '2',
  'black-and-white',
  'St.',
  '10:30am',
  '"stop"',
)


def write_vqa(folder: Path, num_questions: int) -> None:
  """VQAv2's files, with ten answers each, and a prediction for each."""
  folder.mkdir()
  drawn = random.Random(_SEED)
  questions, annotations, predictions = [], [], []
  for i in range(num_questions):
    some = drawn.sample(_ANSWERS, 3)
    question = {'question_id': i, 'image_id': i, 'question': 'what is this?'}
    questions.append(question)
    answers = [
      {'answer': drawn.choice(some), 'answer_id': k + 1} for k in range(10)
    ]
    annotations.append(
      question
      | {'question_type': 'what is', 'answer_type': 'other', 'answers': answers}
    )
    predictions.append({'id': str(i), 'output': drawn.choice(some)})
  _write(folder / 'v2_questions.json', {'questions': questions})
  _write(folder / 'v2_annotations.json', {'annotations': annotations})
  _write_lines(folder / 'answers.jsonl', predictions)


def write_captions(folder: Path, num_images: int, references: int = 5) -> None:
  """COCO's file of captions, and a prediction for each image."""
  folder.mkdir()
  drawn = random.Random(_SEED)
  words = [
    ''.join(
      drawn.choice('bdklmnprst') + drawn.choice('aeiou') for _ in range(n)
    )
    for n in (1, 2, 3, 4)
    for _ in range(2000)
  ]
  # A few words are frequent, as in a language.
  weights = [1 / (i + 3) for i in range(len(words))]

  def caption() -> str:
    some = drawn.choices(words, weights, k=drawn.randint(8, 13))
    if drawn.random() < 0.15:
      some[drawn.randrange(len(some))] = drawn.choice(_SPECIAL)
    return ' '.join(some).capitalize() + drawn.choice(['.', '.', '', ' .'])

  images = [{'id': i} for i in range(num_images)]
  rows = [
    {'image_id': i, 'id': i * references + k, 'caption': caption()}
    for i in range(num_images)
    for k in range(references)
  ]
  content = {'images': images, 'annotations': rows}
  _write(folder / 'captions_val2014.json', content)
  predictions = [{'id': str(i), 'output': caption()} for i in range(num_images)]
  _write_lines(folder / 'answers.jsonl', predictions)


def _write(path: Path, value: Any) -> None:
  path.write_text(json.dumps(value), encoding='utf-8')


def _write_lines(path: Path, rows: Iterable[Any]) -> None:
  path.write_text(''.join(f'{json.dumps(r)}\n' for r in rows), encoding='utf-8')

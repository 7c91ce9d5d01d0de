"""From a file of records to what their demonstrations did: tables and a page.

Records that cannot be explained are counted by the reason. Those with images
of demonstrations lend these to the others.
"""

import collections
import itertools
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmicl_jax.context.turns import Example
from mmicl_jax.data.records import Record, read_records
from mmicl_jax.errors import UserError
from mmicl_jax.evaluation.attribution import ScorePrompts, effects, judged
from mmicl_jax.evaluation.changed_prompts import (
  UNCHANGED,
  Others,
  PromptChanger,
)
from mmicl_jax.evaluation.explanation_page import explanation_page
from mmicl_jax.evaluation.split_prompt import (
  FileAnswers,
  Unexplained,
  own_answer,
  shown_ids,
  split_prompt,
)
from mmicl_jax.runtime import files
from mmicl_jax.runtime.progress import ProgressBar

PAGE, TABLE, RECORDS = 'index.html', 'explain.json', 'explain.jsonl'
_AT_ONCE = 8  # records that are scored together
_MOST = 2000  # words, and images, to draw from

Explained = tuple[Record, Example]


def explainable(
  path: str | os.PathLike,
  data_dir: str | None = None,
  limit: int | None = None,
) -> tuple[list[Explained], dict[str, int]]:
  """The first `limit` records with demonstrations, and their turns.

  Also returns how many records before were left out, by the reason. Raises
  UserError for a line that is no record, and if no record can be explained.
  """
  if limit is not None and limit < 1:
    raise UserError(f'--limit {limit}: explain at least 1 record')
  answers = _answers(path, data_dir)
  found: list[Explained] = []
  left_out: collections.Counter[str] = collections.Counter()
  first: UserError | None = None
  for record in read_records(path, data_dir, need_answer=False):
    try:
      found.append((record, split_prompt(record, answers)))
    except Unexplained as error:
      left_out[error.reason] += 1
      first = first or error
    if len(found) == limit:
      break
  if not found:
    raise first or UserError(f'{path}: no records in it')
  return found, dict(left_out)


def _answers(path: str | os.PathLike, data_dir: str | None) -> FileAnswers:
  """The answers of the file, if records name others as demonstrations."""
  wanted = {
    i
    for record in read_records(path, data_dir, need_answer=False)
    for i in shown_ids(record.meta)
  }
  by_id: dict[str | int, str] = {}
  each: set[str] = set()
  for record in (
    read_records(path, data_dir, need_answer=False) if wanted else ()
  ):
    try:
      answer = own_answer(record)
    except UserError:  # an odd record; it may not be among those explained
      continue
    each.add(answer)
    if record.id is not None and record.id in wanted:
      by_id[record.id] = answer
  return FileAnswers(by_id, each)


def explain_records(
  chosen: Sequence[Explained],
  left_out: dict[str, int],
  score: ScorePrompts,
  folder: Path,
  facts: dict[str, Any],
) -> dict[str, Any]:
  """Scores all changed prompts; writes and returns what came of it.

  facts: stands first in explain.json. Raises UserError if all prompts are too
  long.
  """
  left_out = dict(left_out)
  others = _others([example for _, example in chosen])
  done = []
  with (
    ProgressBar('explaining', len(chosen)) as bar,
    files.writing(folder / RECORDS) as file,
  ):
    for first in range(0, len(chosen), _AT_ONCE):
      batch = chosen[first : first + _AT_ONCE]
      prompts = [
        PromptChanger(example, others, str(number)).make()
        for number, (_, example) in enumerate(batch, first)
      ]
      scores = iter(score([one for own in prompts for one in own]))
      for (record, example), own in zip(batch, prompts, strict=True):
        line = judged(own, list(itertools.islice(scores, len(own))))
        if line is None:
          left_out['too long'] = left_out.get('too long', 0) + 1
          continue
        line = _told(record, example) | line
        file.write(json.dumps(line, ensure_ascii=False) + '\n')
        done.append((example, line))
      bar.advance(len(batch))
    if not done:
      name = chosen[0][1].name
      raise UserError(
        f'{name}: the prompt is longer than --max_input_length; raise it or '
        'show fewer demonstrations.'
      )
  lines = [line for _, line in done]
  right = [line[UNCHANGED]['right'] for line in lines]
  found = {
    **facts,
    'records': len(lines),
    'left_out': left_out,
    'accuracy': sum(right) / len(right),
    'effects': effects(lines),
  }
  files.write_json(folder / TABLE, found)
  files.write_text(folder / PAGE, explanation_page(found, done))
  return found


def _told(record: Record, example: Example) -> dict[str, Any]:
  """What a line says about its record."""
  return {
    'id': record.id,
    'where': record.where,
    'dataset': record.dataset,
    'style': example.style,
    'labels': [shot.answer for shot in example.turns[:-1]],
  }


def _others(examples: Sequence[Example]) -> Others:
  """Images of demonstrations, and the words of all prompts."""
  images, words = {}, {}
  for example in examples:
    for shot in example.turns[:-1]:
      images |= dict.fromkeys(shot.images)
    words |= dict.fromkeys(re.findall(r'[^\W\d_]{2,}', example.inputs))
    if len(images) > _MOST and len(words) > _MOST:
      break
  return Others(list(images)[:_MOST], list(words)[:_MOST])

"""From a file of records to what their demonstrations did: tables and a page.

Records that cannot be explained are counted by the reason. Those with images
of demonstrations lend these to the others.
"""

import collections
import dataclasses
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
from mmicl_jax.evaluation.attention import Attend, attention_summary
from mmicl_jax.evaluation.attribution import ScorePrompts, effects, judged
from mmicl_jax.evaluation.changed_prompts import (
  UNCHANGED,
  Others,
  PromptChanger,
)
from mmicl_jax.evaluation.explanation_page import (
  explanation_page,
  page_card,
  page_step,
)
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
_AT_ONCE = (4, 8)  # records that are scored together, at least and at most
_SHARDS = 16  # of 64 records and more, so many have work
_MOST = 2000  # words, and images, to draw from
_ANSWERS = 20  # that a prompt without demonstrations is compared with

Explained = tuple[Record, Example]


@dataclasses.dataclass
class Part:
  """What came of some of the prompts; numbers are their places among all.

  lines: of explain.jsonl. cards: of the page. too_long: how many were left out.
  """

  lines: list[tuple[int, str]]
  cards: dict[int, dict[str, Any]]
  too_long: int


def block_size(count: int) -> int:
  """How many of so many records are scored together."""
  least, most = _AT_ONCE
  return max(least, min(most, count // _SHARDS))


def explainable(
  path: str | os.PathLike,
  data_dir: str | None = None,
  limit: int | None = None,
  zero_shot: bool = False,
) -> tuple[list[Explained], dict[str, int]]:
  """The first `limit` records with demonstrations, and their turns.

  zero_shot: those without demonstrations, too.

  Also returns how many records before were left out, by the reason. Raises
  UserError for a line that is no record, and if no record can be explained.
  """
  answers = _answers(path, data_dir)
  found: list[Explained] = []
  left_out: collections.Counter[str] = collections.Counter()
  first: UserError | None = None
  for record in read_records(path, data_dir, need_answer=False):
    try:
      found.append((record, split_prompt(record, answers, zero_shot)))
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
  attend: Attend | None = None,
) -> dict[str, Any]:
  """Scores all changed prompts; writes and returns what came of it.

  facts: stands first in explain.json. attend: tells what the unchanged prompts'
  answers attend to, if that is wanted. Raises UserError if all prompts are too
  long.
  """
  part = explain_part(chosen, score, attend)
  return write_explanation(folder, facts, left_out, part)


def explain_part(
  chosen: Sequence[Explained],
  score: ScorePrompts,
  attend: Attend | None = None,
  shard: tuple[int, int] = (0, 1),
) -> Part:
  """Scores the changed prompts of every n-th block; shard is (i, n).

  A prompt's changes depend on all of `chosen`. Raises UserError if there are
  fewer blocks than shards.
  """
  i, count = shard
  size = block_size(len(chosen))
  blocks = range(i * size, len(chosen), count * size)
  if not blocks:
    raise UserError(
      f'nothing is left for shard {i}/{count} of {len(chosen)} prompts, since '
      f'{size} are explained together: use fewer shards'
    )
  others = _others([example for _, example in chosen])
  step = page_step(len(chosen))
  part = Part([], {}, 0)
  total = sum(len(chosen[first : first + size]) for first in blocks)
  with ProgressBar('explaining', total) as bar:
    for first in blocks:
      batch = chosen[first : first + size]
      lines = _lines(batch, first, others, score, attend)
      for number, line in enumerate(lines, first):
        if line is None:
          part.too_long += 1
          continue
        part.lines.append((number, json.dumps(line, ensure_ascii=False)))
        if number % step == 0:
          part.cards[number] = page_card(chosen[number][1], line)
      bar.advance(len(batch))
  return part


def _lines(
  batch: Sequence[Explained],
  first: int,
  others: Others,
  score: ScorePrompts,
  attend: Attend | None,
) -> list[dict[str, Any] | None]:
  """What explain.jsonl says of some records; None for one that is too long."""
  prompts = [
    PromptChanger(example, others, str(number)).make()
    for number, (_, example) in enumerate(batch, first)
  ]
  scores = iter(score([one for own in prompts for one in own]))
  lines: list[dict[str, Any] | None] = []
  for (record, example), own in zip(batch, prompts, strict=True):
    line = judged(own, list(itertools.islice(scores, len(own))))
    lines.append(line and _told(record, example) | line)
  whole = [i for i, line in enumerate(lines) if line is not None]
  if attend is not None and whole:
    told = attend(
      [prompts[i][0].example for i in whole],
      [prompts[i][0].candidates[0] for i in whole],
    )
    for i, one in zip(whole, told, strict=True):
      lines[i] = {**(lines[i] or {}), 'attention': one}
  return lines


def write_explanation(
  folder: Path, facts: dict[str, Any], left_out: dict[str, int], part: Part
) -> dict[str, Any]:
  """Writes the three files of all records; returns what explain.json says.

  Raises UserError if all prompts are too long.
  """
  if not part.lines:
    raise UserError(
      'all prompts are longer than --max_input_length; raise it or show fewer '
      'demonstrations.'
    )
  left_out = dict(left_out)
  if part.too_long:
    left_out['too long'] = left_out.get('too long', 0) + part.too_long
  texts = [text for _, text in part.lines]
  files.write_text(folder / RECORDS, ''.join(f'{text}\n' for text in texts))
  lines = [json.loads(text) for text in texts]
  right = [line[UNCHANGED]['right'] for line in lines]
  found = {
    **facts,
    'records': len(lines),
    'left_out': left_out,
    'accuracy': sum(right) / len(right),
    'effects': effects(lines),
  }
  if all('attention' in line for line in lines):
    found['attention'] = attention_summary(lines)
  files.write_json(folder / TABLE, found)
  files.write_text(folder / PAGE, explanation_page(found, part.cards))
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
  """Images of demonstrations, the words of all prompts, common answers."""
  images, words = {}, {}
  answers = collections.Counter(one.turns[-1].answer for one in examples)
  for example in examples:
    for shot in example.turns[:-1]:
      images |= dict.fromkeys(shot.images)
    words |= dict.fromkeys(re.findall(r'[^\W\d_]{2,}', example.inputs))
    if len(images) > _MOST and len(words) > _MOST:
      break
  return Others(
    list(images)[:_MOST],
    list(words)[:_MOST],
    [answer for answer, _ in answers.most_common(_ANSWERS)],
  )

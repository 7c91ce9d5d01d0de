"""Asks the demo's model what it never saw, and keeps prompts for its page."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmicl_jax.context.turns import Example, Turn, assemble
from mmicl_jax.data.images import to_png
from mmicl_jax.demo import data, pictures, results
from mmicl_jax.demo.lessons import SIZE
from mmicl_jax.demo.tasks import ROWS, SEVERAL, Item
from mmicl_jax.evaluation.attribution import judged, prompt_scores
from mmicl_jax.evaluation.changed_prompts import (
  UNCHANGED,
  Others,
  PromptChanger,
)
from mmicl_jax.inference.predictor import Predictor

OTHER_TASKS = (*SEVERAL, 'composition')
_OTHER_ITEMS = 200  # of each of these
_SHOWN = 24  # unseen classes on the page
# Prompts on the page whose demonstrations are weighed, and if they are right.
_WEIGHED = (
  ('icl_words_2', True),
  ('icl_5_words_5', True),
  ('icl_5_words_5', False),
)

Answered = Mapping[str, Sequence[tuple[Item, str]]]


def held_out(
  task: str, count: int, seed: int, split: str = 'heldout'
) -> list[Item]:
  """The first prompts of a task about classes that training never shows."""
  return [
    data.make_item(task, data.HELD_OUT_SEED + seed, i, split, SIZE)
    for i in range(count)
  ]


def ask_held_out(
  model: Predictor, out: Path, seed: int, items: int
) -> tuple[Answered, Answered]:
  """Answers about unseen letters, and about digits, by task.

  items: prompts of each row of invented words. Writes the prompts as records
  to out/held_out and out/digits.
  """
  letters = {task: held_out(task, items, seed) for task in ROWS}
  for task in OTHER_TASKS:
    letters[task] = held_out(task, _OTHER_ITEMS, seed)
  digits = {
    task: held_out(task, items, seed, 'digits')
    for task, (_, each) in ROWS.items()
    if each
  }
  for folder, asked in (('held_out', letters), ('digits', digits)):
    for task, chosen in asked.items():
      data.write_held_out(chosen, str(out / folder), task)
  return _answered(model, letters), _answered(model, digits)


def _answered(
  model: Predictor, asked: Mapping[str, Sequence[Item]]
) -> Answered:
  found = {}
  for task, items in asked.items():
    answers = model.generate([item.example for item in items])
    found[task] = [
      (item, answer.text) for item, answer in zip(items, answers, strict=True)
    ]
  return found


def score_of(name: str, pairs: Sequence[tuple[Item, str]]) -> results.Score:
  """How many of the answers to a task are right."""
  items = [item for item, _ in pairs]
  task = items[0].task
  return results.Score(
    name,
    len(items),
    sum(_right(*pair) for pair in pairs),
    chance=sum(item.chance for item in items) / len(items),
    ceiling=sum(item.ceiling for item in items) / len(items),
    shots=items[0].shots if task in ROWS else None,
    ways=ROWS[task][0] if task in ROWS else None,
  )


def shown_answers(answered: Answered, out: Path) -> list[results.Sample]:
  """A failure and a success of some tasks, where there are both."""
  found = []
  for task in ('icl_words_4', 'icl_5_words_5', 'composition', 'odd_one_out'):
    for right in (False, True):
      pair = _first(answered[task], right)
      if pair is not None:
        found.append(results.Sample.of(*pair, str(out)))
  return found


def weighed(
  model: Predictor, answered: Answered, out: Path
) -> list[results.Sample]:
  """Prompts with what each demonstration carried of the right answer."""
  pairs = [_first(answered[task], right) for task, right in _WEIGHED]
  scores = prompt_scores(model)
  found = []
  for pair in pairs:
    if pair is None:
      continue
    changer = PromptChanger(_encoded(pair[0].example), Others((), ()))
    changed = [one for one in changer.make() if one.kind in (UNCHANGED, 'drop')]
    told = judged(changed, scores(changed))
    if told is not None:
      carried = tuple(told['carried'])
      found.append(results.Sample.of(*pair, str(out), carried))
  return found


def _encoded(example: Example) -> Example:
  """The prompt with PNG files for arrays, which turns cannot be compared by."""
  *shots, query = [
    dataclasses.replace(turn, images=[to_png(x) for x in turn.images])
    for turn in example.turns
  ]
  return assemble(query, shots)


def unseen(out: Path) -> list[str]:
  """Saves a picture of some held-out letters; returns their paths below out."""
  gallery = pictures.load_gallery('heldout', SIZE)
  step = len(gallery.kinds) // _SHOWN
  return [
    data.save_picture(gallery.picture(kind * step, 0), str(out))
    for kind in range(_SHOWN)
  ]


def ask_example(model: Predictor, final: Path, out: Path) -> tuple[str, str]:
  """Asks about three images; returns (the command that does so, the answer)."""
  item: Any = next(x for x in held_out('which', 50, 7) if len(x.pictures) == 3)
  paths = [
    os.path.join(out, data.save_picture(p, str(out))) for p in item.pictures
  ]
  text = item.example.turns[-1].text
  answer = model.generate([Turn(text, paths)])[0].text
  command = (
    f"mmicl generate --checkpoint {final} --prompt '{text}' "
    f'--image {" ".join(paths)}'
  )
  return command, answer


def _right(item: Item, answer: str) -> bool:
  return answer.strip() == item.example.targets.strip()


def _first(
  pairs: Sequence[tuple[Item, str]], right: bool
) -> tuple[Item, str] | None:
  """The first answer that is right, or wrong."""
  return next((pair for pair in pairs if _right(*pair) == right), None)

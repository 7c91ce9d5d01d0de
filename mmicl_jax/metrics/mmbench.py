"""MMBench: a question counts when it is right in every order of its options.

The copies of question g, each with its options in another order, have the
indices g + 10^6, g + 2 10^6 ..; g itself is below 10^6.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mmicl_jax.errors import UserError
from mmicl_jax.metrics.breakdown import breakdown
from mmicl_jax.metrics.choice_letter import lmms_eval_letter, vlmevalkit_letter
from mmicl_jax.metrics.files import column_rows, one_file, unique_ids
from mmicl_jax.metrics.scorer import TEXT, Annotations, Scored, Scorer, mean

_TURN = 10**6
_LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'
_ABILITIES = {
  'coarse_perception': 'CP',
  'finegrained_perception (instance-level)': 'FP-S',
  'finegrained_perception (cross-instance)': 'FP-C',
  'logic_reasoning': 'LR',
  'relation_reasoning': 'RR',
  'attribute_reasoning': 'AR',
}
# What pandas, which both harnesses read the file with, takes for an empty cell:
# an option "None" is no option.
_EMPTY = frozenset(
  (
    *('', '#N/A', '#N/A N/A', '#NA', '-1.#IND', '-1.#QNAN', '-NaN', '-nan'),
    *('1.#IND', '1.#QNAN', '<NA>', 'N/A', 'NA', 'NULL', 'NaN', 'None'),
    *('n/a', 'nan', 'null'),
  )
)


@dataclass(frozen=True)
class _Row:
  group: int  # its index without the turns
  is_main: bool
  answer: str
  options: Mapping[str, str]
  split: str
  ability: str | None  # the l2-category, shortened
  category: str | None


def _read(folder: Path) -> Annotations:
  """One TSV, in whatever order; an id is the index."""
  path = one_file(folder, '*.tsv')
  rows = column_rows(path, ('index', 'question', 'A', 'B', 'answer'), '\t')
  made = [_row(where, cells) for where, cells in rows]
  ids = unique_ids(path, [name for name, _ in made], 'index')
  if not any(row.is_main for _, row in made):
    raise UserError(
      f'{path} has no index below {_TURN}: only those are counted; give the '
      'official file'
    )
  return Annotations(ids, dict(made))


def _row(where: str, cells: Mapping[str, str]) -> tuple[str, _Row]:
  held = {key: text for key, text in cells.items() if text not in _EMPTY}
  if not cells['index'].isdecimal():
    raise UserError(
      f'{where}: the index {cells["index"]!r} is no whole number: give the '
      'official file'
    )
  if 'answer' not in held:
    raise UserError(
      f'{where} has no answer: the answers of the test split are not public; '
      'score the dev split'
    )
  index = int(cells['index'])
  ability = held.get('l2-category')
  row = _Row(
    group=index % _TURN,
    is_main=index < _TURN,
    answer=held['answer'],
    options={key: held[key] for key in _LETTERS if key in held},
    split=held.get('split', 'none'),
    ability=None if ability is None else _ABILITIES.get(ability, ability),
    category=held.get('category'),
  )
  return str(index), row


def _score(
  annotations: Annotations, predictions: Mapping[str, str], mode: str
) -> Scored:
  """official is VLMEvalKit with exact matching; lmms-eval is its static form.

  A group without its main row is not counted, and one that lacks other rows in
  the file is: on those it has.
  """
  rows: dict[str, _Row] = annotations.data
  per_item = []
  hits: dict[int, list[float]] = {}
  for name, output in predictions.items():
    row = rows[name]
    if mode == 'lmms-eval':
      letter = lmms_eval_letter(output, _four_options(row))
    else:
      letter = vlmevalkit_letter(output, row.options)
    hit = float(letter == row.answer)
    per_item.append({'id': name, 'score': hit, 'parsed': letter})
    hits.setdefault(row.group, []).append(hit)
  sizes: dict[int, int] = {}
  for row in rows.values():
    sizes[row.group] = sizes.get(row.group, 0) + 1
  counted = [
    (row, min(hits[row.group]))
    for row in rows.values()
    if row.is_main and len(hits.get(row.group, ())) == sizes[row.group]
  ]
  if not counted:
    note = 'no group has all of its predictions: nothing is counted'
    return Scored({}, per_item, [note])
  if mode == 'lmms-eval':
    return Scored(_accuracies('', counted), per_item)
  metrics = {}
  for split in dict.fromkeys(row.split for row, _ in counted):
    members = [(row, hit) for row, hit in counted if row.split == split]
    metrics |= _accuracies(f'{split}/', members)
  return Scored(metrics, per_item)


def _four_options(row: _Row) -> dict[str, str]:
  """lmms-eval's options: always A to D, a missing one is the text 'nan'."""
  return {letter: row.options.get(letter, 'nan') for letter in 'ABCD'}


def _accuracies(
  prefix: str, counted: list[tuple[_Row, float]]
) -> dict[str, float]:
  metrics = {f'{prefix}overall': mean([hit for _, hit in counted])}
  metrics |= breakdown(
    f'{prefix}l2',
    ((row.ability, hit) for row, hit in counted if row.ability is not None),
  )
  metrics |= breakdown(
    f'{prefix}category',
    ((row.category, hit) for row, hit in counted if row.category is not None),
  )
  return metrics


_MODES = ('official', 'vlmevalkit', 'lmms-eval')
SCORERS = (Scorer('mmbench', dict.fromkeys(_MODES, TEXT), _read, _score),)

"""VL-ICL Bench: questions that only their demonstrations explain."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

from mmicl_jax.data.build.catalog import (
  Dataset,
  Settings,
  Wanted,
  annotation,
  optional,
)
from mmicl_jax.data.build.items import Bad, PictureRef, Skip, SourceItem
from mmicl_jax.data.build.rows import each, field, ident, words
from mmicl_jax.data.build.tree import Tree

_OPERATORS = ('+', '-', 'x')
_NAMING = 'This is a'  # what open_mi's demonstrations ask


def _tasks(tree: Tree, settings: Settings) -> tuple[str, ...]:
  """The folders that have queries, wherever copies put them."""
  del settings
  found = {path.parent.name for path in tree.root.glob('*/query.json')}
  found |= {path.parent.name for path in tree.root.glob('*/*/query.json')}
  return tuple(sorted(found))


def _files(split: str, settings: Settings) -> Sequence[Wanted]:
  del settings
  return [
    annotation(f'{split}/query.json'),
    optional(f'{split}/support.json'),
  ]


def _items(
  tree: Tree, split: str, settings: Settings, paths: Sequence[str | None]
) -> Iterator[SourceItem | Skip]:
  """Queries; their demonstrations are their own support, or the task's."""
  del settings
  query, support = paths
  assert query is not None
  folders = [os.path.dirname(query), '']
  shared = [] if support is None else list(_support(tree, support))

  def make(row: Any) -> SourceItem:
    name = ident(row['id'])
    own = row.get('support')
    shots = (
      _own_support(own)
      if isinstance(own, dict)
      else [(where, _solved(entry, row)) for where, entry in shared]
    )
    return _item(
      tree,
      folders,
      split,
      name,
      row,
      tuple(_shots(tree, folders, split, shots)),
    )

  return each(
    tree.listed(query), make, lambda row: field(row, 'id', (int, str))
  )


def _item(
  tree: Tree,
  folders: Sequence[str],
  task: str,
  name: str,
  row: Any,
  shots: tuple[SourceItem, ...] = (),
) -> SourceItem:
  images = field(row, 'image', (list, str))
  images = [images] if isinstance(images, str) else images
  if not all(isinstance(image, str) and image for image in images):
    raise Bad('missing_field')
  answer = row.get('answer')
  if isinstance(answer, (int, float)) and not isinstance(answer, bool):
    answer = str(answer)
  if answer is None or (isinstance(answer, str) and not answer.strip()):
    raise Bad('no_answer')
  answer = field({'answer': answer}, 'answer')
  return SourceItem(
    name,
    name,
    {'question': words(row, 'question')},
    tuple(PictureRef(tree.picture(folders, image)) for image in images),
    (answer,),
    score_id=f'{task}/{name}',
    shots=shots,
  )


def _support(tree: Tree, path: str) -> Iterator[tuple[str, Any]]:
  """The task's demonstrations; those of matching_mi are pairs of two."""
  for i, (_, row) in enumerate(tree.listed(path)):
    if isinstance(row, dict) and {'same', 'diff'} <= set(row):
      yield f'support/{i}/same', row['same']
      yield f'support/{i}/diff', row['diff']
    else:
      yield f'support/{i}', row


def _solved(entry: Any, query: Any) -> Any:
  """Of operator_induction, the answer for the query's hidden operator."""
  if not isinstance(entry, dict) or not isinstance(entry.get('answer'), list):
    return entry
  operator = query.get('operator')
  if operator not in _OPERATORS or len(entry['answer']) != len(_OPERATORS):
    raise Bad('bad_reference')
  return {**entry, 'answer': entry['answer'][_OPERATORS.index(operator)]}


def _own_support(support: dict[str, Any]) -> list[tuple[str, Any]]:
  """Of open_mi, pictures of the query's own classes, {class: {images}}."""
  found = []
  for name, entry in support.items():
    for i, image in enumerate(field(entry, 'images', list)):
      shot = {'image': image, 'question': _NAMING, 'answer': name}
      found.append((f'support/{name}/{i}', shot))
  return found


def _shots(
  tree: Tree,
  folders: Sequence[str],
  task: str,
  support: Sequence[tuple[str, Any]],
) -> Iterator[SourceItem]:
  """Those that are whole: a bad one is no demonstration."""
  for where, row in support:
    try:
      yield _item(tree, folders, task, where, row)
    except Bad:
      continue


DATASETS = (
  Dataset(
    'vl_icl',
    'benchmark',
    'benchmark',
    '<task>/{query.json,support.json} and the pictures that they name',
    'https://huggingface.co/datasets/ys-zong/VL-ICL',
    'CC BY 4.0',
    (),
    'vqa',
    _files,
    _items,
    discover=_tasks,
  ),
)

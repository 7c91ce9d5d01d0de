"""IconQA: questions about drawings, of three kinds, for thirteen skills."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mmicl_jax.errors import UserError
from mmicl_jax.metrics.breakdown import breakdown
from mmicl_jax.metrics.files import (
  json_file,
  one_file,
  optional_file,
  unique_ids,
  value_of,
)
from mmicl_jax.metrics.scorer import TEXT, Annotations, Scored, Scorer, mean
from mmicl_jax.metrics.text_vqa import harness_similarity

_FILL_IN = 'fill_in_blank'


@dataclass(frozen=True)
class _Problem:
  task: str
  answer: str  # an index or a text, as str() writes it
  skills: tuple[str, ...]


def _read(folder: Path) -> Annotations:
  """All problems, or those of "test" where there is a pid_splits.json."""
  path = one_file(folder, 'problems.json')
  problems = json_file(path)
  skills_path = one_file(folder, 'pid2skills.json')
  skills = json_file(skills_path)
  splits = optional_file(folder, 'pid_splits.json')
  ids = unique_ids(path, problems)
  if splits is not None:
    test = value_of(str(splits), json_file(splits), 'test', list)
    ids = unique_ids(splits, map(str, test))
  found = {}
  for name in ids:
    if name not in problems:
      raise UserError(
        f'{splits} names {name!r}, which {path} does not have: give both files '
        'of one release'
      )
    where = f'{path}, problem {name}'
    found[name] = _Problem(
      value_of(where, problems[name], 'ques_type', str),
      str(value_of(where, problems[name], 'answer', str, int, float)),
      tuple(map(str, value_of(str(skills_path), skills, name, list))),
    )
  return Annotations(ids, found)


def _score(
  annotations: Annotations, predictions: Mapping[str, str], mode: str
) -> Scored:
  """Official: equal strings. lmms-eval: ANLS of the fill-in questions alone."""
  problems = {name: annotations.data[name] for name in predictions}
  if mode == 'lmms-eval':
    return _fill_in(problems, predictions)
  hits = {
    name: float(output == problems[name].answer)
    for name, output in predictions.items()
  }
  metrics = {'accuracy': 100 * mean(list(hits.values()))}
  metrics |= breakdown(
    'task', ((problems[name].task, hit) for name, hit in hits.items()), 100.0
  )
  metrics |= breakdown(
    'skill',
    ((s, hit) for name, hit in hits.items() for s in problems[name].skills),
    100.0,
  )
  never = [k for k, value in metrics.items() if '/' in k and not value]
  notes = []
  if never:
    notes.append(
      'nothing is right, so 0, where the official program fails: '
      + ', '.join(never)
    )
  items = [{'id': name, 'score': hit} for name, hit in hits.items()]
  return Scored(metrics, items, notes)


def _fill_in(
  problems: Mapping[str, _Problem], predictions: Mapping[str, str]
) -> Scored:
  scores = {
    name: harness_similarity(predictions[name], problem.answer)
    for name, problem in problems.items()
    if problem.task == _FILL_IN
  }
  notes = []
  if not scores:
    notes.append(f'no question of {_FILL_IN}: lmms-eval scores no other')
  metrics = breakdown(
    'task', ((_FILL_IN, score) for score in scores.values()), 100.0
  )
  items = [{'id': name, 'score': score} for name, score in scores.items()]
  return Scored(metrics, items, notes)


SCORERS = (
  Scorer('iconqa', {'official': TEXT, 'lmms-eval': TEXT}, _read, _score),
)

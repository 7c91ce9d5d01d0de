"""VQAv2 and OK-VQA: a prediction beside ten answers to the question."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmicl_jax.errors import UserError
from mmicl_jax.metrics.files import (
  id_of,
  json_file,
  one_file,
  text_of_each,
  unique_ids,
  value_of,
)
from mmicl_jax.metrics.scorer import TEXT, Annotations, Scored, Scorer, mean
from mmicl_jax.metrics.vqa_accuracy import by_position, by_record
from mmicl_jax.metrics.vqa_text import (
  evalai_normal,
  lmms_eval_normal,
  official_normal,
  official_punctuation,
  one_line,
  vlmevalkit_normal,
)


@dataclass(frozen=True)
class _Answered:
  """A question with its answers.

  records: what else is known of each answer; None if no two of them are equal,
  so that leaving out records is leaving out positions.
  """

  question_type: str
  answer_type: str
  answers: tuple[str, ...]
  records: tuple[dict[str, Any], ...] | None


def _read(folder: Path) -> Annotations:
  """Questions and annotations in VQA's form, of the same split."""
  asked_in = one_file(folder, '*questions.json')
  path = one_file(folder, '*annotations.json')
  asked = {id_of(*row, 'question_id') for row in _rows(asked_in, 'questions')}
  rows = list(_rows(path, 'annotations'))
  ids = unique_ids(
    path, (id_of(*row, 'question_id') for row in rows), 'question_id'
  )
  for name in ids:
    if name not in asked:
      raise UserError(
        f'{path} has the question_id {name!r}, which {asked_in.name} lacks: '
        'give both files of the same split'
      )
  data = [_answered(*row) for row in rows]
  return Annotations(ids, dict(zip(ids, data, strict=True)))


def _rows(path: Path, name: str) -> Iterator[tuple[str, Any]]:
  """(where, record) of each element of the list that the file holds."""
  rows = value_of(str(path), json_file(path), name, list)
  return ((f'{path}, {name}[{i}]', row) for i, row in enumerate(rows))


def _answered(where: str, row: Any) -> _Answered:
  answers = value_of(where, row, 'answers', list)
  texts = text_of_each(where, answers, 'answer')
  distinct = {str(answer.get('answer_id')) for answer in answers}
  return _Answered(
    value_of(where, row, 'question_type', str),
    value_of(where, row, 'answer_type', str),
    tuple(texts),
    None
    if len(distinct) == len(answers)
    else tuple(
      {k: v for k, v in answer.items() if k != 'answer'} for answer in answers
    ),
  )


# Each gives the prediction and the answers as they are compared.
_Forms = tuple[str, Sequence[str]]


def _official(output: str, answers: Sequence[str]) -> _Forms:
  """Nothing is normalised if all answers are the same."""
  output = one_line(output)
  answers = [one_line(answer) for answer in answers]
  if len(set(answers)) == 1:
    return output, answers
  return official_normal(output), [official_normal(a) for a in answers]


def _lavis(output: str, answers: Sequence[str]) -> _Forms:
  """The answers lack the steps of words and digits: 'Two' is never matched."""
  output = official_normal(one_line(output))
  if len(set(answers)) == 1:
    return output, answers
  return output, [official_punctuation(answer) for answer in answers]


def _both(normal: Callable[[str], str]) -> Callable[..., _Forms]:
  return lambda output, answers: (normal(output), [normal(a) for a in answers])


_FORMS = {
  ('vqav2', 'official'): _official,
  ('vqav2', 'lavis'): _lavis,
  ('vqav2', 'lmms-eval'): _both(lmms_eval_normal),
  ('vqav2', 'vlmevalkit'): _both(vlmevalkit_normal),
  ('okvqa', 'official'): _official,
  ('okvqa', 'lmms-eval'): _both(evalai_normal),
}
# These leave one answer out by its place; the others all equal records.
_BY_POSITION = {('vqav2', 'vlmevalkit'), ('okvqa', 'lmms-eval')}


def _scorer(name: str) -> Scorer:
  def score(
    annotations: Annotations, predictions: Mapping[str, str], mode: str
  ) -> Scored:
    forms = _FORMS[name, mode]
    by_place = (name, mode) in _BY_POSITION
    per_item = []
    groups: dict[str, list[float]] = {'accuracy': []}
    for item, output in predictions.items():
      question: _Answered = annotations.data[item]
      parsed, answers = forms(output, question.answers)
      if by_place or question.records is None:
        value = by_position(len(answers), answers.count(parsed))
      else:
        value = by_record(parsed, answers, question.records)
      per_item.append({'id': item, 'score': value, 'parsed': parsed})
      groups['accuracy'].append(value)
      if mode in ('official', 'lavis'):
        for group in (
          f'question_type/{question.question_type}',
          f'answer_type/{question.answer_type}',
        ):
          groups.setdefault(group, []).append(value)
    metrics = {group: 100 * mean(values) for group, values in groups.items()}
    return Scored(metrics, per_item)

  modes = [mode for benchmark, mode in _FORMS if benchmark == name]
  return Scorer(name, dict.fromkeys(modes, TEXT), _read, score)


SCORERS = (_scorer('vqav2'), _scorer('okvqa'))

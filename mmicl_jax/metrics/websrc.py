"""WebSRC: questions about web pages, with SQuAD's exact match and F1."""

import collections
import re
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmicl_jax.metrics.files import (
  id_of,
  json_file,
  one_file,
  unique_ids,
  value_of,
)
from mmicl_jax.metrics.scorer import TEXT, Annotations, Scored, Scorer, mean

_ARTICLE = re.compile(r'\b(a|an|the)\b')
_DELETED = str.maketrans('', '', string.punctuation)
_TOKEN = re.compile(r'\w+|[^\w\s]')


def _read(folder: Path) -> Annotations:
  """data[].websites[].qas[]: id and answers, each with a text."""
  path = one_file(folder, '*.json')
  found: list[tuple[str, list[str]]] = []
  for i, domain in enumerate(
    value_of(str(path), json_file(path), 'data', list)
  ):
    where = f'{path}, data[{i}]'
    for j, website in enumerate(value_of(where, domain, 'websites', list)):
      at = f'{where}.websites[{j}]'
      for k, qa in enumerate(value_of(at, website, 'qas', list)):
        found.append(_question(f'{at}.qas[{k}]', qa))
  ids = unique_ids(path, (name for name, _ in found))
  return Annotations(ids, dict(found))


def _question(where: str, qa: Any) -> tuple[str, list[str]]:
  answers = value_of(where, qa, 'answers', list)
  texts = [value_of(where, answer, 'text', str) for answer in answers]
  return id_of(where, qa, 'id'), texts


def squad_normal(text: str) -> str:
  """Lower case, without ASCII punctuation and articles, single blanks."""
  text = text.lower().translate(_DELETED)
  return ' '.join(_ARTICLE.sub(' ', text).split())


def squad_f1(answer: str, prediction: str) -> float:
  """F1 of the words of two normalised texts; of two empty ones 1."""
  wanted, given = answer.split(), prediction.split()
  if not wanted or not given:
    return float(wanted == given)
  common = collections.Counter(wanted) & collections.Counter(given)
  return _f1(sum(common.values()), len(given), len(wanted))


def _set_f1(answer: str, prediction: str) -> float:
  """lmms-eval's F1: how often a token stands does not matter."""
  wanted = set(_TOKEN.findall(answer.lower()))
  given = set(_TOKEN.findall(prediction.lower()))
  return _f1(len(wanted & given), len(given), len(wanted))


def _f1(same: int, given: int, wanted: int) -> float:
  if not same:
    return 0.0
  precision, recall = same / given, same / wanted
  return 2 * precision * recall / (precision + recall)


def _score(
  annotations: Annotations, predictions: Mapping[str, str], mode: str
) -> Scored:
  """The best of the answers counts."""
  per_item = []
  for name, output in predictions.items():
    answers = annotations.data[name]
    if mode == 'lmms-eval':
      best = max((_set_f1(answer, output) for answer in answers), default=0.0)
      per_item.append({'id': name, 'score': best, 'parsed': output})
      continue
    parsed = squad_normal(output)
    # Without an answer that is more than articles, the empty one is right.
    normal = [text for text in map(squad_normal, answers) if text] or ['']
    per_item.append(
      {
        'id': name,
        'score': float(parsed in normal),
        'parsed': parsed,
        'f1': max(squad_f1(answer, parsed) for answer in normal),
      }
    )
  score = 100 * mean([item['score'] for item in per_item])
  if mode == 'lmms-eval':
    return Scored({'f1': score}, per_item)
  f1 = 100 * mean([item['f1'] for item in per_item])
  return Scored({'exact': score, 'f1': f1}, per_item)


SCORERS = (
  Scorer('websrc', {'official': TEXT, 'lmms-eval': TEXT}, _read, _score),
)

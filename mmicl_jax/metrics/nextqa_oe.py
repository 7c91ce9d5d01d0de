"""NExT-QA's open answers: WUPS at threshold 0, Wu and Palmer's similarity."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmicl_jax.errors import UserError
from mmicl_jax.metrics.files import (
  column_rows,
  json_file,
  one_file,
  optional_file,
  text_lines,
  unique_ids,
  value_of,
)
from mmicl_jax.metrics.lemmas import Lemmatizer, unsplit, word_tokens
from mmicl_jax.metrics.scorer import TEXT, Annotations, Scored, Scorer, mean
from mmicl_jax.metrics.wordnet import WordNet, word_net

TYPES = ('CW', 'CH', 'TN', 'TC', 'DB', 'DC', 'DL', 'DO')
_EQUAL = ('DB', 'DC')  # yes or no, and counts: equal or wrong
# What pandas, with which the official program reads, takes for no value.
_NO_VALUE = frozenset(
  ['', '#N/A', '#N/A N/A', '#NA', '-1.#IND', '-1.#QNAN', '-NaN', '-nan', 'N/A']
  + ['1.#IND', '1.#QNAN', '<NA>', 'NA', 'NULL', 'NaN', 'None', 'n/a', 'null']
)


@dataclass(frozen=True)
class _Question:
  kind: str
  references: tuple[str, ...]


@dataclass(frozen=True)
class _Data:
  questions: Mapping[str, _Question]
  stop_words: frozenset[str]
  tags: Mapping[str, str] | None


def _read(folder: Path) -> Annotations:
  path = one_file(folder, '*.csv')
  columns = ('video', 'qid', 'type', 'answer')
  extra = _extra_references(folder)
  questions: dict[str, _Question] = {}
  names = []
  for where, row in column_rows(path, columns):
    kind = 'TN' if row['type'] == 'TP' else row['type']
    if kind not in TYPES:
      raise UserError(
        f'{where}: the type {kind!r} is not of NExT-QA: give the official file'
      )
    names.append(f'{row["video"]}_{row["qid"]}')
    answer = 'nan' if row['answer'] in _NO_VALUE else row['answer']
    second = extra.get(names[-1])
    references = (answer,) if second is None else (answer, second)
    questions[names[-1]] = _Question(kind, references)
  unique_ids(path, names, 'question')
  path = optional_file(folder, 'pos_tags.json')
  tags = None if path is None else json_file(path)
  for word in tags or ():
    value_of(f'{path}', tags, word, str)
  return Annotations(names, _Data(questions, _stop_words(folder), tags))


def _extra_references(folder: Path) -> dict[str, str]:
  """Second answers by id; the file is {video: {qid: answer}}."""
  path = optional_file(folder, 'add_reference_answer_*.json')
  if path is None:
    return {}
  videos = json_file(path)
  return {
    f'{video}_{qid}': value_of(f'{path}, {video}', answers, qid, str)
    for video in videos
    for answers in (value_of(str(path), videos, video, dict),)
    for qid in answers
  }


def _stop_words(folder: Path) -> frozenset[str]:
  path = one_file(folder, 'stopwords.txt')
  words = text_lines(path)
  for number, word in words:
    if not word.replace("'", '').isalpha():
      raise UserError(
        f'{path}, line {number} is not a word: write one word on each line'
      )
  if not words:
    raise UserError(f'{path} is empty: give the official file')
  return frozenset(word for _, word in words)


def _score(
  annotations: Annotations, predictions: Mapping[str, str], mode: str
) -> Scored:
  """The better one of an item's references counts."""
  data: _Data = annotations.data
  net = word_net()
  lemmatizer = Lemmatizer(net, data.tags)

  def without_stop_words(sentence: str) -> str:
    lemmas = lemmatizer.lemmas(sentence)
    return ' '.join(word for word in lemmas if word not in data.stop_words)

  similarity = functools.cache(functools.partial(_word_similarity, net))
  groups: dict[str, list[float]] = {'wups': []}
  groups |= {f'type/{kind}': [] for kind in TYPES}
  groups |= {f'group/{kind}': [] for kind in 'CTD'}
  per_item: list[dict[str, Any]] = []
  for name, output in predictions.items():
    question = data.questions[name]
    answer = without_stop_words(output)
    references = [without_stop_words(one) for one in question.references]
    if question.kind in _EQUAL:
      value = float(answer in references)
    else:
      value = max(_wups(answer, one, similarity) for one in references)
    kind = question.kind
    for group in ('wups', f'type/{kind}', f'group/{kind[0]}'):
      groups[group].append(value)
    per_item.append({'id': name, 'score': value, 'parsed': answer})
  metrics = {key: 100 * mean(found) for key, found in groups.items() if found}
  texts = [t for name in predictions for t in data.questions[name].references]
  notes = []
  if any(map(unsplit, [*texts, *predictions.values()])):
    notes.append(
      'Texts of several sentences count as one, since nltk lacks the data to '
      'split them: python -m nltk.downloader punkt_tab'
    )
  return Scored(metrics, per_item, notes)


def _word_similarity(net: WordNet, one: str, other: str) -> float:
  """Of the words' first senses; 1 for equal words, which may be unknown."""
  if one == other:
    return 1.0
  first, second = net.first_sense(one), net.first_sense(other)
  return net.similarity(first, second) if first and second else 0.0


def _wups(
  answer: str, reference: str, similarity: Callable[[str, str], float]
) -> float:
  """The lower value of both directions."""
  words, others = word_tokens(answer), word_tokens(reference)
  return min(
    _one_way(words, others, similarity), _one_way(others, words, similarity)
  )


def _one_way(
  words: Sequence[str],
  others: Sequence[str],
  similarity: Callable[[str, str], float],
) -> float:
  """The product, over words that are like any other, of the greatest."""
  product, any_alike = 1.0, False
  for word in words:
    best = max((similarity(word, other) for other in others), default=0)
    if best > 0:
      product, any_alike = product * best, True
  return product if any_alike else 0.0


SCORERS = (Scorer('nextqa_oe', {'official': TEXT}, _read, _score),)

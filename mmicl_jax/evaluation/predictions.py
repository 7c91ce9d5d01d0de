"""predictions.jsonl: what a model said to each question, resumable and exact.

    {"line": 0, "id": "existence/0001.jpg/0", "output": "yes", ...}

`mmicl score` reads "id" and "output" or "scores". The rest says how the answer
came about: the prompt as it was read, its images and tokens, the tokens of the
answer with their log-probabilities, the settings, and hashes of the question
and of the model.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmicl_jax.data import jsonl
from mmicl_jax.evaluation.declaration import Answering, Benchmark
from mmicl_jax.evaluation.questions import Question
from mmicl_jax.inference.answer_file import AnswerFile
from mmicl_jax.inference.input_lines import InputLine
from mmicl_jax.runtime.environment import version
from mmicl_jax.runtime.show import json_text

if TYPE_CHECKING:
  from mmicl_jax.data.features import Truncation
  from mmicl_jax.inference.predictor import Predictor
  from mmicl_jax.inference.prompts import Request

  _Read = tuple[Truncation, Request]

PREDICTIONS = 'predictions.jsonl'


@dataclasses.dataclass(frozen=True)
class AskedLine(InputLine):
  """A line of asked.jsonl: a question, as its JSON value."""

  value: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @functools.cached_property
  def question(self) -> Question:
    """Made when it is asked: a run that goes on passes over many lines."""
    return Question.of(self.value)

  @property
  def head(self) -> dict[str, Any]:
    return {'line': self.line, 'id': self.value['id']}


@dataclasses.dataclass(frozen=True)
class PredictionFile(AnswerFile):
  """Writes predictions for all questions of `source` into `target`.

  images: the folder of the pictures. block: as many questions as a step has.
  """

  benchmark: Benchmark | None = None
  images: Path = Path()

  def items(self) -> Iterator[AskedLine]:
    """Yields the questions in their order."""
    with jsonl.open_lines(self.source) as file:
      for number, (_, _, line) in enumerate(jsonl.numbered_lines(file)):
        value = json.loads(line)
        digest = hashlib.blake2b(line.strip(), digest_size=4).hexdigest()
        yield AskedLine(number, digest, None, value=value)

  def _prompt(self, predictor: 'Predictor', item: InputLine) -> Any:
    """The prompts of a question; raises UserError if one cannot be read."""
    assert isinstance(item, AskedLine)
    assert self.benchmark is not None
    style, name = self.benchmark.style, f'{self.source}: {item.question.id}'
    return [
      predictor.fitted(ask.example(self.images, style, name))
      for ask in item.question.asks
    ]

  def _answer(
    self, predictor: 'Predictor', prepared: Sequence[tuple[InputLine, Any]]
  ) -> Iterator[str]:
    """Yields the lines of a block."""
    # What was cached before must not decide an answer's last bit.
    predictor.engine.reader.forget()
    found = _Answers(predictor, prepared, self).lines()
    for (item, _), value in zip(prepared, found, strict=True):
      yield json_text(
        item.head
        | value
        | {
          'record': item.digest,
          'settings': self.settings_digest,
          'model': predictor.digest,
        }
      )


class _Answers:
  """Answers the questions of a block, generated ones and ranked ones."""

  def __init__(
    self,
    predictor: 'Predictor',
    prepared: Sequence[tuple[InputLine, Any]],
    job: PredictionFile,
  ):
    self._predictor, self._job = predictor, job
    self._rows = [item.line for item, _ in prepared]
    self._questions: list[tuple[Question, Sequence[_Read]]] = [
      (item.question, prompts)
      for item, prompts in prepared
      if isinstance(item, AskedLine)
    ]

  def lines(self) -> list[dict[str, Any]]:
    """What each question's line says, in their order."""
    told: dict[int, dict[str, Any]] = {}
    free = [i for i, (q, _) in enumerate(self._questions) if not q.candidates]
    ranked = [i for i, (q, _) in enumerate(self._questions) if q.candidates]
    if free:
      prompts = [self._questions[i][1][0][1] for i in free]
      rows = np.array([self._rows[i] for i in free], np.uint32)
      found = self._predictor.answers(prompts, self._job.options, rows)
      for i, answer in zip(free, found, strict=True):
        told[i] = {
          'output': answer.text,
          'tokens': list(answer.tokens),
          'log_probs': _numbers(answer.log_probs),
        }
    if ranked:
      told |= self._ranked(ranked)
    return [
      told[i] | self._prompt_of(question, prompts)
      for i, (question, prompts) in enumerate(self._questions)
    ]

  def _ranked(self, ranked: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Candidates' log-probabilities, of all prompts of these questions."""
    prompts, lists = [], []
    tokenizer = self._predictor.tokenizer
    for i in ranked:
      question, own = self._questions[i]
      ids = [
        [*tokenizer.encode(text), tokenizer.eos_id]
        for text in question.candidates or ()
      ]
      prompts += [request for _, request in own]
      lists += [ids] * len(own)
    scored = iter(self._predictor.engine.score(prompts, lists))
    told = {}
    for i in ranked:
      question, own = self._questions[i]
      tokens = [x for _ in own for x in next(scored)]
      told[i] = self._told(question, tokens)
    return told

  def _told(
    self, question: Question, tokens: Sequence[np.ndarray]
  ) -> dict[str, Any]:
    """What the scorer gets, and the log-probabilities of all tokens."""
    assert self._job.benchmark is not None
    answering = self._job.benchmark.answering_of(question.split)
    scores = [_reduced(x, answering) for x in tokens]
    told: dict[str, Any]
    if answering.give == 'scores':
      told = {'scores': scores}
    else:
      best = max(range(len(scores)), key=lambda k: scores[k])
      texts = question.candidates or ()
      output = texts[best] if answering.give == 'text' else str(best)
      told = {'output': output, 'ranked': scores}
    return told | {'log_probs': [_numbers(x) for x in tokens]}

  def _prompt_of(
    self, question: Question, prompts: 'Sequence[_Read]'
  ) -> dict[str, Any]:
    """The prompts as they were read."""
    assert self._job.benchmark is not None
    style, image = self._job.benchmark.style, self._predictor.config.image_token
    texts = [ask.text(style) for ask in question.asks]
    ids = [_collapsed(request.tokens, image) for _, request in prompts]
    lost = [str(one).partition(': ')[2] for one, _ in prompts if one]
    return {
      'prompt': texts[0] if len(texts) == 1 else texts,
      'images': list(question.asks[0].images),
      'input_tokens': ids[0] if len(ids) == 1 else ids,
      **({'lost': lost[0]} if lost else {}),
      'decoding': dict(self._job.settings['decoding']),
      'versions': self._job.settings['versions'],
    }


def versions() -> dict[str, str]:
  """The versions on which answers depend."""
  names = ('mmicl_jax', 'jax', 'jaxlib')
  return {name: version(name) or '' for name in names}


def _reduced(log_probs: np.ndarray, answering: Answering) -> float:
  if answering.reduce == 'first':
    return _number(log_probs[0])
  over = np.sum if answering.reduce == 'sum' else np.mean
  return _number(over(log_probs))


def _numbers(values: Sequence[Any] | np.ndarray) -> list[float]:
  return [_number(value) for value in values]


def _number(value: Any) -> float:
  """A float32 with as many digits as it has."""
  return float(f'{float(value):.9g}')


def _collapsed(tokens: np.ndarray, image: int) -> list[int]:
  """The ids with one image token for each image in the place of all."""
  found: list[int] = []
  for token in tokens.tolist():
    if token != image or found[-1:] != [image]:
      found.append(token)
  return found

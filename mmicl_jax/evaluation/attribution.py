"""What carried an answer: scores of changed prompts, and their means.

A demonstration carried as much as the answer's log-probability falls without
it. Differences are of the sums of a whole answer's log-probabilities.
"""

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mmicl_jax.context.turns import Example
from mmicl_jax.data.images import load_image
from mmicl_jax.errors import UserError
from mmicl_jax.evaluation.changed_prompts import KINDS, UNCHANGED, ChangedPrompt
from mmicl_jax.evaluation.intervals import bootstrap
from mmicl_jax.inference.predictor import Predictor
from mmicl_jax.inference.prompts import Request

_LOADED = 256  # images in memory, as the model sees them

# The log-probability of each candidate; None for a prompt that is too long.
Scores = list[float] | None
ScorePrompts = Callable[[Sequence[ChangedPrompt]], list[Scores]]


def request_maker(
  predictor: Predictor,
) -> Callable[[Example], Request | None]:
  """How a model reads prompts; None for one that is too long.

  Raises UserError, naming the prompt, for an image that cannot be read.
  """
  size = predictor.config.vit.image_size

  @functools.lru_cache(_LOADED)  # all versions of a prompt show the same ones
  def load(image: str | bytes) -> np.ndarray:
    return load_image(image, size)

  def request_of(example: Example) -> Request | None:
    try:
      images = [
        load(image) if isinstance(image, (str, bytes)) else image
        for image in example.images
      ]
    except UserError as error:
      raise UserError(f'{example.name}: {error}') from error
    example = dataclasses.replace(example, images=images, turns=())
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # a prompt that was cut is left out
      try:
        lost, request = predictor.fitted(example)
      except UserError:  # its images alone are too long
        return None
    return None if lost else request

  return request_of


def prompt_scores(predictor: Predictor) -> ScorePrompts:
  """How a model scores prompts: as Predictor.score, all in few batches."""
  encode, end = predictor.tokenizer.encode, predictor.tokenizer.eos_id
  request_of = request_maker(predictor)

  def score(prompts: Sequence[ChangedPrompt]) -> list[Scores]:
    # What was cached before must not decide a score's last bit, so that shards
    # give what one run gives.
    predictor.engine.reader.forget()
    requests = [request_of(prompt.example) for prompt in prompts]
    fitting = [i for i, request in enumerate(requests) if request is not None]
    tokens = [
      [[*encode(text), end] for text in prompts[i].candidates] for i in fitting
    ]
    found: list[Scores] = [None] * len(prompts)
    scored = predictor.engine.score(
      [request for request in requests if request is not None], tokens
    )
    for i, candidates in zip(fitting, scored, strict=True):
      found[i] = [float(one.sum()) for one in candidates]
    return found

  return score


def judged(
  prompts: Sequence[ChangedPrompt], scores: Sequence[Scores]
) -> dict[str, Any] | None:
  """What changes did to an answer; None if the prompt itself is too long.

  prompts: the unchanged one, then its changed versions. 'carried' has a number
  for each demonstration, and None where the prompt without it was not scored.
  """
  whole = scores[0]
  if whole is None:
    return None
  own = _outcome(prompts[0], whole)
  changed = [
    {
      'kind': prompt.kind,
      'place': prompt.place,
      'change': found[0] - whole[0],
      **_outcome(prompt, found),
    }
    for prompt, found in zip(prompts[1:], scores[1:], strict=True)
    if found is not None
  ]
  carried: list[float | None]
  carried = [None] * prompts[0].example.num_shots
  for one in changed:
    if one['kind'] == 'drop':
      carried[one['place']] = -one['change']
  return {
    'candidates': list(prompts[0].candidates),
    UNCHANGED: own,
    'carried': carried,
    'changed': changed,
  }


def _outcome(prompt: ChangedPrompt, scores: Sequence[float]) -> dict[str, Any]:
  """best: the likeliest candidate, by its place; 0 is the right one.

  share: the right one's probability among the candidates.
  """
  if not all(map(math.isfinite, scores)):
    raise UserError(
      f'{prompt.example.name}: a score is not a number: check the weights.'
    )
  # Of equal ones the last, so that a model that tells nothing apart is wrong.
  best = max(range(len(scores)), key=lambda i: (scores[i], i))
  powers = np.exp(np.array(scores) - max(scores))
  return {
    'log_prob': scores[0],
    'share': float(powers[0] / powers.sum()),
    'best': best,
    'right': best == 0,
  }


def effects(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
  """A row for each kind of change, in the order of KINDS.

  Each record counts once, with its mean over changes of that kind, beside
  the unchanged prompts of the same records. Intervals are at 95 %, over
  records; None for fewer than intervals.LEAST.
  """
  rows = []
  for kind in KINDS:
    changes, before, after, others = [], [], [], []
    for record in records:
      own = [one for one in record['changed'] if one['kind'] == kind]
      if own:
        was = record[UNCHANGED]
        changes.append(_mean(own, lambda one: one['change']))
        before.append(float(was['right']))
        after.append(_mean(own, lambda one: one['right']))
        others.append(_mean(own, lambda one, w=was: one['best'] != w['best']))
    if changes:
      places = [str(i) for i in range(len(changes))]
      differences = list(np.subtract(after, before))
      rows.append(
        {
          'kind': kind,
          'records': len(changes),
          'change': float(np.mean(changes)),
          'change_interval': bootstrap(changes, places),
          'accuracy_before': float(np.mean(before)),
          'accuracy': float(np.mean(after)),
          'accuracy_change': float(np.mean(differences)),
          'accuracy_interval': bootstrap(differences, places),
          'answers_changed': float(np.mean(others)),
        }
      )
  return rows


def _mean(items: Sequence[Any], value: Callable[[Any], float]) -> float:
  return float(np.mean([value(item) for item in items]))

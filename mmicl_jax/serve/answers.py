"""The bodies of answers: choices, usage, candidates, models."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from mmicl_jax.serve.choice_text import LEAST

Json = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Head:
  """What all parts of one answer begin with.

  chat: whether it is of chat completions or of completions. fingerprint: of
  the weights.
  """

  id: str
  created: int
  model: str
  fingerprint: str
  chat: bool

  def body(self, choices: Sequence[Json], chunk: bool = False) -> Json:
    """An answer, or a chunk of a stream, without usage."""
    kind = 'chat.completion' if self.chat else 'text_completion'
    if chunk and self.chat:
      kind += '.chunk'
    return {
      'id': self.id,
      'object': kind,
      'created': self.created,
      'model': self.model,
      'system_fingerprint': self.fingerprint,
      'choices': list(choices),
    }

  def choice(
    self,
    index: int,
    text: str,
    entries: Sequence[Json] | None,
    reason: str | None,
    stopped_by: str | None,
  ) -> Json:
    """One whole choice; entries: of log-probabilities, if asked for."""
    found: Json = {'index': index}
    if self.chat:
      found['message'] = {'role': 'assistant', 'content': text}
    else:
      found['text'] = text
    found['logprobs'] = self.log_probs(entries, 0)
    return {**found, 'finish_reason': reason, 'stop_reason': stopped_by}

  def part(
    self,
    index: int,
    delta: Json,
    entries: Sequence[Json] | None,
    offset: int = 0,
  ) -> Json:
    """A choice of a chunk: what is new in it."""
    found: Json = {'index': index}
    if self.chat:
      found['delta'] = delta
    else:
      found['text'] = delta.get('content', '')
    found['logprobs'] = self.log_probs(entries or None, offset)
    return {**found, 'finish_reason': None, 'stop_reason': None}

  def log_probs(
    self, entries: Sequence[Json] | None, offset: int
  ) -> Json | None:
    """Log-probabilities in the form of this interface.

    offset: characters of the answer before the first entry.
    """
    if entries is None:
      return None
    if self.chat:
      return {'content': list(entries)}
    offsets = []
    for entry in entries:
      offsets.append(offset)
      offset += len(entry['token'])
    return {
      'tokens': [entry['token'] for entry in entries],
      'token_logprobs': [entry['logprob'] for entry in entries],
      'top_logprobs': [_likeliest(entry) for entry in entries],
      'text_offset': offsets,
    }


def _likeliest(entry: Json) -> dict[str, float]:
  """The likeliest tokens, and the chosen one if it is none of them."""
  found = {top['token']: top['logprob'] for top in entry['top_logprobs']}
  found.setdefault(entry['token'], entry['logprob'])
  return found


def usage(prompt: int, completion: int, cached: bool) -> Json:
  """The tokens of an answer; those of images count as the prompt's."""
  return {
    'prompt_tokens': prompt,
    'completion_tokens': completion,
    'total_tokens': prompt + completion,
    'prompt_tokens_details': {'cached_tokens': prompt if cached else 0},
  }


def candidate_rows(
  candidates: Sequence[str],
  log_probs: Sequence[Float[np.ndarray, '_']],
  reduce: str,
) -> list[Json]:
  """Candidates with their log-probabilities and shares, in the order given.

  share: of the probability that all candidates have together.
  """
  sums = [float(np.sum(own)) for own in log_probs]
  means = [float(np.mean(own)) for own in log_probs]
  scores = sums if reduce == 'sum' else means
  best = max(scores)
  weights = [
    math.exp(score - best) if math.isfinite(best) else 1.0 for score in scores
  ]
  return [
    {
      'index': i,
      'text': candidates[i],
      'logprob': max(scores[i], LEAST),
      'share': weights[i] / sum(weights),
      'sum': max(sums[i], LEAST),
      'mean': max(means[i], LEAST),
      'tokens': len(log_probs[i]),
    }
    for i in range(len(candidates))
  ]


def best_row(ranked: Sequence[Json]) -> Json:
  """The candidate with the largest score; the first one if equal."""
  return max(ranked, key=lambda candidate: candidate['logprob'])

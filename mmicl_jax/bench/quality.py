"""`mmicl bench quality`: what bfloat16 and eight bits cost a trained model."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import jax
import numpy as np

from mmicl_jax.data import records
from mmicl_jax.decoding.options import Options
from mmicl_jax.errors import UserError
from mmicl_jax.inference.load import load
from mmicl_jax.inference.predictor import Predictor
from mmicl_jax.inference.prompts import Request, bucket
from mmicl_jax.runtime import show

VARIANTS: dict[str, dict[str, Any]] = {
  'float32': {'dtype': 'float32'},
  'bfloat16': {'dtype': 'bfloat16'},
  'int8, float32': {'dtype': 'float32', 'weights': 'int8'},
  'int8, bfloat16': {'dtype': 'bfloat16', 'weights': 'int8'},
}


def measure_quality(
  checkpoint: str, path: str, limit: int = 64, max_new_tokens: int = 16
) -> list[dict[str, Any]]:
  """Compares each way to hold the weights with float32, on a file's records.

  same_answers: the share of greedy answers whose ids are equal. same_tokens:
  the share of equal tokens at equal positions. logit_error: the root mean
  square of the logits' difference over that of float32's logits, at the
  positions of float32's answers. Raises UserError if there are no records.
  """
  found = list(islice(records.read_records(path, need_answer=False), limit))
  if not found:
    raise UserError(f'{path} has no records: name a file of questions.')
  options = Options(max_new_tokens=max_new_tokens)
  results, answers, logits = [], [], []
  for name, settings in VARIANTS.items():
    model = load(checkpoint, **settings)
    prompts = [model.prompt(r.example) for r in found]
    own = [a.tokens for a in model.answers(prompts, options)]
    answers = answers or own
    mine = _logits(model, prompts, answers)
    logits = logits or mine
    num_bytes = sum(x.nbytes for x in jax.tree.leaves(model.engine.params))
    results.append(
      {
        'weights': name,
        'records': len(found),
        'megabytes': num_bytes / 1e6,
        'same_answers': float(
          np.mean([a == b for a, b in zip(answers, own, strict=True)])
        ),
        'same_tokens': _same_tokens(answers, own),
        'logit_error': _error(logits, mine),
      }
    )
  return results


def quality_table(results: Sequence[dict[str, Any]]) -> str:
  """A Markdown table with a line for each way to hold the weights."""
  return show.markdown(
    [
      {
        'weights': r['weights'],
        'MB': f'{r["megabytes"]:.1f}',
        'same answers': f'{r["same_answers"]:.1%}',
        'same tokens': f'{r["same_tokens"]:.1%}',
        'error of logits': f'{r["logit_error"]:.2%}',
      }
      for r in results
    ]
  )


def _logits(
  model: Predictor,
  prompts: Sequence[Request],
  answers: Sequence[Sequence[int]],
) -> list[np.ndarray]:
  """Each answer's logits [U, V], computed in batches of one shape."""
  size = model.config.vit.image_size
  length = bucket(max(len(p.tokens) for p in prompts), 16)
  count = max(len(p.images) for p in prompts)
  longest = max(map(len, answers))
  result = []
  for first in range(0, len(prompts), 8):
    rows = range(first, min(first + 8, len(prompts)))
    batch = {
      'encoder_input_tokens': np.zeros((8, length), np.int32),
      'encoder_images': np.zeros((8, count, size, size, 3), np.uint8),
      'decoder_input_tokens': np.zeros((8, longest), np.int32),
    }
    for place, i in enumerate(rows):
      tokens, answer = prompts[i].tokens, answers[i]
      batch['encoder_input_tokens'][place, : len(tokens)] = tokens
      for j, image in enumerate(prompts[i].images):
        batch['encoder_images'][place, j] = image
      batch['decoder_input_tokens'][place, 1 : len(answer)] = answer[:-1]
    found = np.asarray(model.logits(jax.tree.map(jax.numpy.asarray, batch)))
    result += [found[k, : len(answers[i])] for k, i in enumerate(rows)]
  return result


def _same_tokens(a: Sequence[Sequence[int]], b: Sequence[Sequence[int]]):
  same = [
    x == y
    for p, q in zip(a, b, strict=True)
    for x, y in zip(p, q, strict=False)
  ]
  return sum(same) / max(sum(map(len, a)), 1)


def _error(want: Sequence[np.ndarray], got: Sequence[np.ndarray]) -> float:
  difference = [np.square(a - b).sum() for a, b in zip(want, got, strict=True)]
  whole = [np.square(a).sum() for a in want]
  return float(np.sqrt(np.sum(difference) / np.sum(whole)))

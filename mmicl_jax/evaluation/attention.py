"""How much of an answer's attention each demonstration and each image gets.

The shares are those of the decoder's cross-attention: means over layers, heads
and the answer's tokens. Over a picture they lie where the Q-Former read the
visual tokens. This is attention, not an explanation: a share says where the
decoder read, and attribution.py what would have changed.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mmicl_jax.context.text import IMAGE, collapse, divided
from mmicl_jax.context.turns import Example, Turn, assemble
from mmicl_jax.errors import UserError
from mmicl_jax.evaluation.attribution import request_maker
from mmicl_jax.inference.attention import Attended, answer_attention
from mmicl_jax.inference.predictor import Predictor

# What is told of each prompt and its answer.
Attend = Callable[[Sequence[Example], Sequence[str]], list[dict[str, Any]]]


def prompt_attention(predictor: Predictor) -> Attend:
  """How a model attends to prompts, which must fit, for given answers."""
  encode, config = predictor.tokenizer.encode, predictor.config
  request_of = request_maker(predictor)

  def attend(
    examples: Sequence[Example], answers: Sequence[str]
  ) -> list[dict[str, Any]]:
    requests = [request_of(example) for example in examples]
    found = answer_attention(
      predictor.engine,
      [request for request in requests if request is not None],
      [encode(answer) for answer in answers],
    )
    return [
      shares_told(one, turn_ends(example, encode, config.qformer.num_queries))
      for one, example in zip(found, examples, strict=True)
    ]

  return attend


def turn_ends(
  example: Example, encode: Callable[[str], list[int]], queries: int
) -> list[int]:
  """The number of tokens up to the end of each turn.

  Words are tokens of their own, so the tokens of a prompt's beginning are the
  beginning of its tokens.
  """
  return [
    len(encode(text.replace(IMAGE, IMAGE * queries)))
    for text in _beginnings(example)
  ]


def _beginnings(example: Example) -> list[str]:
  """The prompt up to the end of each turn, with one 图 for each image.

  Only where it is not known what turns a prompt was made of does its text say
  so: a turn may have empty lines, too.
  """
  style, whole = example.style, collapse(example.inputs)
  if not example.turns:
    between = '\n' if style == 'chat' else '\n\n'
    texts = divided(whole, style)
    return [between.join(texts[:i]) for i in range(1, len(texts) + 1)]
  empty = Turn('')
  query = assemble(empty, style=style).inputs
  shots = [
    assemble(empty, example.turns[:i], style=style).inputs
    for i in range(1, len(example.turns))
  ]
  return [*(text.removesuffix(query).rstrip() for text in shots), whole]


def shares_told(one: Attended, ends: Sequence[int]) -> dict[str, Any]:
  """What is told of an answer's tokens, or of one of them.

  ends: as turn_ends counts them. demonstrations and query are shares of the
  prompt, and sum to 1. images: shares of the visual tokens, which are parts of
  these. class_tokens and patches, by rows, divide an image's share by what the
  Q-Former read.
  """
  # The end token belongs to the query.
  parts = np.split(one.prompt, ends[:-1])
  shares = [float(part.sum()) for part in parts]
  side = math.isqrt(one.images.shape[1] - 1)
  if not np.isfinite(one.prompt).all():
    raise UserError('an attention is not a number: check the weights.')
  return {
    'demonstrations': list(map(_short, shares[:-1])),
    'query': _short(shares[-1]),
    'images': [_short(x) for x in one.images.sum(1)],
    'class_tokens': [_short(x) for x in one.images[:, 0]],
    'patches': [
      [[_short(x) for x in row] for row in image.reshape(side, side)]
      for image in one.images[:, 1:]
    ],
  }


def _short(x: float | np.floating) -> float:
  """With five digits: a record may have thousands of them."""
  return float(f'{x:.5g}')


def attention_summary(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """Means over records of the shares of demonstrations, query and images.

  agreement: in how many records the demonstration with the largest share is the
  one that carried most; None if there is no record with several. by_chance: as
  many as a draw would find.
  """
  found = [line['attention'] for line in lines]
  several = [
    line
    for line in lines
    if len(line['carried']) > 1 and None not in line['carried']
  ]
  agreement = by_chance = None
  if several:
    agreement = float(
      np.mean(
        [
          np.argmax(line['attention']['demonstrations'])
          == np.argmax(line['carried'])
          for line in several
        ]
      )
    )
    by_chance = float(np.mean([1 / len(line['carried']) for line in several]))
  return {
    'demonstrations': float(np.mean([sum(x['demonstrations']) for x in found])),
    'query': float(np.mean([x['query'] for x in found])),
    'images': float(np.mean([sum(x['images']) for x in found])),
    'agreement': agreement,
    'by_chance': by_chance,
  }

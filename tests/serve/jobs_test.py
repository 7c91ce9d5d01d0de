"""Jobs that cannot be are refused where they are made."""

import numpy as np
import pytest

from mmicl_jax.decoding.options import Options
from mmicl_jax.errors import UserError
from mmicl_jax.inference.prompts import Request
from mmicl_jax.serve.jobs import AnswerJob, AttentionJob, RankJob

PROMPT = Request(np.array([5, 1], np.int32))
SAMPLES = Options(do_sample=True)
BEAMS = Options(num_beams=3, num_return_sequences=2)


@pytest.mark.parametrize(
  ('options', 'changes', 'message'),
  [
    (Options(stop='x'), {}, 'stop is not for the engine'),
    (Options(), {'top_logprobs': 21}, 'top_logprobs is 21'),
    (Options(), {'rows': ()}, 'rows is'),
    (SAMPLES, {'rows': (0, 2**32)}, 'rows is'),
    (Options(), {'rows': (1, 2)}, 'without sampling'),
    (BEAMS, {'rows': (1, 2)}, 'without sampling'),
    (BEAMS, {'top_logprobs': 1}, 'top_logprobs cannot'),
    (
      Options(do_sample=True, num_return_sequences=2),
      {},
      'num_return_sequences is for beams',
    ),
  ],
)
def test_values_that_do_not_fit_together(options, changes, message):
  with pytest.raises(UserError, match=message):
    AnswerJob(PROMPT, options, **changes)


def test_how_many_answers_come_back():
  assert AnswerJob(PROMPT, Options()).choices == 1
  assert AnswerJob(PROMPT, SAMPLES, (4, 4, 9), 20).choices == 3
  assert AnswerJob(PROMPT, BEAMS).choices == 2


def test_candidates_have_tokens():
  assert RankJob(PROMPT, ((1,),)).candidates == ((1,),)
  for candidates in ((), ((1,), ())):
    with pytest.raises(UserError, match='candidates'):
      RankJob(PROMPT, candidates)


def test_an_answer_that_looks_has_tokens():
  with pytest.raises(UserError, match='at least one token'):
    AttentionJob(PROMPT, ())

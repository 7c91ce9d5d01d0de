"""/v1/attention tells what `mmicl explain --attention` does, by token."""

import numpy as np
import pytest
from served_model import assistant, image, picture, user, words

from mmicl_jax.context.turns import Turn, assemble
from mmicl_jax.evaluation.attention import prompt_attention

pytestmark = pytest.mark.slow  # two programs of its own

MESSAGES = [
  *(user(image(2), words('what is it?')), assistant('a dog')),
  user(image(3), words('is it red?')),
]
EXAMPLE = assemble(
  Turn('image {0} is {image}.\nis it red?', [picture(3)]),
  [Turn('image {0} is {image}.\nwhat is it?', [picture(2)], 'a dog')],
)


def test_shares_are_those_of_the_predictor(served):
  body = {'messages': MESSAGES, 'answer': 'a cat'}
  status, _, found = served.post('/v1/attention', body)
  assert status == 200, found
  [expected] = prompt_attention(served.predictor)([EXAMPLE], ['a cat'])
  for name, value in expected.items():
    np.testing.assert_allclose(found['mean'][name], value, atol=2e-5)
  tokens = found['tokens']
  assert ''.join(token['token'] for token in tokens) == 'a cat'
  assert found['answer'] == 'a cat' and len(tokens) > 1
  for one in tokens:
    assert sum(one['demonstrations']) + one['query'] == pytest.approx(
      1, abs=1e-4
    )
    for share, rest, patches in zip(
      one['images'], one['class_tokens'], one['patches'], strict=True
    ):
      assert rest + np.sum(patches) == pytest.approx(share, abs=1e-4)
  mean = np.mean([one['patches'] for one in tokens], axis=0)
  np.testing.assert_allclose(mean, found['mean']['patches'], atol=2e-5)
  assert np.ptp([one['query'] for one in tokens]) > 1e-4  # they differ
  assert found['usage']['completion_tokens'] == len(tokens)
  assert found['mmicl']['images'] == 2


@pytest.mark.parametrize(
  ('answer', 'words'),
  [(None, 'absent'), ('', 'a text of 1 to'), ('no ' * 9, 'the server takes 8')],
)
def test_an_answer_is_wanted_that_fits(served, answer, words):
  body = {'messages': MESSAGES, 'answer': answer}
  status, _, found = served.post('/v1/attention', body)
  assert status == 400 and words in found['error']['message']

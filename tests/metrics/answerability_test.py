"""VizWiz's unanswerable questions: as scikit-learn ranks them."""

import random

import pytest
from sklearn.metrics import average_precision_score, f1_score

from mmicl_jax.metrics.scorer import Annotations
from mmicl_jax.metrics.vizwiz import SCORERS

ANSWERABILITY = SCORERS[1]


@pytest.mark.parametrize('seed', range(20))
def test_average_precision_and_f1(seed):
  """With many ties."""
  rng = random.Random(seed)
  answerable = {f'{i}.jpg': rng.random() < 0.6 for i in range(30)}
  answerable |= {'a.jpg': False, 'b.jpg': True}
  scores = {name: [rng.randrange(9) / 8] for name in answerable}
  annotations = Annotations(list(answerable), answerable)
  scored = ANSWERABILITY.score(annotations, scores, 'official')
  wanted = [not value for value in answerable.values()]
  ranked = [1 - value for [value] in scores.values()]
  ap = 100 * average_precision_score(wanted, ranked)
  assert scored.metrics['average_precision'] == pytest.approx(ap, abs=1e-9)
  f1 = 100 * f1_score(wanted, [value > 0.5 for value in ranked])
  assert scored.metrics['f1'] == pytest.approx(f1, abs=1e-9)
  shares = sum(item['score'] for item in scored.per_item) / sum(wanted)
  assert 100 * shares == pytest.approx(ap) and not scored.notes


def test_what_is_undefined_is_0_and_said():
  annotations = Annotations(['a.jpg'], {'a.jpg': True})
  scored = ANSWERABILITY.score(annotations, {'a.jpg': [3.0]}, 'official')
  assert scored.metrics == {'average_precision': 0, 'f1': 0}
  assert len(scored.notes) == 2

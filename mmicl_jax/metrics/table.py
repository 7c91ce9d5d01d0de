"""All benchmarks that can be scored, by name; each is loaded when asked for."""

import importlib

from mmicl_jax.errors import UserError
from mmicl_jax.metrics.scorer import Scorer

# The module of each benchmark; its SCORERS holds the benchmark.
MODULES = {
  'mme': 'mmicl_jax.metrics.mme',
}


def scorer_of(name: str) -> Scorer:
  """The scorer of a benchmark; raises UserError for an unknown name."""
  if name not in MODULES:
    raise UserError(
      f'--benchmark {name} is unknown: use one of {", ".join(MODULES)}'
    )
  scorers = importlib.import_module(MODULES[name]).SCORERS
  return next(scorer for scorer in scorers if scorer.name == name)

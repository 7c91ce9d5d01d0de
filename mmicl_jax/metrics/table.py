"""All benchmarks that can be scored, by name; each is loaded when asked for."""

import importlib

from mmicl_jax.errors import UserError
from mmicl_jax.metrics.scorer import Scorer

# The module of each benchmark; its SCORERS holds the benchmark.
MODULES = {
  'coco_caption': 'mmicl_jax.metrics.captions',
  'flickr30k': 'mmicl_jax.metrics.captions',
  'mic': 'mmicl_jax.metrics.mic',
  'mme': 'mmicl_jax.metrics.mme',
  'pope': 'mmicl_jax.metrics.pope',
  'vqav2': 'mmicl_jax.metrics.vqa',
  'okvqa': 'mmicl_jax.metrics.vqa',
  'textvqa': 'mmicl_jax.metrics.text_vqa',
  'stvqa': 'mmicl_jax.metrics.text_vqa',
  'vizwiz': 'mmicl_jax.metrics.vizwiz',
  'vizwiz_answerability': 'mmicl_jax.metrics.vizwiz',
  'aokvqa_mc': 'mmicl_jax.metrics.aokvqa',
  'aokvqa_da': 'mmicl_jax.metrics.aokvqa',
  'websrc': 'mmicl_jax.metrics.websrc',
  'vl_icl': 'mmicl_jax.metrics.vl_icl',
  'nocaps': 'mmicl_jax.metrics.captions',
}


def scorer_of(name: str) -> Scorer:
  """The scorer of a benchmark; raises UserError for an unknown name."""
  if name not in MODULES:
    raise UserError(
      f'--benchmark {name} is unknown: use one of {", ".join(MODULES)}'
    )
  scorers = importlib.import_module(MODULES[name]).SCORERS
  return next(scorer for scorer in scorers if scorer.name == name)

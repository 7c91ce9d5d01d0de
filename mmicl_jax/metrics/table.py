"""All benchmarks that can be scored, by name; each is loaded when asked for."""

import importlib

from mmicl_jax.errors import UserError
from mmicl_jax.metrics.scorer import Scorer

# The module of each benchmark; its SCORERS holds the benchmark.
MODULES = {
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
  'gqa': 'mmicl_jax.metrics.gqa',
  'mmbench': 'mmicl_jax.metrics.mmbench',
  'winoground': 'mmicl_jax.metrics.winoground',
  'raven': 'mmicl_jax.metrics.raven',
  'scienceqa': 'mmicl_jax.metrics.scienceqa',
  'iconqa': 'mmicl_jax.metrics.iconqa',
  'nlvr2': 'mmicl_jax.metrics.nlvr2',
  'vsr': 'mmicl_jax.metrics.vsr',
  'hateful_memes': 'mmicl_jax.metrics.hateful_memes',
  'msvd_qa': 'mmicl_jax.metrics.video_qa',
  'msrvtt_qa': 'mmicl_jax.metrics.video_qa',
  'ivqa': 'mmicl_jax.metrics.video_qa',
  'nextqa_mc': 'mmicl_jax.metrics.nextqa_mc',
  'nextqa_oe': 'mmicl_jax.metrics.nextqa_oe',
  'visdial': 'mmicl_jax.metrics.visdial',
  'websrc': 'mmicl_jax.metrics.websrc',
  'bongard_hoi': 'mmicl_jax.metrics.bongard_hoi',
  'miniimagenet': 'mmicl_jax.metrics.miniimagenet',
  'vl_icl': 'mmicl_jax.metrics.vl_icl',
  'coco_caption': 'mmicl_jax.metrics.captions',
  'nocaps': 'mmicl_jax.metrics.captions',
  'flickr30k': 'mmicl_jax.metrics.captions',
  'mic': 'mmicl_jax.metrics.mic',
}


def scorer_of(name: str) -> Scorer:
  """The scorer of a benchmark; raises UserError for an unknown name."""
  if name not in MODULES:
    raise UserError(
      f'--benchmark {name} is unknown: use one of {", ".join(MODULES)}'
    )
  scorers = importlib.import_module(MODULES[name]).SCORERS
  return next(scorer for scorer in scorers if scorer.name == name)

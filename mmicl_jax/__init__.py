"""MMICL in JAX: a model of prompts that interleave text and many images.

Names are imported when they are first used, so that `import mmicl_jax` is fast
and loads neither TensorFlow nor T5X nor PyTorch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from mmicl_jax.context.turns import Example, Turn, assemble
  from mmicl_jax.decoding.options import Options
  from mmicl_jax.errors import UserError
  from mmicl_jax.inference.load import load
  from mmicl_jax.inference.predictor import Answer, Predictor
  from mmicl_jax.models.configs import MMICLConfig
  from mmicl_jax.models.mmicl import MMICL
  from mmicl_jax.tokenizer import Tokenizer

_HOMES = {
  'Answer': 'inference.predictor',
  'Example': 'context.turns',
  'MMICL': 'models.mmicl',
  'MMICLConfig': 'models.configs',
  'Options': 'decoding.options',
  'Predictor': 'inference.predictor',
  'Tokenizer': 'tokenizer',
  'Turn': 'context.turns',
  'UserError': 'errors',
  'assemble': 'context.turns',
  'load': 'inference.load',
}

__all__ = [
  'MMICL',
  'Answer',
  'Example',
  'MMICLConfig',
  'Options',
  'Predictor',
  'Tokenizer',
  'Turn',
  'UserError',
  'assemble',
  'load',
]


def __getattr__(name: str) -> Any:
  if name not in _HOMES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return getattr(importlib.import_module(f'{__name__}.{_HOMES[name]}'), name)


def __dir__() -> list[str]:
  return sorted([*globals(), *_HOMES])

"""MMICL in JAX: prompts in which any number of images and text interleave.

Names are imported when they are first used, so that `import mmicl_jax` is
fast and loads neither TensorFlow nor T5X nor PyTorch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from mmicl_jax.context import Example, Turn, assemble
  from mmicl_jax.errors import UserError
  from mmicl_jax.load_model import load
  from mmicl_jax.models.configs import MMICLConfig
  from mmicl_jax.models.mmicl import MMICL
  from mmicl_jax.options import Options
  from mmicl_jax.predictor import Answer, Predictor
  from mmicl_jax.tokenizer import Tokenizer

_HOMES = {
  'Answer': 'predictor',
  'Example': 'context',
  'MMICL': 'models.mmicl',
  'MMICLConfig': 'models.configs',
  'Options': 'options',
  'Predictor': 'predictor',
  'Tokenizer': 'tokenizer',
  'Turn': 'context',
  'UserError': 'errors',
  'assemble': 'context',
  'load': 'load_model',
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

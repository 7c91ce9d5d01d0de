"""Checks what gin bound against the annotations of the functions it is for.

gin accepts any value, so a text instead of a number would end a run with a
traceback, perhaps after its first steps.
"""

import collections.abc
import math
import os
import types
import typing
from typing import Any

from gin import config as gin_config

from mmicl_jax.errors import UserError

_PACKAGE = f'{__name__.partition(".")[0]}.'
_WORDS: dict[Any, str] = {
  int: 'a whole number',
  float: 'a finite number',
  str: "text ('...')",
  bool: 'True or False',
  types.NoneType: 'None',
}


def check_types() -> None:
  """Raises UserError for a value that is not of its parameter's type.

  It checks only functions of this package and literal values; what a reference
  (@name()) gives is known only when it is called.
  """
  for (scope, selector), values in gin_config._CONFIG.items():
    configurable: Any = gin_config._REGISTRY.get_match(selector)
    function = getattr(configurable, 'wrapped', None)
    if not getattr(function, '__module__', '').startswith(_PACKAGE):
      continue
    hints = typing.get_type_hints(
      getattr(function, '__init__', function)
      if isinstance(function, type)
      else function
    )
    place = '/'.join(filter(None, (scope, selector.split(_PACKAGE)[-1])))
    for name, bound in values.items():
      named, value = _value(f'{place}.{name}', bound)
      if name in hints and not _fits(value, hints[name]):
        raise UserError(f'{named} is {value!r}: give {_described(hints[name])}')


def _value(name: str, bound: Any) -> tuple[str, Any]:
  """Follows a chain of macros; returns (name of the last one, its value).

  Raises UserError for a macro that refers to itself.
  """
  seen = []
  while (macro := _macro(bound)) is not None:
    if macro in seen:
      raise UserError(f'{macro} refers to itself: give it a value')
    seen.append(macro)
    found = gin_config._CONFIG.get((macro, 'gin.macro'))
    if found is None:  # gin raises the error when it resolves the macro
      break
    name, bound = macro, found['value']
  return name, bound


def _macro(bound: Any) -> str | None:
  if not isinstance(bound, gin_config.ConfigurableReference):
    return None
  name, _, selector = bound.scoped_selector.rpartition('/')
  return name if selector in ('macro', 'gin.macro') else None


def _fits(value: Any, hint: Any) -> bool:
  if hint is Any or isinstance(value, gin_config.ConfigurableReference):
    return True
  origin, arguments = typing.get_origin(hint), typing.get_args(hint)
  if origin in (typing.Union, types.UnionType):
    return any(_fits(value, one) for one in arguments)
  if origin is collections.abc.Sequence:
    return isinstance(value, list | tuple) and all(
      _fits(_value('', item)[1], arguments[0]) for item in value
    )
  if hint in (int, float):
    return (
      isinstance(value, int if hint is int else (int, float))
      and not isinstance(value, bool)
      and math.isfinite(value)
    )
  if origin is collections.abc.Callable:
    return callable(value)
  return isinstance(value, _origin(hint))


def _described(hint: Any) -> str:
  origin, arguments = typing.get_origin(hint), typing.get_args(hint)
  if origin in (typing.Union, types.UnionType):
    # A gin file cannot hold path objects, only text.
    shown = [one for one in arguments if _origin(one) is not os.PathLike]
    return ' or '.join(map(_described, shown))
  if origin is collections.abc.Sequence:
    return f'a tuple of {_described(arguments[0])}'
  if hint in _WORDS:
    return _WORDS[hint]
  return f'a reference (@...) to a {_origin(hint).__name__}'


def _origin(hint: Any) -> Any:
  return typing.get_origin(hint) or hint

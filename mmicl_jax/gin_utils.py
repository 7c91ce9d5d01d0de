"""Reading gin files: where they are sought, and what is wrong with them."""

import difflib
import importlib.util  # gin reads importlib.util without importing it
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gin

from mmicl_jax.errors import UserError

ROOT = Path(__file__).resolve().parent.parent


def parse(files: Sequence[str], bindings: Sequence[str] = ()) -> None:
  """Parses gin files, then bindings (NAME=VALUE), which win.

  Files are sought in the working directory, the repository and its
  gin_configs. Raises UserError for a missing file, a name that no file knows,
  a value that is no gin value or one that is still required, before anything
  else happens.
  """
  assert importlib.util
  gin.clear_config()
  for place in (ROOT, ROOT / 'gin_configs'):
    gin.add_config_file_search_path(str(place))
  for name in files:
    _parse(gin.parse_config_file, name, f'the gin file {name}')
  known = set(macros())
  for binding in bindings:
    name, equals, value = (part.strip() for part in binding.partition('='))
    if not equals or not value:
      raise UserError(f'--gin.{binding} has no value: write --gin.NAME=VALUE')
    if '.' not in name and name not in known:
      close = difflib.get_close_matches(name, known, 1)
      hint = f'did you mean {close[0]}?' if close else f'known: {sorted(known)}'
      raise UserError(f'no gin file has the name {name} ({hint})')
    _parse(gin.parse_config, f'{name} = {value}', f'--gin.{binding}')
  missing = [name for name, value in macros().items() if _required(value)]
  if missing:
    raise UserError(
      f'{", ".join(missing)} must be given: add --gin.{missing[0]}=VALUE '
      '(text in quotes of its own: --gin.NAME="\'text\'")'
    )
  gin.finalize()


def call(function: Callable[..., Any], **arguments: Any) -> Any:
  """Calls a function with what gin bound to its other parameters."""
  try:
    return gin.get_configurable(function)(**arguments)
  except (RuntimeError, TypeError) as error:
    if 'Required bindings' not in str(error):
      raise
    raise UserError(
      f'settings are missing: {" ".join(str(error).split())}; is a gin file '
      'of the run, stage, model or mesh absent from the command line?'
    ) from error


def macros() -> dict[str, Any]:
  """The names in capitals that the files parsed so far have set."""
  return {
    scope: values.get('value')
    for (scope, selector), values in gin.config._CONFIG.items()
    if selector == 'gin.macro'
  }


def _required(value: Any) -> bool:
  return value is gin.REQUIRED or 'gin.REQUIRED' in repr(value)


def _parse(parser: Callable[[str], Any], argument: str, what: str) -> None:
  try:
    parser(argument)
  except OSError as error:
    raise UserError(
      f'{what} was not found, neither here nor in {ROOT} or its gin_configs'
    ) from error
  except Exception as error:  # gin passes on what importing and parsing raise
    text = ' '.join(str(error).split())
    hint = ''
    if isinstance(error, SyntaxError):
      hint = ' (text needs quotes of its own: NAME="\'text\'")'
    raise UserError(f'{what} cannot be used: {text}{hint}') from error

"""Reading gin files: where they are sought, and what is wrong with them."""

import contextlib
import difflib
import functools
import importlib.util  # gin reads importlib.util without importing it
import inspect
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gin
from gin import config as gin_config

from mmicl_jax.configure.gin_types import check_types
from mmicl_jax.errors import UserError

PACKAGE = Path(__file__).resolve().parents[1]
# A clone has gin_configs at its top, an installed package inside itself.
PLACES = [
  place
  for root in (PACKAGE.parent, PACKAGE)
  for place in (root, root / 'gin_configs')
]


def parse_gin(files: Sequence[str], bindings: Sequence[str] = ()) -> None:
  """Parses gin files, then bindings (NAME=VALUE), which win.

  Files are sought in the working directory, then among those that come with
  the package. Raises UserError for a missing file, two stages, a name that no
  file knows, a value that is no gin value or of another type than is read, or
  one that is still required, before anything else happens.
  """
  assert importlib.util
  gin.clear_config()
  # gin would also take `gin_configs/a.gin` for data of a Python package, and
  # fails where a directory on sys.path is a package without __init__.py.
  gin_config._FILE_READERS[:] = [(open, os.path.isfile)]
  for place in PLACES:
    gin.add_config_file_search_path(str(place))
  check_files(files)
  for name in files:
    _parse(gin.parse_config_file, _found(name), f'the gin file {name}')
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
  check_names()
  check_required()
  check_types()
  try:
    gin.finalize()
  except ValueError as error:
    raise gin_explained(error) from error


@contextlib.contextmanager
def apart() -> Iterator[None]:
  """A gin configuration of its own; the one before is back at the end.

  For code that parses gin files where a run under gin may be under way.
  """
  saved = [
    (table, table.copy())
    for table in (
      gin_config._CONFIG,
      gin_config._OPERATIVE_CONFIG,
      gin_config._SINGLETONS,
      gin_config._IMPORTS,
    )
  ]
  lists: list[tuple[list[Any], list[Any]]] = [
    (places, places.copy())
    for places in (gin_config._FILE_READERS, gin_config._LOCATION_PREFIXES)
  ]
  locked = gin_config._CONFIG_IS_LOCKED
  try:
    yield
  finally:
    for table, before in saved:
      table.clear()
      table.update(before)
    for places, before in lists:
      places[:] = before
    gin_config._set_config_is_locked(locked)


def check_files(files: Sequence[str]) -> None:
  """Raises UserError for two models, two stages or two meshes."""
  seen: dict[str, str] = {}
  for name in files:
    kind = re.search(r'(?:^|gin_configs/)(models|stages|meshes)/', str(name))
    if kind is None:
      continue
    first = seen.setdefault(kind[1], str(name))
    if first != str(name):
      raise UserError(
        f'{first} and {name} are both of {kind[1]}/: a run has one of them, so '
        'drop the other'
      )


def check_names() -> None:
  """Raises UserError for a name that was set, but that nothing reads."""
  texts = ' '.join(repr(values) for values in gin_config._CONFIG.values())
  known = set(re.findall(r'%([\w./]+)', texts)) | _shipped_names()
  for name in sorted(set(macros()) - known):
    close = difflib.get_close_matches(name, known, 1)
    hint = f' (did you mean {close[0]}?)' if close else ''
    raise UserError(f'nothing reads the name {name}{hint}: correct or drop it')


def check_required() -> None:
  """Raises UserError for names that must still be given."""
  missing = [name for name, value in macros().items() if _required(value)]
  if missing:
    raise UserError(_must_be_given(missing))


def _must_be_given(names: Sequence[str]) -> str:
  return (
    f'{", ".join(names)} must be given: add --gin.{names[0]}=VALUE '
    '(text in quotes of its own: --gin.NAME="\'text\'")'
  )


def gin_explained(error: Exception) -> UserError:
  """gin's own error as a sentence, with the file and line that it names."""
  text, _, _ = str(error).partition('\n  In call to configurable')
  text = ' '.join(text.split())
  if name := re.search(r"for '(\w+)/gin\.macro'", text):
    return UserError(
      f'{name[1]} has no value: a gin file of the model, the stage or the mesh '
      f'is absent, or add --gin.{name[1]}=VALUE'
    )
  if name := re.match(r'(\w+)/gin\.macro\.value set to', text):
    return UserError(_must_be_given([name[1]]))
  absent = re.match(r'Unable to open file: (.*)\. Searched .*?\]\.(.*)', text)
  if absent:
    return UserError(
      f'the gin file {absent[1]} was not found: correct its path, or start '
      f'where the path begins.{absent[2]}'
    )
  return UserError(text + _hint(error, text))


def _hint(error: Exception, text: str) -> str:
  if isinstance(error, SyntaxError):
    return ' (text needs quotes of its own: NAME="\'text\'")'
  return _near(text)


def _near(text: str) -> str:
  """What a function or parameter that gin does not know was meant to be."""
  registry = gin_config._REGISTRY
  if found := re.search(r"'([\w.]+)' doesn't have a .* '(\w+)'", text):
    wrong = found[2]
    configurable: Any = registry.get_match(found[1])
    known = set(inspect.signature(configurable.wrapped).parameters)
  elif found := re.search(r"No configurable matching '([\w.]+)'", text):
    wrong = found[1]
    parts = wrong.count('.') + 1
    known = {'.'.join(n.split('.')[-parts:]) for n, _ in registry.items()}
  else:
    return ''
  close = difflib.get_close_matches(wrong, known, 1)
  return f' (did you mean {close[0]}?)' if close else ''


@functools.cache
def _shipped_names() -> set[str]:
  """What the files of gin_configs set: a run need not read all of them."""
  files = {path for place in PLACES[1::2] for path in place.rglob('*.gin')}
  texts = [path.read_text(encoding='utf-8') for path in files]
  return set(re.findall(r'^(\w+) *=', '\n'.join(texts), re.MULTILINE))


def call_configured(function: Callable[..., Any], **arguments: Any) -> Any:
  """Calls a function with what gin bound to its other parameters."""
  try:
    return gin.get_configurable(function)(**arguments)
  except (UserError, OSError) as error:
    # gin appends in which configurable it was: of no use to who runs it.
    sentence = str(error).split('\n  In call to configurable')[0]
    raise UserError(sentence) from error


def _found(name: str) -> str:
  # gin would first take `models/a.gin` for data of a Python package `models`.
  for path in (Path(name), *(place / name for place in PLACES)):
    if path.is_file():
      return str(path.absolute())
  raise UserError(
    f'the gin file {name} was not found, neither here nor in gin_configs'
  )


def macros() -> dict[str, Any]:
  """The names in capitals that the files parsed so far have set."""
  return {
    scope: values.get('value')
    for (scope, selector), values in gin_config._CONFIG.items()
    if selector == 'gin.macro'
  }


def _required(value: Any) -> bool:
  return value is gin.REQUIRED or 'gin.REQUIRED' in repr(value)


def _parse(parser: Callable[[str], Any], argument: str, what: str) -> None:
  # gin logs an error for every place where a file is not.
  disabled = logging.root.manager.disable
  logging.disable(logging.ERROR)
  try:
    parser(argument)
  except Exception as error:  # gin passes on what importing and parsing raise
    raise UserError(f'{what} cannot be used: {gin_explained(error)}') from error
  finally:
    logging.disable(disabled)

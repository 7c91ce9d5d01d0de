"""Reads gin files: where it looks for them, and what can be wrong in them."""

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
from typing import IO, Any

import gin
from gin import config as gin_config

from mmicl_jax.configure.gin_types import check_types
from mmicl_jax.errors import UserError
from mmicl_jax.runtime import remote
from mmicl_jax.runtime.mirror import local_file

PACKAGE = Path(__file__).resolve().parents[1]
# gin_configs is beside the package in a clone, and inside a wheel.
PLACES = [
  place
  for root in (PACKAGE.parent, PACKAGE)
  for place in (root, root / 'gin_configs')
]


def parse_gin(files: Sequence[str], bindings: Sequence[str] = ()) -> None:
  """Parses gin files, then bindings (NAME=VALUE), which win.

  It looks for files in the working directory, then among those that come with
  the package. Raises UserError, before anything else happens, for a missing
  file, two stages, a name that no file knows, a value that gin cannot read or
  that has the wrong type, and for a value that is required but not given.
  """
  assert importlib.util
  gin.clear_config()
  # Only these readers: gin's other one takes `gin_configs/a.gin` for a file of
  # a Python package, and fails for packages without __init__.py.
  gin_config._FILE_READERS[:] = [(open, os.path.isfile), (_open, _is_remote)]
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
  """Runs a block with its own gin configuration, then restores the former.

  For code that parses gin files while a run under gin may be going on.
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
  """Raises UserError for a name that was set but that nothing reads."""
  texts = ' '.join(repr(values) for values in gin_config._CONFIG.values())
  known = set(re.findall(r'%([\w./]+)', texts)) | _shipped_names()
  for name in sorted(set(macros()) - known):
    close = difflib.get_close_matches(name, known, 1)
    hint = f' (did you mean {close[0]}?)' if close else ''
    raise UserError(f'nothing reads the name {name}{hint}: correct or drop it')


def check_required() -> None:
  """Raises UserError if a value is required but not given."""
  missing = [name for name, value in macros().items() if _required(value)]
  if missing:
    raise UserError(_must_be_given(missing))


def _must_be_given(names: Sequence[str]) -> str:
  return (
    f'{", ".join(names)} must be given: add --gin.{names[0]}=VALUE '
    '(text in quotes of its own: --gin.NAME="\'text\'")'
  )


def gin_explained(error: Exception) -> UserError:
  """gin's error as a UserError of one sentence, with gin's file and line."""
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
  """A hint at the name that was meant by one that gin does not know, or ''."""
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
  """The names that files of gin_configs set; a run need not read them all."""
  files = {path for place in PLACES[1::2] for path in place.rglob('*.gin')}
  texts = [path.read_text(encoding='utf-8') for path in files]
  return set(re.findall(r'^(\w+) *=', '\n'.join(texts), re.MULTILINE))


def call_configured(function: Callable[..., Any], **arguments: Any) -> Any:
  """Calls a function with `arguments` and what gin bound to its parameters.

  Raises UserError for a UserError or an OSError, without what gin adds to it.
  """
  try:
    return gin.get_configurable(function)(**arguments)
  except (UserError, OSError) as error:
    # gin appends the name of the configurable, which is of no use to users.
    sentence = str(error).split('\n  In call to configurable')[0]
    raise UserError(sentence) from error


def _is_remote(path: str) -> bool:
  """Whether a path is that of an existing remote file."""
  return remote.is_remote(path) and remote.is_file(path)


def _open(path: str) -> IO[str]:
  """Opens a local copy of a remote gin file."""
  return open(local_file(path), encoding='utf-8')


def _found(name: str) -> str:
  if _is_remote(name):
    return remote.address(name)
  # Our own search: gin would first look in a Python package named `models` for
  # `models/a.gin`.
  for path in (Path(name), *(place / name for place in PLACES)):
    if path.is_file():
      return str(path.absolute())
  raise UserError(
    f'the gin file {name} was not found, neither here nor in gin_configs'
  )


def macros() -> dict[str, Any]:
  """The names in capitals that files have set so far, with their values."""
  return {
    scope: values.get('value')
    for (scope, selector), values in gin_config._CONFIG.items()
    if selector == 'gin.macro'
  }


def _required(value: Any) -> bool:
  return value is gin.REQUIRED or 'gin.REQUIRED' in repr(value)


def _parse(parser: Callable[[str], Any], argument: str, what: str) -> None:
  # gin logs an error for every place where it does not find the file.
  disabled = logging.root.manager.disable
  logging.disable(logging.ERROR)
  try:
    parser(argument)
  except Exception as error:  # importing and parsing may raise anything
    raise UserError(f'{what} cannot be used: {gin_explained(error)}') from error
  finally:
    logging.disable(disabled)

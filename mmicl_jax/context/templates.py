"""Templates: the forms in which a task may put its questions, as data.

`tasks/templates/NAME.json` is `{"fields": [...], "forms": [...]}`. A form is
the text of a `Turn`, with `{image}` and `{0}`, and with `{question}` and other
fields that `fill` replaces. The form of an item depends only on the seed and
the item's id, not on the order or the process that draws it.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
import re
from collections.abc import Mapping, Sequence

from mmicl_jax.context.text import escape
from mmicl_jax.errors import UserError

_PACKAGE = pathlib.Path(__file__).parents[1]
# The templates are beside the package in a checkout, and inside a wheel.
FOLDER = next(
  (
    folder / 'tasks' / 'templates'
    for folder in (_PACKAGE, _PACKAGE.parent)
    if (folder / 'tasks' / 'templates').is_dir()
  ),
  _PACKAGE / 'tasks' / 'templates',
)
# A field, and the full stop behind it.
_FIELD = re.compile(r'(?<!\{)\{([a-z_]+)\}(?!\})(\.?)')


@dataclasses.dataclass(frozen=True)
class Templates:
  """The forms of one task, and the fields that they may use."""

  name: str
  fields: tuple[str, ...]
  forms: tuple[str, ...]

  def draw(self, seed: int, item_id: str | int) -> str:
    """Draws the form of one item: the same in every run with this seed."""
    key = f'{seed}\n{self.name}\n{item_id}'.encode()
    number = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest())
    return self.forms[number % len(self.forms)]

  def text(self, seed: int, item_id: str | int, **fields: str) -> str:
    """The text of one item's Turn: its form, with its fields filled in."""
    return fill(self.draw(seed, item_id), **fields)


def load_templates(name: str | pathlib.Path) -> Templates:
  """Reads the templates of a task by name ('vqa') or of a JSON file by path.

  Raises UserError if there are none, and if the file has another form.
  """
  path = pathlib.Path(name)
  if path.suffix != '.json':
    path = FOLDER / f'{name}.json'
  if not path.is_file():
    known = ', '.join(sorted(p.stem for p in FOLDER.glob('*.json')))
    raise UserError(f'No templates {path}: use one of {known}, or a JSON path.')
  try:
    value = json.loads(path.read_text('utf-8'))
    fields, forms = tuple(value['fields']), tuple(value['forms'])
    if not forms or not all(isinstance(x, str) for x in (*fields, *forms)):
      raise TypeError
  except (ValueError, KeyError, TypeError) as error:
    raise UserError(
      f'{path}: templates are {{"fields": [names], "forms": [texts]}}.'
    ) from error
  _check_forms(str(path), fields, forms)
  return Templates(path.stem, fields, forms)


def own_templates(forms: Sequence[str], fields: Sequence[str]) -> Templates:
  """Templates of texts that a user gives. Raises UserError for other fields."""
  _check_forms('--template', fields, forms)
  return Templates('own', tuple(fields), tuple(forms))


def _check_forms(
  where: str, fields: Sequence[str], forms: Sequence[str]
) -> None:
  for i, form in enumerate(forms):
    if unknown := {name for name, _ in _FIELD.findall(form)} - {
      'image',
      *fields,
    }:
      raise UserError(
        f'{where}: form {i} uses {{{min(unknown)}}}, which is not in its '
        f'"fields" ({", ".join(fields)}).'
      )


def fill(form: str, **fields: str) -> str:
  """Replaces {question} and the like; values are shown as they are.

  A full stop after a value that ends a sentence is dropped. Raises UserError
  for a field without a value.
  """
  return fill_slots(form, **{name: escape(x) for name, x in fields.items()})


def fill_slots(form: str, **fields: str) -> str:
  """As fill, but values may hold slots of a Turn, such as {0}."""
  return _FIELD.sub(functools.partial(_value, fields), form)


def _value(fields: Mapping[str, str], match: re.Match) -> str:
  if match[1] == 'image':
    return match[0]
  if match[1] not in fields:
    name = f'{{{match[1]}}}'
    raise UserError(f'The template {match.string!r} needs a value for {name}.')
  text, stop = fields[match[1]].strip(), match[2]
  return text if stop and text.endswith(('.', '?', '!')) else text + stop
